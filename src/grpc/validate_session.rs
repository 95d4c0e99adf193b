//! ValidateSession, the call that comes with every request to every other service, on a way of its own.
//!
//! What tonic generates for an RPC boxes its future three times, takes 16 KiB of buffers for messages that have a few
//! hundred bytes, and wants the answer as a message, whose eight strings are made only to be copied. A check from
//! memory costs so little that this is a good part of it. So its call is served here: tonic still reads the request and
//! frames the answer, but the bytes of the answer are written from what is in memory ([`encode`]).

mod encode;

use std::sync::Arc;

use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic::server::Grpc;
use tonic::{Request, Status};
use tonic_prost::ProstDecoder;
use tower::service_fn;

use super::convert::ValidatedSession;
use super::phone_identity::PhoneIdentityHandlers;
use crate::proto::v1;
use encode::EncodedAnswer;

/// What is taken for a request at first: a token and a consistency fit twice. A longer one takes more.
const REQUEST_BYTES: usize = 128;

/// The same for an answer: one with a user agent of a browser fits.
const ANSWER_BYTES: usize = 512;

/// How much of a stream of answers is gathered before it is sent: there is only one answer, so any number will do.
const YIELD_THRESHOLD_BYTES: usize = 32 * 1024;

/// Takes the calls of ValidateSession. Cheap to clone.
#[derive(Clone)]
pub(super) struct ValidateSessionService {
    handlers: Arc<PhoneIdentityHandlers>,
    max_message_bytes: usize,
}

impl ValidateSessionService {
    pub(super) fn new(handlers: Arc<PhoneIdentityHandlers>, max_message_bytes: usize) -> Self {
        Self {
            handlers,
            max_message_bytes,
        }
    }

    /// Answers one call, as the generated service would.
    pub(super) async fn call(self, request: http::Request<Body>) -> http::Response<Body> {
        let handlers = &self.handlers;
        let check =
            service_fn(|request: Request<v1::ValidateSessionRequest>| handlers.check_session(request));
        Grpc::new(CheckCodec)
            .max_decoding_message_size(self.max_message_bytes)
            .unary(check, request)
            .await
    }
}

/// Reads requests as prost does, and writes answers as [`encode`] does.
struct CheckCodec;

impl Codec for CheckCodec {
    type Encode = ValidatedSession;
    type Decode = v1::ValidateSessionRequest;
    type Encoder = CheckEncoder;
    type Decoder = ProstDecoder<v1::ValidateSessionRequest>;

    fn encoder(&mut self) -> CheckEncoder {
        CheckEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(REQUEST_BYTES, YIELD_THRESHOLD_BYTES))
    }
}

struct CheckEncoder;

impl Encoder for CheckEncoder {
    type Item = ValidatedSession;
    type Error = Status;

    fn encode(
        &mut self,
        ValidatedSession { known, lifetimes }: ValidatedSession,
        buf: &mut EncodeBuf<'_>,
    ) -> Result<(), Status> {
        let answer = EncodedAnswer::new(known.user(), known.session(), known.last_seen_at(), &lifetimes);
        let lengths = answer.lengths();
        buf.reserve(lengths.answer());
        answer.encode(lengths, buf);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(ANSWER_BYTES, YIELD_THRESHOLD_BYTES)
    }
}
