//! Filters of ListUsers.

use phone_identity::proto::v1;

use super::{ORDERS, at, numbers, proto};
use crate::admin::list;
use crate::support::TestServer;
use crate::support::people::{Someone, insert};
use crate::support::refusal::assert_violations;

#[tokio::test]
async fn a_prefix_finds_only_numbers_that_begin_with_it() {
    let server = TestServer::start().await;
    let staff = server.staff().await;
    let mut client = server.admin().await;
    let database = server.place.connect().await;
    let all = [
        "+12025550123",
        "+998712345678",
        "+998899999999",
        "+998900000000",
        "+998909999999",
        "+99891",
        "+998999999999",
        "+99900",
        "+9999",
    ];
    let people = all.map(|number| Someone::new(number, at(0)));
    insert(&database, &people).await;
    for (prefix, expected) in [
        ("+", &all[..]),
        ("", &all[..]),
        ("+1", &all[..1]),
        ("+9", &all[1..]),
        ("+9989", &all[3..7]),
        ("+998 90", &all[3..5]),
        ("+998-(90)/0", &all[3..4]),
        ("+998899999999", &all[2..3]),
        ("+9988999999990", &[]),
        ("+99899", &all[6..7]),
        ("+9999", &all[8..]),
        ("+99999999999999999999", &[]),
        ("+2", &[]),
    ] {
        for order in ORDERS {
            for descending in [false, true] {
                let request = v1::ListUsersRequest {
                    phone_number_prefix: prefix.to_owned(),
                    order: order.into(),
                    descending,
                    ..v1::ListUsersRequest::default()
                };
                let page = list(&mut client, &staff, request).await;
                let mut found = numbers(&page);
                if order == v1::UserOrder::PhoneNumber && descending {
                    found.reverse();
                } else if order != v1::UserOrder::PhoneNumber {
                    found.sort_unstable();
                }
                assert_eq!(found, expected, "{prefix} {order:?} {descending}");
            }
        }
    }
    for bad in [
        "998",
        "+0",
        "++9",
        "+9%",
        "+99_",
        "%",
        "+999999999999999999999",
        "9+",
    ] {
        let request = v1::ListUsersRequest {
            phone_number_prefix: bad.to_owned(),
            ..v1::ListUsersRequest::default()
        };
        let refused = client.list_users(staff.asks(request)).await;
        assert_violations(refused, &[("phone_number_prefix", "PHONE_NUMBER_PREFIX_INVALID")]);
    }
}

#[tokio::test]
async fn each_filter_selects_its_users_and_all_filters_apply() {
    let server = TestServer::start().await;
    let root = server.superuser().await;
    let mut client = server.admin().await;
    let database = server.place.connect().await;
    let with = |number: &str, change: fn(&mut Someone)| {
        let mut someone = Someone::new(number, at(0));
        change(&mut someone);
        someone
    };
    let people = [
        with("+1", |_| {}),
        with("+2", |someone| someone.status = "deactivated"),
        with("+3", |someone| someone.is_staff = true),
        with("+4", |someone| someone.is_superuser = true),
        with("+5", |someone| someone.phone_verified_at = Some(at(1))),
        with("+6", |someone| someone.created_at = at(10)),
        with("+7", |someone| someone.last_login_at = Some(at(20))),
        with("+8", |someone| {
            someone.last_login_at = Some(at(21));
            someone.is_staff = true;
        }),
    ]
    .map(|mut someone| {
        someone.phone_number.push_str("000");
        someone
    });
    insert(&database, &people).await;
    let range = |start: Option<i64>, end: Option<i64>| {
        Some(v1::TimeRange {
            start_time: start.map(|start| proto(at(start))),
            end_time: end.map(|end| proto(at(end))),
        })
    };
    let all = v1::ListUsersRequest::default;
    // The number of the superuser that lists begins with +9.
    for (request, expected) in [
        (all(), "123456789"),
        (
            v1::ListUsersRequest {
                status: v1::UserStatus::Deactivated.into(),
                ..all()
            },
            "2",
        ),
        (
            v1::ListUsersRequest {
                status: v1::UserStatus::Active.into(),
                ..all()
            },
            "13456789",
        ),
        (
            v1::ListUsersRequest {
                is_staff: Some(true),
                ..all()
            },
            "389",
        ),
        (
            v1::ListUsersRequest {
                is_staff: Some(false),
                ..all()
            },
            "124567",
        ),
        (
            v1::ListUsersRequest {
                is_superuser: Some(true),
                ..all()
            },
            "49",
        ),
        (
            v1::ListUsersRequest {
                is_superuser: Some(false),
                is_staff: Some(true),
                ..all()
            },
            "38",
        ),
        (
            v1::ListUsersRequest {
                phone_verified: Some(true),
                ..all()
            },
            "5",
        ),
        (
            v1::ListUsersRequest {
                phone_verified: Some(false),
                ..all()
            },
            "12346789",
        ),
        // The start is inclusive, and the end exclusive.
        (
            v1::ListUsersRequest {
                created: range(Some(10), Some(11)),
                ..all()
            },
            "6",
        ),
        (
            v1::ListUsersRequest {
                created: range(None, Some(10)),
                ..all()
            },
            "1234578",
        ),
        (
            v1::ListUsersRequest {
                created: range(Some(10), None),
                ..all()
            },
            "69",
        ),
        (
            v1::ListUsersRequest {
                created: range(Some(10), Some(10)),
                ..all()
            },
            "",
        ),
        (
            v1::ListUsersRequest {
                last_login: range(Some(20), Some(21)),
                ..all()
            },
            "7",
        ),
        (
            v1::ListUsersRequest {
                last_login: range(None, Some(22)),
                ..all()
            },
            "78",
        ),
        (
            v1::ListUsersRequest {
                last_login: range(Some(21), None),
                is_staff: Some(true),
                is_superuser: Some(false),
                ..all()
            },
            "8",
        ),
        (
            v1::ListUsersRequest {
                last_login: Some(v1::TimeRange::default()),
                ..all()
            },
            "123456789",
        ),
    ] {
        for order in ORDERS {
            let request = v1::ListUsersRequest {
                order: order.into(),
                ..request.clone()
            };
            let page = list(&mut client, &root, request.clone()).await;
            let mut found: Vec<char> = numbers(&page)
                .into_iter()
                .map(|number| number.chars().nth(1).unwrap())
                .collect();
            found.sort_unstable();
            assert_eq!(String::from_iter(found), expected, "{request:?}");
        }
    }
    // Times have whole microseconds: what is a nanosecond before the next one is after this one.
    let mut late = proto(at(10));
    late.nanos += 1;
    let request = v1::ListUsersRequest {
        created: Some(v1::TimeRange {
            start_time: Some(late),
            end_time: Some(proto(at(1000))),
        }),
        ..all()
    };
    assert!(list(&mut client, &root, request).await.users.is_empty());
}
