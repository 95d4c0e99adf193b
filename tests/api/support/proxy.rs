//! A network between the service and its database, which can fail as networks do.

use std::future::pending;
use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::place::Place;

/// Passes connections on to the database server of a place.
pub(crate) struct Proxy {
    address: SocketAddr,
    target: String,
    swallowed: watch::Sender<()>,
}

impl Proxy {
    /// `None`: the database of the place has no server.
    pub(crate) async fn start(place: &Place) -> Option<Self> {
        let target = place.server()?;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let swallowed = watch::Sender::new(());
        tokio::spawn(pass_on(listener, target.clone(), swallowed.clone()));
        Some(Self {
            address,
            target,
            swallowed,
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
        self.swallowed.send_replace(());
    }
}

async fn pass_on(listener: TcpListener, target: String, swallowed: watch::Sender<()>) {
    loop {
        let (mut here, _) = listener.accept().await.unwrap();
        let (target, mut swallowed) = (target.clone(), swallowed.subscribe());
        tokio::spawn(async move {
            let mut there = TcpStream::connect(target).await.unwrap();
            tokio::select! {
                _ = copy_bidirectional(&mut here, &mut there) => {}
                _ = swallowed.changed() => pending().await,
            }
        });
    }
}
