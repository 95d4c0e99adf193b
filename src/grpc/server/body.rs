//! Bodies of calls: a request is counted before memory is allocated for it, a response holds the permit of its call.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::HeaderMap;
use http_body::{Frame, SizeHint};
use hyper::body::{Bytes, Incoming};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;

use super::in_flight::{CallPermit, ServerLimits, UNCOUNTED_BYTES};
use super::quota::QuotaPermit;
use crate::grpc::status::{self, WireError};
use crate::i18n::Language;

/// Size of the prefix of a gRPC message: a flag for compression, and the length in four bytes.
const PREFIX_BYTES: usize = 5;

/// The body of a request, with a permit for its memory.
///
/// tonic allocates memory for a whole message as soon as it has read the prefix, so five bytes are enough to allocate a
/// large buffer. So the part of a length above [`UNCOUNTED_BYTES`] is acquired from the quota of all connections, until
/// the message is read.
#[derive(Debug)]
pub(super) struct RequestBody {
    body: Incoming,
    shared: ServerLimits,
    language: Language,
    prefix: LengthPrefix,
    _permit: Option<QuotaPermit>,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, shared: ServerLimits, language: Language) -> Self {
        Self {
            body,
            shared,
            language,
            prefix: LengthPrefix::default(),
            _permit: None,
        }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => return Poll::Ready(None),
        };
        if let Some(length) = frame.data_ref().and_then(|data| self.prefix.read(data)) {
            let counted = length.saturating_sub(UNCOUNTED_BYTES);
            // tonic refuses a larger message before it allocates memory.
            if counted > 0 && length <= self.shared.max_message_bytes {
                match self.shared.bytes.acquire(counted) {
                    Some(permit) => self._permit = Some(permit),
                    None => {
                        let refusal = status::of_wire_error(WireError::Overloaded, self.language);
                        return Poll::Ready(Some(Err(refusal.into())));
                    }
                }
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The first bytes of a body, which can arrive in several frames.
#[derive(Debug, Default)]
struct LengthPrefix {
    bytes: [u8; PREFIX_BYTES],
    read: usize,
}

impl LengthPrefix {
    /// Returns the length of the message when its last byte is read. `None` before and after that.
    fn read(&mut self, data: &[u8]) -> Option<usize> {
        if self.read == PREFIX_BYTES {
            return None;
        }
        for (target, byte) in self.bytes[self.read..].iter_mut().zip(data) {
            *target = *byte;
            self.read += 1;
        }
        if self.read < PREFIX_BYTES {
            return None;
        }
        let [_, length @ ..] = self.bytes;
        usize::try_from(u32::from_be_bytes(length)).ok()
    }
}

/// The body of a response. It holds the permit of the call until all of it is sent.
#[derive(Debug)]
pub(super) struct ResponseBody {
    body: Body,
    _permit: Option<CallPermit>,
    /// Ends an endless stream. `None`: the response ends by itself.
    closing: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    has_ended: bool,
}

impl ResponseBody {
    pub(super) fn new(body: Body, permit: Option<CallPermit>, closing: Option<CancellationToken>) -> Self {
        Self {
            body,
            _permit: permit,
            closing: closing.map(|closing| Box::pin(closing.cancelled_owned())),
            has_ended: false,
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        // Messages that are ready are sent first, usually NOT_SERVING.
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        let Some(closing) = &mut self.closing else {
            return Poll::Pending;
        };
        ready!(closing.as_mut().poll(cx));
        self.has_ended = true;
        let mut trailers = HeaderMap::new();
        let ended = status::of_ended_stream().add_header(&mut trailers);
        Poll::Ready(Some(ended.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_read_from_pieces_of_any_size() {
        let bytes = [0, 0, 1, 0, 2, 9, 9];
        for size in 1..=bytes.len() {
            let mut prefix = LengthPrefix::default();
            let lengths: Vec<_> = bytes
                .chunks(size)
                .filter_map(|piece| prefix.read(piece))
                .collect();
            assert_eq!(lengths, [0x1_0002], "pieces of {size}");
        }
        assert_eq!(LengthPrefix::default().read(&[0, 0, 0, 0]), None);
    }
}
