//! A network between the service and its database, which can fail as networks do.

use std::net::SocketAddr;

use tokio::io::{copy, copy_bidirectional, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::place::Place;

/// Passes connections on to the database server of a place.
pub(crate) struct Proxy {
    address: SocketAddr,
    target: String,
    state: watch::Sender<State>,
}

/// What the network does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// It passes everything on.
    Good,
    /// Connections from before are stopped, and not closed. New ones are good.
    Swallowing,
    /// Connections from before are closed. New ones are good.
    Dropping,
    /// All connections are closed, and new ones too.
    Cut,
}

impl Proxy {
    /// `None`: the database of the place has no server.
    pub(crate) async fn start(place: &Place) -> Option<Self> {
        let target = place.server()?;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = watch::Sender::new(State::Good);
        tokio::spawn(pass_on(listener, target.clone(), state.clone()));
        Some(Self {
            address,
            target,
            state,
        })
    }

    /// The URL of the database by this way.
    pub(crate) fn url(&self, place: &Place) -> String {
        let (url, target) = (place.url(), &self.target);
        let host = target.split(':').next().unwrap();
        if url.contains(target.as_str()) {
            url.replace(target.as_str(), &self.address.to_string())
        } else {
            url.replacen(&format!("@{host}/"), &format!("@{}/", self.address), 1)
        }
    }

    /// From now on nothing passes through the connections that there are; and none of them is closed. New ones are good.
    pub(crate) fn swallow(&self) {
        self.state.send_replace(State::Swallowing);
    }

    /// Closes the connections that there are. New ones are good.
    pub(crate) fn drop_connections(&self) {
        self.state.send_replace(State::Dropping);
    }

    /// Closes all connections, and new ones, until [`Self::mend`].
    pub(crate) fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// From now on new connections are good again.
    pub(crate) fn mend(&self) {
        self.state.send_replace(State::Good);
    }
}

async fn pass_on(listener: TcpListener, target: String, state: watch::Sender<State>) {
    loop {
        let (mut here, _) = listener.accept().await.unwrap();
        let (target, mut state) = (target.clone(), state.subscribe());
        if *state.borrow_and_update() == State::Cut {
            continue;
        }
        tokio::spawn(async move {
            // If nobody listens there, nobody does here.
            let Ok(mut there) = TcpStream::connect(target).await else {
                return;
            };
            tokio::select! {
                _ = copy_bidirectional(&mut here, &mut there) => return,
                _ = state.changed() => {}
            }
            let state = *state.borrow();
            if state == State::Swallowing {
                // Until it is closed here.
                let _ = copy(&mut here, &mut sink()).await;
            }
        });
    }
}
