//! Service of ValidateSession, with its own response encoder.
//!
//! Other services call ValidateSession with every request that they serve, and the answer is in memory. The code that
//! tonic generates for an RPC boxes its future three times, allocates 16 KiB of buffers for messages of a few hundred
//! bytes, and needs the response as a message with eight strings that are only copied. That is a large part of the cost
//! of such a call. Here tonic still reads the request and frames the response, but [`encode`] writes the bytes of the
//! response from the session in memory.

mod encode;

use std::sync::Arc;

use http::Request as HttpRequest;
use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic::server::Grpc;
use tonic::{Request, Status};
use tonic_prost::ProstDecoder;
use tower::service_fn;

use super::convert::ValidatedSession;
use super::middleware::{CallResult, CallService};
use super::phone_identity::PhoneIdentityHandlers;
use crate::proto::v1;
use encode::EncodedResponse;

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

/// Decodes requests with prost and encodes responses with [`encode`].
struct ValidateSessionCodec;

impl Codec for ValidateSessionCodec {
    type Encode = ValidatedSession;
    type Decode = v1::ValidateSessionRequest;
    type Encoder = ValidateSessionEncoder;
    type Decoder = ProstDecoder<v1::ValidateSessionRequest>;

    fn encoder(&mut self) -> ValidateSessionEncoder {
        ValidateSessionEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(REQUEST_BUFFER_BYTES, YIELD_THRESHOLD_BYTES))
    }
}

struct ValidateSessionEncoder;

impl Encoder for ValidateSessionEncoder {
    type Item = ValidatedSession;
    type Error = Status;

    fn encode(
        &mut self,
        ValidatedSession { known, lifetimes }: ValidatedSession,
        buf: &mut EncodeBuf<'_>,
    ) -> Result<(), Status> {
        let response = EncodedResponse::new(known.user(), known.session(), known.last_seen_at(), &lifetimes);
        let lengths = response.lengths();
        buf.reserve(lengths.response());
        response.encode(lengths, buf);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(RESPONSE_BUFFER_BYTES, YIELD_THRESHOLD_BYTES)
    }
}
