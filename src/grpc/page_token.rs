//! Page tokens: the position in a list where a page ended (keyset pagination).
//!
//! A token is the base64url of a digest and a position. The digest covers the request without its page fields, so that
//! a token cannot be used with other filters or another order, where its position would be wrong. The digest is not a
//! signature: a forged token returns a page that the client could have requested anyway.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use chrono::{DateTime, Datelike as _};
use prost::Message;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::audit::EventId;
use crate::domain::phone::PhoneNumber;
use crate::domain::user::UserId;
use crate::proto::v1;
use crate::store::users::{Order, UserListPosition};

/// Size of the digest in a token, in bytes.
const DIGEST_LENGTH: usize = 8;

/// Maximum length of a token, in characters. Every valid token is shorter.
const MAX_LENGTH: usize = 128;

type ListDigest = [u8; DIGEST_LENGTH];

/// A request for a page of a list.
trait Paged: Message + Clone {
    /// The kind of the list.
    const LIST: &str;

    /// Returns the size and the token of the page.
    fn page(&mut self) -> (&mut i32, &mut String);
}

impl Paged for v1::ListUsersRequest {
    const LIST: &str = "users";

    fn page(&mut self) -> (&mut i32, &mut String) {
        (&mut self.page_size, &mut self.page_token)
    }
}

impl Paged for v1::ListAuditEventsRequest {
    const LIST: &str = "audit events";

    fn page(&mut self) -> (&mut i32, &mut String) {
        (&mut self.page_size, &mut self.page_token)
    }
}

/// Returns a digest of the filters and the order of a list.
fn digest<R: Paged>(request: &R) -> ListDigest {
    let mut list = request.clone();
    let (size, token) = list.page();
    *size = 0;
    token.clear();
    // Equal messages have equal bytes, because no field is a map.
    let digest = Sha256::new()
        .chain_update(R::LIST)
        .chain_update(list.encode_to_vec());
    let digest: [u8; 32] = digest.finalize().into();
    let mut short = ListDigest::default();
    short.copy_from_slice(&digest[..DIGEST_LENGTH]);
    short
}

fn encode(request: &impl Paged, position: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(&[&digest(request), position].concat())
}

/// Returns the position of a token in the list of this request. `None`: the token is invalid or of another list.
fn decode(request: &impl Paged, token: &str) -> Option<Vec<u8>> {
    let bytes = (token.len() <= MAX_LENGTH)
        .then(|| Base64UrlUnpadded::decode_vec(token).ok())
        .flatten()?;
    let (list, position) = bytes.split_first_chunk::<DIGEST_LENGTH>()?;
    (*list == digest(request)).then(|| position.to_vec())
}

/// Returns the token of the page after this event in the list of this request.
pub(super) fn encode_event(request: &v1::ListAuditEventsRequest, end: EventId) -> String {
    encode(request, end.0.as_bytes())
}

/// Returns the position of the token of this request. `None`: the token is invalid or of another list.
pub(super) fn decode_event(request: &v1::ListAuditEventsRequest) -> Option<EventId> {
    let position = decode(request, &request.page_token)?;
    Some(EventId(Uuid::from_slice(&position).ok()?))
}

/// Returns the token of the page after this position in the list of this request.
pub(super) fn encode_user(request: &v1::ListUsersRequest, end: &UserListPosition) -> String {
    let mut bytes = Vec::new();
    match end {
        UserListPosition::PhoneNumber(number) => bytes.extend_from_slice(number.as_str().as_bytes()),
        UserListPosition::Time(time, id) => {
            bytes.extend_from_slice(id.0.as_bytes());
            bytes.extend(
                time.map(|time| time.timestamp_micros().to_be_bytes())
                    .iter()
                    .flatten(),
            );
        }
    }
    encode(request, &bytes)
}

/// Returns the position of the token of this request, whose list has this order. `None`: the token is invalid or of
/// another list.
pub(super) fn decode_user(request: &v1::ListUsersRequest, order: Order) -> Option<UserListPosition> {
    let position = decode(request, &request.page_token)?;
    match order {
        Order::PhoneNumber => {
            let number = String::from_utf8(position).ok()?;
            Some(UserListPosition::PhoneNumber(
                PhoneNumber::from_stored(number).ok()?,
            ))
        }
        Order::CreatedAt | Order::LastLoginAt => {
            let (id, time) = position.split_first_chunk::<16>()?;
            let time = match time {
                [] if order == Order::LastLoginAt => None,
                time => {
                    let microseconds = i64::from_be_bytes(time.try_into().ok()?);
                    // A token of ours has only times that databases can store.
                    let time = DateTime::from_timestamp_micros(microseconds)?;
                    Some(storable(time)?)
                }
            };
            Some(UserListPosition::Time(time, UserId(Uuid::from_bytes(*id))))
        }
    }
}

