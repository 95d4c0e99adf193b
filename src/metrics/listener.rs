//! The listener for metrics and probes: `GET /metrics`, `/livez` and `/readyz` over HTTP/1.1.
//!
//! It is for Prometheus and the kubelet, and bounded: a few connections at a time, each for one request, for a few
//! seconds, with small headers. Whoever holds all of them keeps out the others here, and nobody elsewhere.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::Sources;

/// How many connections there may be at a time. More wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 32;

/// The most bytes of the headers of a request, which is the least that hyper takes.
const MAX_HEADER_BYTES: usize = 8 * 1024;

/// How long a connection may take in all.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait when a connection could not be accepted: there are no descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The text format, as Prometheus wants it named.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

const PLAIN: &str = "text/plain; charset=utf-8";

/// Whether calls can be served, as health says it under `readiness`. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says whether they can.
    pub fn set(&self, is_ready: bool) {
        self.0.store(is_ready, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves on this listener until it is dropped.
pub async fn serve(listener: TcpListener, sources: Sources, readiness: Readiness) -> Infallible {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .keep_alive(false)
        .header_read_timeout(TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES);
    let served = Arc::new(Served { sources, readiness });
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            // It is never closed.
            std::future::pending::<()>().await;
            continue;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection for metrics could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (http, served) = (http.clone(), served.clone());
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let served = served.clone();
                async move { Ok::<_, Infallible>(served.answer(&request).await) }
            });
            let connection = http.serve_connection(TokioIo::new(stream), answer);
            // Whoever goes away or is too slow is not worth a line.
            let _ = timeout(TIMEOUT, connection).await;
            drop(place);
        });
    }
}

struct Served {
    sources: Sources,
    readiness: Readiness,
}

impl Served {
    async fn answer(&self, request: &Request<Incoming>) -> Response<String> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET\n");
        }
        match request.uri().path() {
            "/livez" => response(StatusCode::OK, PLAIN, "ok\n"),
            "/readyz" if self.readiness.is_ready() => response(StatusCode::OK, PLAIN, "ok\n"),
            "/readyz" => response(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "not ready\n"),
            "/metrics" => {
                let sources = self.sources.clone();
                let text = tokio::task::spawn_blocking(move || sources.text());
                match text.await {
                    Ok(Ok(text)) => response(StatusCode::OK, TEXT_FORMAT, text),
                    Ok(Err(_)) | Err(_) => response(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "failed\n"),
                }
            }
            _ => response(StatusCode::NOT_FOUND, PLAIN, "/metrics, /livez, /readyz\n"),
        }
    }
}

fn response(status: StatusCode, content_type: &'static str, body: impl Into<String>) -> Response<String> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
    }
    response
}
