//! The bodies of calls: what comes is counted before memory is taken for it, and what goes knows when it has to end.

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

/// What gRPC puts before a message: whether it is compressed, and how long it is, in four bytes.
const PREFIX_BYTES: usize = 5;

/// The body of a request. tonic takes memory for a whole message when it has read how long it will be; five bytes are
/// enough for that. So a length above [`UNCOUNTED_BYTES`] is taken out of what all connections share, until the message
/// is read.
#[derive(Debug)]
pub(super) struct RequestBody {
    body: Incoming,
    shared: ServerLimits,
    language: Language,
    prefix: LengthPrefix,
    _taken: Option<QuotaPermit>,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, shared: ServerLimits, language: Language) -> Self {
        Self {
            body,
            shared,
            language,
            prefix: LengthPrefix::default(),
            _taken: None,
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
            // One that is too long is refused before memory is taken.
            if counted > 0 && length <= self.shared.max_message_bytes {
                match self.shared.bytes.take(counted) {
                    Some(taken) => self._taken = Some(taken),
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

/// The first bytes of a body, in whatever pieces they come.
#[derive(Debug, Default)]
struct LengthPrefix {
    bytes: [u8; PREFIX_BYTES],
    have: usize,
}

impl LengthPrefix {
    /// The length of the message, at the moment when it is known.
    fn read(&mut self, data: &[u8]) -> Option<usize> {
        if self.have == PREFIX_BYTES {
            return None;
        }
        for (place, byte) in self.bytes[self.have..].iter_mut().zip(data) {
            *place = *byte;
            self.have += 1;
        }
        if self.have < PREFIX_BYTES {
            return None;
        }
        let [_, length @ ..] = self.bytes;
        usize::try_from(u32::from_be_bytes(length)).ok()
    }
}

/// The body of an answer. It holds the call's place until all of it is on its way.
#[derive(Debug)]
pub(super) struct ResponseBody {
    body: Body,
    _place: Option<CallPermit>,
    /// Of a stream without an end: when it has to have one.
    closing: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    has_ended: bool,
}

impl ResponseBody {
    pub(super) fn new(body: Body, place: Option<CallPermit>, closing: Option<CancellationToken>) -> Self {
        Self {
            body,
            _place: place,
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
        // What there is to say is said first: NOT_SERVING, as a rule.
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
    fn the_length_is_read_from_whatever_pieces() {
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