/// Returns a time of the years 1 to 9999, which the contract allows and every database can compare. `None`: any other.
pub(in crate::grpc) fn storable(time: Timestamp) -> Option<Timestamp> {
    (1..=9999).contains(&time.year()).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> v1::ListUsersRequest {
        v1::ListUsersRequest {
            phone_number_prefix: "+9989".to_owned(),
            order: v1::UserOrder::CreatedAt.into(),
            ..v1::ListUsersRequest::default()
        }
    }

    #[test]
    fn a_token_is_valid_in_its_list_only() {
        let id = UserId(Uuid::from_u128(7));
        let time = DateTime::from_timestamp_micros(1_767_225_600_123_456).unwrap();
        let number = PhoneNumber::from_stored("+998901234567".to_owned()).unwrap();
        for (order, position) in [
            (Order::PhoneNumber, UserListPosition::PhoneNumber(number)),
            (Order::CreatedAt, UserListPosition::Time(Some(time), id)),
            (Order::LastLoginAt, UserListPosition::Time(Some(time), id)),
            (Order::LastLoginAt, UserListPosition::Time(None, id)),
        ] {
            let token = encode_user(&request(), &position);
            assert!(token.len() <= MAX_LENGTH);
            let with = |change: fn(&mut v1::ListUsersRequest)| {
                let mut request = request();
                change(&mut request);
                v1::ListUsersRequest {
                    page_token: token.clone(),
                    ..request
                }
            };
            assert_eq!(decode_user(&with(|_| {}), order), Some(position.clone()));
            assert_eq!(
                decode_user(&with(|list| list.page_size = 7), order),
                Some(position)
            );
            for change in [
                (|list| list.phone_number_prefix.push('0')) as fn(&mut v1::ListUsersRequest),
                |list| list.descending = true,
                |list| list.order = v1::UserOrder::LastLoginAt.into(),
                |list| list.is_staff = Some(false),
                |list| list.created = Some(v1::TimeRange::default()),
            ] {
                assert_eq!(decode_user(&with(change), order), None);
            }
        }
    }

    #[test]
    fn a_token_of_events_is_valid_in_its_list_only() {
        let list = v1::ListAuditEventsRequest {
            action: "sign_in".to_owned(),
            ..v1::ListAuditEventsRequest::default()
        };
        let id = EventId(Uuid::from_u128(7));
        let token = encode_event(&list, id);
        let with = |change: fn(&mut v1::ListAuditEventsRequest)| {
            let mut changed = list.clone();
            changed.page_token.clone_from(&token);
            change(&mut changed);
            decode_event(&changed)
        };
        assert_eq!(with(|_| {}), Some(id));
        assert_eq!(with(|list| list.page_size = 7), Some(id));
        for change in [
            (|list| list.action = "register".to_owned()) as fn(&mut v1::ListAuditEventsRequest),
            |list| list.subject_id.push('a'),
            |list| list.actor_id.push('a'),
            |list| list.outcome = v1::AuditOutcome::Done.into(),
            |list| list.service.push('a'),
            |list| list.at = Some(v1::TimeRange::default()),
            |list| list.page_token.push('A'),
            |list| list.page_token = "-".to_owned(),
            |list| list.page_token = encode(list, &[0; 15]),
            |list| list.page_token = encode(list, &[0; 17]),
        ] {
            assert_eq!(with(change), None);
        }
        // The two requests have the same bytes.
        let (users, events) = (
            v1::ListUsersRequest::default(),
            v1::ListAuditEventsRequest::default(),
        );
        assert_ne!(digest(&users), digest(&events));
    }

    #[test]
    fn an_invalid_token_has_no_position() {
        let digest = digest(&request());
        let token = |position: &[u8]| Base64UrlUnpadded::encode_string(&[&digest, position].concat());
        let long = "A".repeat(MAX_LENGTH + 1);
        for (order, page_token) in [
            (Order::CreatedAt, String::new()),
            (Order::CreatedAt, "not base64!".to_owned()),
            (Order::CreatedAt, long),
            (Order::CreatedAt, token(b"")),
            (Order::CreatedAt, token(&[0; 16])),
            (Order::CreatedAt, token(&[0; 23])),
            (Order::CreatedAt, token(&[0; 25])),
            (Order::CreatedAt, token(&[0xff; 24]).replace('_', "-")),
            (Order::CreatedAt, token(&[0x7f; 24])),
            (Order::LastLoginAt, token(&[0; 15])),
            (Order::PhoneNumber, token(b"")),
            (Order::PhoneNumber, token(b"+99890' OR 1=1")),
            (Order::PhoneNumber, token(&[0xff; 8])),
        ] {
            let request = v1::ListUsersRequest {
                page_token: page_token.clone(),
                ..request()
            };
            assert_eq!(decode_user(&request, order), None, "{page_token}");
        }
    }
}
