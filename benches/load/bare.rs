//! The bare server: only tonic-health. It shows the throughput of tonic on this machine.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// The argument that makes this program the bare server.
pub(crate) const MODE: &str = "bare-health";

/// Serves until it is killed, and prints where, as the service does.
pub(crate) fn serve() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .await
            .unwrap();
        println!("listening on {}", listener.local_addr().unwrap());
        let (_reporter, health) = tonic_health::server::health_reporter();
        Server::builder()
            .add_service(health)
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
            .await
            .unwrap();
    });
}
