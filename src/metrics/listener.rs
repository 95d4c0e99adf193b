//! HTTP/1.1 listener for metrics and probes: `GET /metrics`, `/livez` and `/readyz`.
//!
//! axum routes the requests. The connections are accepted here instead of by `axum::serve`, because its clients are not
//! authenticated and `axum::serve` has no limits: this listener limits the number of connections, the time of each, its
//! requests (one) and the size of the headers. Clients that occupy all connections block this listener only.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{Method, StatusCode, header};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

use super::Sources;

/// Maximum number of connections. More wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 32;

/// Maximum size of the headers of a request in bytes, the smallest that hyper accepts.
const MAX_HEADER_BYTES: usize = 8 * 1024;

/// Timeout of a connection.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after a connection could not be accepted, such as without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Content type of the text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether the server is ready for calls, as gRPC health reports it for `readiness`. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Sets whether the server is ready.
    pub fn set(&self, is_ready: bool) {
        self.0.store(is_ready, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves metrics and probes until the future is dropped.
pub async fn serve(listener: TcpListener, sources: Sources, readiness: Readiness) -> Infallible {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .keep_alive(false)
        .header_read_timeout(TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES);
    let router = router(sources, readiness);
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            // The semaphore is never closed.
            std::future::pending::<()>().await;
            continue;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a metrics connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (http, router) = (http.clone(), router.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| router.clone().oneshot(request));
            let connection = http.serve_connection(TokioIo::new(stream), service);
            // A client that disconnects or is too slow needs no log line.
            let _ = timeout(TIMEOUT, connection).await;
            drop(permit);
        });
    }
}

fn router(sources: Sources, readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(readiness)
        .route("/metrics", get(metrics))
        .with_state(sources)
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
}

async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, &'static str) {
    if readiness.is_ready() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn metrics(State(sources): State<Sources>) -> Response {
    // Reads files of /proc.
    match tokio::task::spawn_blocking(move || sources.text()).await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Ok(Err(_)) | Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed\n").into_response(),
    }
}

async fn method_not_allowed() -> impl IntoResponse {
    let allowed = [(header::ALLOW, "GET, HEAD")];
    (StatusCode::METHOD_NOT_ALLOWED, allowed, "only GET\n")
}

async fn not_found(method: Method) -> Response {
    if !matches!(method, Method::GET | Method::HEAD) {
        return method_not_allowed().await.into_response();
    }
    (StatusCode::NOT_FOUND, "/metrics, /livez, /readyz\n").into_response()
}
