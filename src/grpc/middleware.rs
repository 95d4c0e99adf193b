//! Tower layers of every call, one concern each. From the outside to the inside:
//!
//! 1. [`request_id`]: the correlation id of the call,
//! 2. [`access_log`]: its log span, log line, metrics and trace,
//! 3. [`error_mapping`]: tonic's errors in the form of the contract,
//! 4. [`deadline`]: its timeout,
//! 5. [`super::authorization`]: the calling service and its rights.
//!
//! Each layer returns a response and never an error. A call costs one allocation for all layers: [`deadline`] boxes
//! its future, because a timer must not move, and the layers outside of it are plain structs around that box.

pub(super) mod access_log;
pub(super) mod deadline;
pub(super) mod error_mapping;
pub(super) mod request_id;

use std::convert::Infallible;

use http::{Request, Response};
use tonic::body::Body;
use tower::Service;

use super::metrics::VALIDATE_SESSION;

/// The outcome of a call. An error is a response with a gRPC status.
pub(super) type CallResult = Result<Response<Body>, Infallible>;

/// A service that handles calls.
pub(super) trait CallService:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible>
{
}

impl<S> CallService for S where S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> {}

/// Whether a call of this path is logged only if it fails, and gets a log span and a request id only then.
///
/// Other services call ValidateSession with every request that they serve. It is answered from memory, so a span and a
/// random id would be a large part of its cost.
fn is_logged_only_on_failure(path: &str) -> bool {
    path == VALIDATE_SESSION
}
