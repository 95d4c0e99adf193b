//! Page tokens: where a page of a list ended, and of which list.
//!
//! A token is base64url of a digest of the request (without the page), and of the place. The digest keeps a token from
//! being used with other filters or another order, where its place would mean something else. It is no signature: whoever
//! makes a token of their own gets the page that begins there, which they might have asked for anyway.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use chrono::DateTime;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::domain::phone::PhoneNumber;
use crate::domain::user::UserId;
use crate::proto::v1;
use crate::store::users::{Order, Position};

/// How many bytes of the digest there are.
const DIGEST_LENGTH: usize = 8;

/// The most characters of a token that are looked at: more than any of ours has.
const MAX_LENGTH: usize = 128;

type ListDigest = [u8; DIGEST_LENGTH];

/// A digest of what is listed, and in which order.
fn digest(request: &v1::ListUsersRequest) -> ListDigest {
    let list = v1::ListUsersRequest {
        page_size: 0,
        page_token: String::new(),
        ..request.clone()
    };
    // Two messages that are equal have the same bytes: no field is a map.
    let digest: [u8; 32] = Sha256::digest(list.encode_to_vec()).into();
    let mut short = ListDigest::default();
    short.copy_from_slice(&digest[..DIGEST_LENGTH]);
    short
}

/// The token of a place in the list of this request.
pub(super) fn encode(request: &v1::ListUsersRequest, end: &Position) -> String {
    let mut bytes = digest(request).to_vec();
    match end {
        Position::PhoneNumber(number) => bytes.extend_from_slice(number.as_str().as_bytes()),
        Position::Time(time, id) => {
            bytes.extend_from_slice(id.0.as_bytes());
            bytes.extend(
                time.map(|time| time.timestamp_micros().to_be_bytes())
                    .iter()
                    .flatten(),
            );
        }
    }
    Base64UrlUnpadded::encode_string(&bytes)
}

/// The place that a token means in the list of this request, which has this order. `None`: it is of no such list.
pub(super) fn decode(request: &v1::ListUsersRequest, order: Order) -> Option<Position> {
    let token = &request.page_token;
    let bytes = (token.len() <= MAX_LENGTH)
        .then(|| Base64UrlUnpadded::decode_vec(token).ok())
        .flatten()?;
    let (of, place) = bytes.split_first_chunk::<DIGEST_LENGTH>()?;
    if *of != digest(request) {
        return None;
    }
    match order {
        Order::PhoneNumber => {
            let number = String::from_utf8(place.to_vec()).ok()?;
            Some(Position::PhoneNumber(PhoneNumber::from_stored(number).ok()?))
        }
        Order::CreatedAt | Order::LastLoginAt => {
            let (id, time) = place.split_first_chunk::<16>()?;
            let time = match time {
                [] if order == Order::LastLoginAt => None,
                time => {
                    let microseconds = i64::from_be_bytes(time.try_into().ok()?);
                    // What no database holds is in no token of ours.
                    let time = DateTime::from_timestamp_micros(microseconds)?;
                    Some(super::parse::admin::storable(time)?)
                }
            };
            Some(Position::Time(time, UserId(Uuid::from_bytes(*id))))
        }
    }
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
    fn a_token_means_the_same_place_again_in_its_list_and_nothing_in_another() {
        let id = UserId(Uuid::from_u128(7));
        let time = DateTime::from_timestamp_micros(1_767_225_600_123_456).unwrap();
        let number = PhoneNumber::from_stored("+998901234567".to_owned()).unwrap();
        for (order, place) in [
            (Order::PhoneNumber, Position::PhoneNumber(number)),
            (Order::CreatedAt, Position::Time(Some(time), id)),
            (Order::LastLoginAt, Position::Time(Some(time), id)),
            (Order::LastLoginAt, Position::Time(None, id)),
        ] {
            let token = encode(&request(), &place);
            assert!(token.len() <= MAX_LENGTH);
            let with = |change: fn(&mut v1::ListUsersRequest)| {
                let mut request = request();
                change(&mut request);
                v1::ListUsersRequest {
                    page_token: token.clone(),
                    ..request
                }
            };
            assert_eq!(decode(&with(|_| {}), order), Some(place.clone()));
            assert_eq!(decode(&with(|list| list.page_size = 7), order), Some(place));
            for change in [
                (|list| list.phone_number_prefix.push('0')) as fn(&mut v1::ListUsersRequest),
                |list| list.descending = true,
                |list| list.order = v1::UserOrder::LastLoginAt.into(),
                |list| list.is_staff = Some(false),
                |list| list.created = Some(v1::TimeRange::default()),
            ] {
                assert_eq!(decode(&with(change), order), None);
            }
        }
    }

    #[test]
    fn what_is_no_token_means_nothing() {
        let digest = digest(&request());
        let make = |place: &[u8]| Base64UrlUnpadded::encode_string(&[&digest, place].concat());
        let long = "A".repeat(MAX_LENGTH + 1);
        for (order, token) in [
            (Order::CreatedAt, String::new()),
            (Order::CreatedAt, "not base64!".to_owned()),
            (Order::CreatedAt, long),
            (Order::CreatedAt, make(b"")),
            (Order::CreatedAt, make(&[0; 16])),
            (Order::CreatedAt, make(&[0; 23])),
            (Order::CreatedAt, make(&[0; 25])),
            (Order::CreatedAt, make(&[0xff; 24]).replace('_', "-")),
            (Order::CreatedAt, make(&[0x7f; 24])),
            (Order::LastLoginAt, make(&[0; 15])),
            (Order::PhoneNumber, make(b"")),
            (Order::PhoneNumber, make(b"+99890' OR 1=1")),
            (Order::PhoneNumber, make(&[0xff; 8])),
        ] {
            let request = v1::ListUsersRequest {
                page_token: token.clone(),
                ..request()
            };
            assert_eq!(decode(&request, order), None, "{token}");
        }
    }
}
