//! `serve`: binds, starts, and serves until it is told to end.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use crate::app::App;
use crate::clock::SystemClock;
use crate::config::Settings;

pub(super) async fn serve(settings: Settings) -> Result<(), Failure> {
    let wanted = settings.listen;
    let cannot_listen = |error| Failure::Unusable(format!("cannot listen on {wanted}: {error}"));
    let listener = TcpListener::bind(wanted).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    // Before anything can be asked to end, so that an early signal is not lost.
    let cannot_start = |error| Failure::Unusable(format!("cannot start: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot_start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot_start)?;

    let app = App::build(settings, Arc::new(SystemClock)).await?;
    if wanted.port() == 0 {
        println!("listening on {address}");
    }
    tracing::info!(%address, "listening");
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    app.serve(listener, shutdown)
        .await
        .map_err(|error| Failure::Failed(error.to_string()))
}
