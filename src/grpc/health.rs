//! gRPC health protocol, version 1. `Watch` of an unknown service returns SERVICE_UNKNOWN and stays open, as the
//! protocol requires. tonic-health ends it with NOT_FOUND.

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt as _, once, pending};
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::{HealthReporter, HealthService};

/// Returns the health service, with the statuses of `reporter`.
#[must_use]
pub fn health_server(reporter: HealthReporter) -> HealthServer<impl Health> {
    HealthServer::new(WatchUnknown(HealthService::from_health_reporter(reporter)))
}

/// The service of tonic-health, except for `Watch` of an unknown service.
#[derive(Debug)]
struct WatchUnknown(HealthService);

type Statuses = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Health for WatchUnknown {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.0.check(request).await
    }

    type WatchStream = Statuses;

    /// The names of services are set before the server starts, so an unknown one stays unknown. Its stream needs no
    /// task, and counts towards the limit of streams of the connection.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Statuses>, Status> {
        match self.0.watch(request).await {
            Ok(response) => Ok(response.map(|statuses| Box::pin(statuses) as Statuses)),
            Err(status) if status.code() == Code::NotFound => {
                let unknown = HealthCheckResponse {
                    status: ServingStatus::ServiceUnknown.into(),
                };
                Ok(Response::new(
                    Box::pin(once(Ok(unknown)).chain(pending())) as Statuses
                ))
            }
            Err(status) => Err(status),
        }
    }
}
