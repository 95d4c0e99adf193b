//! Service of ValidateSession, beside tonic's router.
//!
//! Other services call ValidateSession with every request that they serve, and the answer is in memory. The code that
//! tonic generates for an RPC boxes its future three times and allocates 16 KiB of buffers for messages of a few
//! hundred bytes. That is half of the cost of such a call: see docs/decisions/0026-validate-session-path.md. Here tonic
//! reads the request and frames the response, with buffers of the size that these messages have.

use std::sync::Arc;

use http::Request as HttpRequest;
use tonic::Request;
use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec};
use tonic::server::Grpc;
use tonic_prost::{ProstDecoder, ProstEncoder};
use tower::service_fn;

use super::middleware::{CallResult, CallService};
use super::phone_identity::PhoneIdentityHandlers;
use crate::proto::v1;

/// Initial size of the request buffer, in bytes: twice a request with a token and a consistency. It grows.
const REQUEST_BUFFER_BYTES: usize = 128;

/// Initial size of the response buffer, in bytes: a response with the user agent of a browser fits. It grows.
const RESPONSE_BUFFER_BYTES: usize = 512;

/// Size at which a stream of responses is flushed, in bytes. There is only one response, so the number does not matter.
const YIELD_THRESHOLD_BYTES: usize = 32 * 1024;

/// Returns the service of ValidateSession. `max_message_bytes` is the maximum size of a request.
pub(super) fn service(
    handlers: Arc<PhoneIdentityHandlers>,
    max_message_bytes: usize,
) -> impl CallService<Future: Send> + Clone {
    service_fn(move |request| call(handlers.clone(), max_message_bytes, request))
}

/// Handles one call, as the generated service would.
async fn call(
    handlers: Arc<PhoneIdentityHandlers>,
    max_message_bytes: usize,
    request: HttpRequest<Body>,
) -> CallResult {
    let validate = |request: Request<v1::ValidateSessionRequest>| handlers.validated_session(request);
    let response = Grpc::new(ValidateSessionCodec)
        .max_decoding_message_size(max_message_bytes)
        .unary(service_fn(validate), request)
        .await;
    Ok(response)
}

/// The codec of prost, with buffers of the size of the messages.
struct ValidateSessionCodec;

impl Codec for ValidateSessionCodec {
    type Encode = v1::ValidateSessionResponse;
    type Decode = v1::ValidateSessionRequest;
    type Encoder = ProstEncoder<v1::ValidateSessionResponse>;
    type Decoder = ProstDecoder<v1::ValidateSessionRequest>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(RESPONSE_BUFFER_BYTES, YIELD_THRESHOLD_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(REQUEST_BUFFER_BYTES, YIELD_THRESHOLD_BYTES))
    }
}
