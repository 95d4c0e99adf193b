//! `serve`: binds the listeners, starts the service, and serves until a signal.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Failure;
use super::output::write_line;
use crate::app::{self, App, StartError};
use crate::clock::SystemClock;
use crate::config::Settings;
use crate::grpc::Listeners;

pub(super) async fn serve(settings: Settings) -> Result<(), Failure> {
    settings.check_listen().map_err(StartError::from)?;
    settings.check_access().map_err(StartError::from)?;
    settings.warn_of_readable_secrets();
    let tls = app::tls(&settings)?;
    let wanted = settings.listen;
    let (calls, address) = bind(wanted).await?;
    let wanted_for_health = settings.access.health_listen;
    let (health, health_address) = match wanted_for_health {
        Some(wanted) => bind(wanted)
            .await
            .map(|(health, address)| (Some(health), Some(address)))?,
        None => (None, None),
    };
    let metrics = match settings.operations.metrics_listen {
        Some(wanted) => {
            let (listener, address) = bind(wanted).await?;
            Some((wanted, address, listener))
        }
        None => None,
    };
    // Registered before the start, so that an early signal is not lost.
    let cannot_start = |error| Failure::Unusable(format!("cannot start: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot_start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot_start)?;

    let mut app = tokio::select! {
        app = App::build(settings, Arc::new(SystemClock)) => app?,
        // The start may wait for the database. The next start completes an interrupted migration.
        () = either(&mut terminate, &mut interrupt) => {
            tracing::info!("stopped by a signal before serving");
            return Ok(());
        }
    };
    if wanted.port() == 0 {
        announce(&format!("listening on {address}"));
    }
    tracing::info!(%address, tls = tls.is_some(), "listening");
    if let Some(address) = health_address {
        if wanted_for_health.is_some_and(|wanted| wanted.port() == 0) {
            announce(&format!("listening on {address} for health"));
        }
        tracing::info!(%address, "listening for health");
    }
    if let Some((wanted, address, listener)) = metrics {
        if wanted.port() == 0 {
            announce(&format!("metrics on {address}"));
        }
        tracing::info!(%address, "listening for metrics");
        app = app.with_metrics(listener);
    }
    // The first signal stops the service, and the second one skips the delay for load balancers.
    let (first, second) = (CancellationToken::new(), CancellationToken::new());
    let (shutdown, hurry) = (first.clone().cancelled_owned(), second.clone().cancelled_owned());
    let _signals = AbortOnDropHandle::new(tokio::spawn(async move {
        for token in [first, second] {
            either(&mut terminate, &mut interrupt).await;
            token.cancel();
        }
        // Further signals have no effect, because the service is already stopping.
        std::future::pending::<()>().await;
    }));
    app.serve(Listeners { calls, tls, health }, shutdown, hurry)
        .await
        .map_err(|error| Failure::Failed(error.to_string()))
}

/// Prints an address. A closed or full standard output does not stop the service, because the log has the address, too.
fn announce(line: &str) {
    if let Err(error) = write_line(line) {
        tracing::warn!(%error, "standard output cannot be written");
    }
}

/// Waits for one of the signals.
async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

async fn bind(wanted: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let cannot_listen = |error| Failure::Unusable(format!("cannot listen on {wanted}: {error}"));
    let listener = TcpListener::bind(wanted).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    Ok((listener, address))
}
