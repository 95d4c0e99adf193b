use std::net::{Ipv4Addr, Ipv6Addr};

use chrono::DateTime;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::subsequence;
use prost::Message as _;

use super::*;
use crate::domain::phone::PhoneNumber;
use crate::domain::session::{AuthMethod, SessionId};
use crate::domain::user::{Locale, UserId, UserStatus};
use crate::proto::v1;

/// Times from long before 1970 to long after, some with whole seconds.
fn times() -> impl Strategy<Value = Timestamp> {
    let seconds = prop_oneof![
        Just(0),
        -2_i64..2,
        -62_135_596_800_i64..253_402_300_800,
        1_700_000_000_i64..1_900_000_000
    ];
    let nanos = prop_oneof![
        Just(0),
        (0_u32..1_000_000).prop_map(|micros| micros * 1000),
        0_u32..1_000_000_000,
    ];
    (seconds, nanos).prop_map(|(seconds, nanos)| DateTime::from_timestamp(seconds, nanos).unwrap())
}

fn ids() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn users() -> impl Strategy<Value = User> {
    let status = prop_oneof![Just(UserStatus::Active), Just(UserStatus::Deactivated)];
    let phone_number = "\\+[1-9][0-9]{3,14}".prop_map(|key| PhoneNumber::from_stored(key).unwrap());
    (
        (ids(), phone_number, status),
        any::<[bool; 3]>(),
        option::of(".{0,35}".prop_map(Locale::from_stored)),
        (times(), times(), option::of(times()), option::of(times())),
    )
        .prop_map(
            |(
                (id, phone_number, status),
                [is_staff, is_superuser, has_password],
                locale,
                (created_at, updated_at, phone_verified_at, last_login_at),
            )| User {
                id: UserId(id),
                phone_number,
                status,
                is_staff,
                is_superuser,
                has_password,
                phone_verified_at,
                locale,
                created_at,
                updated_at,
                last_login_at,
            },
        )
}

fn addresses() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
        any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits).into()),
        any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).to_ipv6_mapped().into()),
        Just(Ipv6Addr::UNSPECIFIED.into()),
        Just(Ipv6Addr::from_bits(u128::MAX).into()),
    ]
}

fn clients() -> impl Strategy<Value = ClientInfo> {
    // Includes an empty user agent, which `ClientInfo::new` does not create, and one of the maximum of 512 characters.
    let user_agents = prop_oneof![Just(String::new()), any::<String>(), Just("й".repeat(512))];
    (option::of(addresses()), option::of(user_agents)).prop_map(|(ip_address, user_agent)| ClientInfo {
        ip_address,
        user_agent: user_agent.map(String::into_boxed_str),
    })
}

fn sessions() -> impl Strategy<Value = Session> {
    (
        (ids(), ids()),
        (times(), times(), times()),
        subsequence(AuthMethod::ALL.to_vec(), 0..=AuthMethod::ALL.len()),
        clients(),
    )
        .prop_map(
            |((id, user_id), (created_at, last_seen_at, expires_at), auth_methods, client)| Session {
                id: SessionId(id),
                user_id: UserId(user_id),
                created_at,
                last_seen_at,
                expires_at,
                auth_methods: auth_methods.into_iter().collect(),
                client,
            },
        )
}

proptest! {
    #[test]
    fn the_bytes_equal_those_of_prost(
        user in users(),
        session in sessions(),
        last_seen_at in times(),
        idle_seconds in 0_u64..10_000_000,
    ) {
        let idle = std::time::Duration::from_secs(idle_seconds);
        let lifetimes = Lifetimes { absolute: idle, idle };
        let message = v1::ValidateSessionResponse {
            user: Some(convert::user(&user)),
            session: Some(convert::session(&session, last_seen_at, &lifetimes)),
        };
        let response = EncodedResponse::new(&user, &session, last_seen_at, &lifetimes);
        let lengths = response.lengths();
        let mut bytes = Vec::new();
        response.encode(lengths, &mut bytes);
        prop_assert_eq!(&bytes, &message.encode_to_vec());
        prop_assert_eq!(lengths.response(), bytes.len());
        prop_assert_eq!(lengths.response(), message.encoded_len());
        prop_assert!(v1::ValidateSessionResponse::decode(&bytes[..]).unwrap() == message);
    }
}

#[test]
fn every_address_fits() {
    for (address, text) in [
        (None, ""),
        (Some(IpAddr::from(Ipv4Addr::BROADCAST)), "255.255.255.255"),
        (
            Some(Ipv4Addr::BROADCAST.to_ipv6_mapped().into()),
            "::ffff:255.255.255.255",
        ),
        (
            Some(Ipv6Addr::from_bits(u128::MAX).into()),
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ),
    ] {
        assert_eq!(Address::new(address).as_bytes(), text.as_bytes());
    }
}
