//! Encoder of `ValidateSessionResponse`: writes the bytes of the response without a message in between.
//!
//! The length of a nested message precedes it. So the same code visits the fields twice: a first [`Sink`] counts the
//! bytes and a second one writes them, which keeps both equal. As in prost, the fields are in the order of their tags,
//! and a field with its default value is omitted. A test compares the bytes with those of prost.

use std::io::Write as _;
use std::net::IpAddr;

use prost::bytes::BufMut;
use prost::encoding::{WireType, encode_varint, encoded_len_varint};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use crate::clock::Timestamp;
use crate::domain::session::{ClientInfo, Lifetimes, Session};
use crate::domain::user::User;
use crate::grpc::convert;

/// The tags of `ValidateSessionResponse`.
const USER: u32 = 1;
const SESSION: u32 = 2;

/// The content of a response. It does not change between counting and writing, although another call may use the
/// session in between.
pub(super) struct EncodedResponse<'a> {
    user: &'a User,
    session: &'a Session,
    last_seen_at: Timestamp,
    idle_expires_at: Timestamp,
    ip_address: Address,
}

/// The lengths of the two messages in a response, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Lengths {
    user: usize,
    session: usize,
}

impl Lengths {
    /// Returns the length of the response, in bytes.
    pub(super) fn response(self) -> usize {
        count(|sink| {
            sink.header(USER, self.user);
            sink.header(SESSION, self.session);
        }) + self.user
            + self.session
    }
}

impl<'a> EncodedResponse<'a> {
    /// `last_seen_at` is the time of the last use of the session. It may be later than in `session`.
    pub(super) fn new(
        user: &'a User,
        session: &'a Session,
        last_seen_at: Timestamp,
        lifetimes: &Lifetimes,
    ) -> Self {
        Self {
            user,
            session,
            last_seen_at,
            idle_expires_at: session.idle_expires_at_if_seen(last_seen_at, lifetimes),
            ip_address: Address::new(session.client.ip_address),
        }
    }

    pub(super) fn lengths(&self) -> Lengths {
        Lengths {
            user: count(|sink| self.put_user(sink)),
            session: count(|sink| self.put_session(sink)),
        }
    }

    /// Writes the response. `lengths` is the result of [`Self::lengths`].
    pub(super) fn encode(&self, lengths: Lengths, buf: &mut impl BufMut) {
        let mut sink = Writer(buf);
        sink.header(USER, lengths.user);
        self.put_user(&mut sink);
        sink.header(SESSION, lengths.session);
        self.put_session(&mut sink);
    }

    fn put_user(&self, sink: &mut impl Sink) {
        let user = self.user;
        sink.id(1, user.id.0);
        sink.text(2, user.phone_number.as_str().as_bytes());
        sink.number(3, unsigned(convert::user_status(user.status).into()));
        sink.flag(4, user.is_staff);
        sink.flag(5, user.is_superuser);
        sink.flag(6, user.has_password);
        if let Some(time) = user.phone_verified_at {
            sink.time(7, time);
        }
        if let Some(locale) = &user.locale {
            // The field is `optional`, so an empty text is written, too.
            sink.bytes(8, locale.as_str().as_bytes());
        }
        sink.time(9, user.created_at);
        sink.time(10, user.updated_at);
        if let Some(time) = user.last_login_at {
            sink.time(11, time);
        }
    }

    fn put_session(&self, sink: &mut impl Sink) {
        let session = self.session;
        sink.id(1, session.id.0);
        sink.id(2, session.user_id.0);
        sink.time(3, session.created_at);
        sink.time(4, self.last_seen_at);
        sink.time(5, session.expires_at);
        sink.time(6, self.idle_expires_at);
        let auth_methods = || {
            session
                .auth_methods
                .iter()
                .map(|method| unsigned(convert::auth_method(*method).into()))
        };
        if !session.auth_methods.is_empty() {
            sink.header(7, auth_methods().map(encoded_len_varint).sum());
            auth_methods().for_each(|method| sink.varint(method));
        }
        if session.client != ClientInfo::default() {
            sink.header(8, count(|sink| self.put_client(sink)));
            self.put_client(sink);
        }
    }

    fn put_client(&self, sink: &mut impl Sink) {
        let user_agent = self.session.client.user_agent.as_deref().unwrap_or_default();
        sink.text(1, self.ip_address.as_bytes());
        sink.text(2, user_agent.as_bytes());
    }
}

/// Receives the fields of a message.
trait Sink {
    fn varint(&mut self, value: u64);

    fn raw(&mut self, bytes: &[u8]);

    fn key(&mut self, tag: u32, wire_type: WireType) {
        self.varint(u64::from(tag << 3 | wire_type as u32));
    }

    /// Adds the key and the length of a length-delimited field.
    fn header(&mut self, tag: u32, length: usize) {
        self.key(tag, WireType::LengthDelimited);
        self.varint(length as u64);
    }

    /// Adds a text, even if it is empty.
    fn bytes(&mut self, tag: u32, text: &[u8]) {
        self.header(tag, text.len());
        self.raw(text);
    }

    fn text(&mut self, tag: u32, text: &[u8]) {
        if !text.is_empty() {
            self.bytes(tag, text);
        }
    }

    fn id(&mut self, tag: u32, id: Uuid) {
        let mut text = [0; Hyphenated::LENGTH];
        id.hyphenated().encode_lower(&mut text);
        self.bytes(tag, &text);
    }

    fn number(&mut self, tag: u32, number: u64) {
        if number != 0 {
            self.key(tag, WireType::Varint);
            self.varint(number);
        }
    }

    fn flag(&mut self, tag: u32, flag: bool) {
        self.number(tag, flag.into());
    }

    fn time(&mut self, tag: u32, time: Timestamp) {
        let time = convert::timestamp(time);
        let (seconds, nanos) = (time.seconds.cast_unsigned(), unsigned(time.nanos));
        let length = [seconds, nanos]
            .into_iter()
            .filter(|number| *number != 0)
            .map(|number| 1 + encoded_len_varint(number))
            .sum();
        self.header(tag, length);
        self.number(1, seconds);
        self.number(2, nanos);
    }
}

/// Returns a signed number or an enum as it is encoded: a negative number is extended to 64 bits.
fn unsigned(number: i32) -> u64 {
    i64::from(number).cast_unsigned()
}

/// Counts the bytes.
struct ByteCounter(usize);

impl Sink for ByteCounter {
    fn varint(&mut self, value: u64) {
        self.0 += encoded_len_varint(value);
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

fn count(fields: impl FnOnce(&mut ByteCounter)) -> usize {
    let mut counter = ByteCounter(0);
    fields(&mut counter);
    counter.0
}

/// Writes the bytes.
struct Writer<'a, B>(&'a mut B);

impl<B: BufMut> Sink for Writer<'_, B> {
    fn varint(&mut self, value: u64) {
        encode_varint(value, self.0);
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.0.put_slice(bytes);
    }
}

/// The text of an IP address. It is empty if there is no address.
struct Address {
    text: [u8; Self::MAX_LENGTH],
    length: usize,
}

impl Address {
    /// The longest text is an IPv6 address without zeros. An IPv4-mapped address has zeros.
    const MAX_LENGTH: usize = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".len();

    fn new(address: Option<IpAddr>) -> Self {
        let mut text = [0; Self::MAX_LENGTH];
        let mut rest = &mut text[..];
        if let Some(address) = address {
            // Every address fits, so this does not fail.
            let _ = write!(rest, "{address}");
        }
        let length = Self::MAX_LENGTH - rest.len();
        Self { text, length }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }
}

#[cfg(test)]
mod tests;
