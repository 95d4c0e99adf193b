//! A collector of spans that only keeps them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::eventually;

/// It ends when it is dropped.
pub(crate) struct Collector {
    address: SocketAddr,
    kept: Kept,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Kept::default();
        let serving = Server::builder()
            .add_service(TraceServiceServer::new(kept.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        let serving = tokio::spawn(async move { serving.await.unwrap() });
        Self {
            address,
            kept,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// The flag by which a server sends its spans here.
    pub(crate) fn flag(&self) -> String {
        format!("--otlp-endpoint=http://{}", self.address)
    }

    /// Returns all received spans.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let kept = self.kept.0.lock().unwrap();
        let resources = kept.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.iter().cloned()).collect()
    }

    /// Returns all received requests, as text.
    pub(crate) fn text(&self) -> String {
        format!("{:?}", self.kept.0.lock().unwrap())
    }

    /// Waits until there is a span of a call of this RPC, with all that were sent by then.
    pub(crate) async fn call(&self, rpc: &str) -> Vec<Span> {
        let name = format!("phone_identity.v1.PhoneIdentity/{rpc}");
        eventually(|| self.spans().iter().any(|span| span.name == name)).await;
        self.spans()
    }
}

/// An attribute of a span, as text.
pub(crate) fn attribute(span: &Span, name: &str) -> Option<String> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == name)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{other:?}"),
    }
}
