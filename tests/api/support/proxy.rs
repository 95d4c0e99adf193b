//! A TCP proxy between the service and its database, with the faults of a network.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{copy, copy_bidirectional, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{interval, timeout};

use super::place::Place;

/// Forwards connections to a database server.
pub(crate) struct Proxy {
    address: SocketAddr,
    target: String,
    route: watch::Sender<Route>,
}

/// The fate of existing connections when new ones get another target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OldConnections {
    /// They stay open to the old server, as behind a virtual IP address or a DNS name that moved.
    Kept,
    /// They are closed, as by a load balancer.
    Dropped,
}

/// The target of new connections, and the fault of the network.
#[derive(Clone, Debug)]
struct Route {
    state: State,
    target: String,
    /// Each connection has a clone, which shows whether it is still open.
    generation: Arc<()>,
}

/// A fault of the network.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// All connections forward.
    Good,
    /// Old connections transfer nothing and stay open. New ones work.
    Swallowing,
    /// Old connections are closed. New ones work.
    Dropping,
    /// Old connections and new ones are closed.
    Cut,
}

impl Proxy {
    /// A proxy to the database server of a place. `None`: the place has no server.
    pub(crate) async fn start(place: &Place) -> Option<Self> {
        Some(Self::to(place.server()?).await)
    }

    /// A proxy to a host and port.
    pub(crate) async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let route = watch::Sender::new(Route {
            state: State::Good,
            target: target.clone(),
            generation: Arc::new(()),
        });
        tokio::spawn(accept(listener, route.clone()));
        Self {
            address,
            target,
            route,
        }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// The URL of the database of a place through this proxy.
    pub(crate) fn url(&self, place: &Place) -> String {
        let (url, target) = (place.url(), &self.target);
        let host = target.split(':').next().unwrap();
        if url.contains(target.as_str()) {
            url.replace(target.as_str(), &self.address.to_string())
        } else {
            url.replacen(&format!("@{host}/"), &format!("@{}/", self.address), 1)
        }
    }

    /// Sends new connections to another host and port.
    pub(crate) fn lead_to(&self, target: String, old: OldConnections) {
        let state = match old {
            OldConnections::Kept => State::Good,
            OldConnections::Dropped => State::Dropping,
        };
        self.route.send_modify(|route| {
            route.state = state;
            route.target = target;
        });
    }

    /// Stops the transfer on the existing connections without closing them. New connections work.
    pub(crate) fn swallow(&self) {
        self.set(State::Swallowing);
    }

    /// Closes the existing connections. New connections work.
    pub(crate) fn drop_connections(&self) {
        self.set(State::Dropping);
    }

    /// The same, and waits until they are closed.
    pub(crate) async fn drop_and_wait(&self) {
        let mut old = Arc::new(());
        self.route.send_modify(|route| {
            route.state = State::Dropping;
            std::mem::swap(&mut route.generation, &mut old);
        });
        let mut ticks = interval(Duration::from_millis(1));
        let closing = async {
            while Arc::strong_count(&old) > 1 {
                ticks.tick().await;
            }
        };
        timeout(Duration::from_secs(10), closing).await.unwrap();
    }

    /// Closes all connections, and new ones, until [`Self::mend`] or [`Self::lead_to`].
    pub(crate) fn cut(&self) {
        self.set(State::Cut);
    }

    /// Accepts new connections again.
    pub(crate) fn mend(&self) {
        self.set(State::Good);
    }

    fn set(&self, state: State) {
        self.route.send_modify(|route| route.state = state);
    }
}

async fn accept(listener: TcpListener, route: watch::Sender<Route>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let mut changes = route.subscribe();
        let route = changes.borrow_and_update().clone();
        if route.state != State::Cut {
            tokio::spawn(forward(client, route, changes));
        }
    }
}

async fn forward(mut client: TcpStream, route: Route, mut changes: watch::Receiver<Route>) {
    // If the target refuses the connection, dropping the client refuses it here.
    let Ok(mut server) = TcpStream::connect(&route.target).await else {
        return;
    };
    {
        let mut copying = pin!(copy_bidirectional(&mut client, &mut server));
        loop {
            tokio::select! {
                _ = &mut copying => return,
                changed = changes.changed() => {
                    let state = changed.is_ok().then(|| changes.borrow_and_update().state);
                    match state {
                        Some(State::Good) => {}
                        Some(State::Swallowing) => break,
                        Some(State::Dropping | State::Cut) | None => return,
                    }
                }
            }
        }
    }
    // Until the client closes it.
    let _ = copy(&mut client, &mut sink()).await;
}
