//! ListUsers: pages, orders and filters.

mod filters;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use chrono::DateTime;
use phone_identity::clock::Timestamp;
use phone_identity::proto::v1;
use tonic::Code;
use uuid::Uuid;

use super::list;
use crate::support::people::{Someone, insert};
use crate::support::refusal::{assert_refused, assert_violations};
use crate::support::{AdminClient, Person, TestServer};

const ORDERS: [v1::UserOrder; 3] = [
    v1::UserOrder::PhoneNumber,
    v1::UserOrder::CreatedAt,
    v1::UserOrder::LastLoginAt,
];

/// A time at which no user of these tests signed in.
fn at(microseconds: i64) -> Timestamp {
    DateTime::from_timestamp_micros(1_700_000_000_000_000 + microseconds).unwrap()
}

fn proto(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.timestamp(),
        nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap(),
    }
}

/// A thousand users: many joined in the same microsecond, a third never signed in, and many signed in at the same time.
fn a_thousand() -> Vec<Someone> {
    let people = (0..1000_u32).map(|number| {
        // 7919 is prime, so that no order is that of another.
        let mixed = i64::from(number * 7919 % 1000);
        let mut someone = Someone::new(
            format!("+9989{:08}", u64::from(number) * 7_654_321 % 100_000_000),
            at(mixed / 7),
        );
        someone.last_login_at = (number % 3 != 0).then(|| at(mixed % 50));
        someone
    });
    people.collect()
}

/// Returns the sort key of this order.
fn key(order: v1::UserOrder, someone: &Someone) -> (String, Option<Timestamp>, Uuid) {
    match order {
        v1::UserOrder::CreatedAt => (String::new(), Some(someone.created_at), someone.id),
        v1::UserOrder::LastLoginAt => (String::new(), someone.last_login_at, someone.id),
        _ => (someone.phone_number.clone(), None, Uuid::nil()),
    }
}

fn ids(response: &v1::ListUsersResponse) -> Vec<Uuid> {
    let users = response.users.iter();
    users
        .map(|managed| managed.user.as_ref().unwrap().user_id.parse().unwrap())
        .collect()
}

fn numbers(response: &v1::ListUsersResponse) -> Vec<&str> {
    let users = response.users.iter();
    users
        .map(|managed| managed.user.as_ref().unwrap().phone_number.as_str())
        .collect()
}

/// Each user that exists all the time is on exactly one page, in order, while others are created and deleted before and
/// behind the position of the list.
#[tokio::test]
async fn a_thousand_users_are_listed_exactly_once_during_changes() {
    let server = TestServer::start().await;
    let root = server.superuser().await;
    let mut client = server.admin().await;
    let database = server.place.connect().await;
    let staying = a_thousand();
    insert(&database, &staying).await;
    for order in ORDERS {
        for descending in [false, true] {
            let mut expected: Vec<&Someone> = staying.iter().collect();
            expected.sort_by_key(|someone| key(order, someone));
            if descending {
                expected.reverse();
            }
            let expected: Vec<Uuid> = expected.into_iter().map(|someone| someone.id).collect();
            let known: HashSet<Uuid> = expected.iter().copied().collect();
            let mut request = v1::ListUsersRequest {
                page_size: 37,
                order: order.into(),
                descending,
                ..v1::ListUsersRequest::default()
            };
            let mut seen = Vec::new();
            let mut everybody = HashSet::new();
            let mut visitors: Vec<Someone> = Vec::new();
            for page_number in 0_i64.. {
                let page = list(&mut client, &root, request.clone()).await;
                assert!(page.users.len() <= 37);
                for id in ids(&page) {
                    assert!(everybody.insert(id), "{id} twice");
                    if known.contains(&id) {
                        seen.push(id);
                    }
                }
                if page.next_page_token.is_empty() {
                    break;
                }
                request.page_token = page.next_page_token;
                // The last temporary users are deleted, one of them possibly at the end of the page, and others are
                // created everywhere.
                for visitor in visitors.drain(..) {
                    remove(&server, &visitor).await;
                }
                visitors = (0..10_i64)
                    .map(|number| {
                        let mut visitor = Someone::new(
                            format!("+99{number}{:07}", page_number * 10 + number),
                            at(number * 14),
                        );
                        visitor.last_login_at = (number % 2 == 0).then(|| at(number * 5));
                        visitor
                    })
                    .collect();
                insert(&database, &visitors).await;
            }
            assert_eq!(seen, expected, "{order:?} {descending}");
            for visitor in visitors {
                remove(&server, &visitor).await;
            }
        }
    }
}

async fn remove(server: &TestServer, someone: &Someone) {
    use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
    let database = server.place.connect().await;
    let sql = match database.get_database_backend() {
        DbBackend::Postgres => "DELETE FROM users WHERE id = $1",
        _ => "DELETE FROM users WHERE id = ?",
    };
    let backend = database.get_database_backend();
    let statement = Statement::from_sql_and_values(backend, sql, [someone.id.into()]);
    database.execute_raw(statement).await.unwrap();
    database.close().await.unwrap();
}

#[tokio::test]
async fn pages_have_a_bounded_size_and_the_last_one_says_so() {
    let server = TestServer::start().await;
    let root = server.superuser().await;
    let mut client = server.admin().await;
    let database = server.place.connect().await;
    insert(&database, &a_thousand()).await;
    for (page_size, expected) in [(0, 50), (1, 1), (50, 50), (500, 500), (501, 500), (i32::MAX, 500)] {
        let request = v1::ListUsersRequest {
            page_size,
            ..v1::ListUsersRequest::default()
        };
        let page = list(&mut client, &root, request).await;
        assert_eq!(page.users.len(), expected, "{page_size}");
        assert!(!page.next_page_token.is_empty());
    }
    // The size of pages may change. With the superuser, there are 1001 users. A page that has exactly the remaining
    // users is the last one.
    let mut request = v1::ListUsersRequest {
        page_size: 500,
        ..v1::ListUsersRequest::default()
    };
    for (page_size, is_last) in [(500, false), (1, false), (500, true)] {
        request.page_size = page_size;
        let page = list(&mut client, &root, request.clone()).await;
        assert_eq!(i32::try_from(page.users.len()).unwrap(), page_size);
        assert_eq!(page.next_page_token.is_empty(), is_last);
        request.page_token = page.next_page_token;
    }
}

#[tokio::test]
async fn a_page_token_is_good_for_its_list_only() {
    let server = TestServer::start().await;
    let root = server.superuser().await;
    let mut client = server.admin().await;
    server.person().await;
    server.person().await;
    let first = v1::ListUsersRequest {
        page_size: 1,
        phone_number_prefix: "+998".to_owned(),
        ..v1::ListUsersRequest::default()
    };
    let page_token = list(&mut client, &root, first.clone()).await.next_page_token;
    let next = v1::ListUsersRequest {
        page_token: page_token.clone(),
        ..first
    };
    assert_eq!(list(&mut client, &root, next.clone()).await.users.len(), 1);
    for other in [
        v1::ListUsersRequest {
            phone_number_prefix: "+9989".to_owned(),
            ..next.clone()
        },
        v1::ListUsersRequest {
            order: v1::UserOrder::CreatedAt.into(),
            ..next.clone()
        },
        v1::ListUsersRequest {
            descending: true,
            ..next.clone()
        },
        v1::ListUsersRequest {
            is_staff: Some(false),
            ..next.clone()
        },
        v1::ListUsersRequest {
            page_token: page_token[1..].to_owned(),
            ..next.clone()
        },
        v1::ListUsersRequest {
            page_token: "x".repeat(60_000),
            ..next.clone()
        },
        v1::ListUsersRequest {
            page_token: "' OR 1=1 --".to_owned(),
            ..next
        },
    ] {
        let refused = client.list_users(root.asks(other)).await;
        assert_violations(refused, &[("page_token", "PAGE_TOKEN_INVALID")]);
    }
}

#[tokio::test]
async fn all_violations_of_a_list_are_reported_at_once() {
    let server = TestServer::start().await;
    let staff = server.staff().await;
    let mut client = server.admin().await;
    let time = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
    let request = v1::ListUsersRequest {
        page_size: -1,
        page_token: "x".to_owned(),
        phone_number_prefix: "998".to_owned(),
        status: 77,
        order: 78,
        created: Some(v1::TimeRange {
            start_time: time(i64::MAX, 0),
            end_time: time(0, -1),
        }),
        last_login: Some(v1::TimeRange {
            start_time: time(-62_135_596_801, 0),
            end_time: time(0, 1_000_000_000),
        }),
        ..v1::ListUsersRequest::default()
    };
    let refused = client.list_users(staff.asks(request.clone())).await;
    let violations = [
        ("page_size", "OUT_OF_RANGE"),
        ("phone_number_prefix", "PHONE_NUMBER_PREFIX_INVALID"),
        ("status", "ENUM_VALUE_UNKNOWN"),
        ("created.start_time", "TIME_INVALID"),
        ("created.end_time", "TIME_INVALID"),
        ("last_login.start_time", "TIME_INVALID"),
        ("last_login.end_time", "TIME_INVALID"),
        ("order", "ENUM_VALUE_UNKNOWN"),
    ];
    assert_violations(refused, &violations);
    // The first and the last moment that the contract has are no fault on any database.
    let (first, last) = (time(-62_135_596_800, 0), time(253_402_300_799, 999_999_000));
    let person = server.person().await;
    for (start_time, end_time, is_in) in [
        (first, last, true),
        (first, None, true),
        (None, last, true),
        (None, first, false),
        (last, None, false),
        (time(-30_000_000_000, 0), time(8_000_000_000, 0), true),
        (time(8_000_000_000, 0), None, false),
        (None, time(-30_000_000_000, 0), false),
    ] {
        let range = Some(v1::TimeRange { start_time, end_time });
        let all = v1::ListUsersRequest::default;
        for (what, request) in [
            (
                "created",
                v1::ListUsersRequest {
                    created: range,
                    ..all()
                },
            ),
            (
                "last login",
                v1::ListUsersRequest {
                    last_login: range,
                    ..all()
                },
            ),
        ] {
            let page = list(&mut client, &staff, request).await;
            let expected = if is_in {
                vec![person.phone_number.as_str()]
            } else {
                Vec::new()
            };
            assert_eq!(numbers(&page), expected, "{what} {range:?}");
        }
    }
    let bare = client.list_users(v1::ListUsersRequest::default()).await;
    assert_refused(bare, Code::Unauthenticated, "SESSION_INVALID");
}

/// Users that never signed in come first, on every database. A page may end between them and the others.
#[tokio::test]
async fn users_that_never_signed_in_come_first() {
    let server = TestServer::start().await;
    let root = server.superuser().await;
    server.clock.advance(Duration::from_secs(1));
    let mut client = server.admin().await;
    let database = server.place.connect().await;
    let mut people = [1, 2, 3, 4].map(|number| Someone::new(format!("+{number}000"), at(0)));
    people.sort_by_key(|someone| someone.id);
    people[2].last_login_at = Some(at(5));
    people[3].last_login_at = Some(at(4));
    insert(&database, &people).await;
    let expected: Vec<Uuid> = [&people[0], &people[1], &people[3], &people[2]]
        .iter()
        .map(|someone| someone.id)
        .chain([root.user.user_id.parse().unwrap()])
        .collect();
    for page_size in 1..=6 {
        let mut found = everybody(&mut client, &root, page_size, false).await;
        assert_eq!(found, expected, "{page_size}");
        found = everybody(&mut client, &root, page_size, true).await;
        found.reverse();
        assert_eq!(found, expected, "{page_size}, descending");
    }
}

async fn everybody(client: &mut AdminClient, by: &Person, page_size: i32, descending: bool) -> Vec<Uuid> {
    let mut request = v1::ListUsersRequest {
        page_size,
        order: v1::UserOrder::LastLoginAt.into(),
        descending,
        ..v1::ListUsersRequest::default()
    };
    let mut found = Vec::new();
    // More pages than users would be an endless list.
    for _ in 0..10 {
        let page = list(client, by, request.clone()).await;
        found.extend(ids(&page));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    found
}

/// A list shows the same fields of a user as GetUser.
#[tokio::test]
async fn a_list_shows_current_users() {
    let server = TestServer::start().await;
    let (root, person) = (server.superuser().await, server.person().await);
    let mut client = server.admin().await;
    let page = list(&mut client, &root, v1::ListUsersRequest::default()).await;
    let mut shown: BTreeMap<String, v1::ManagedUser> = BTreeMap::new();
    for managed in page.users {
        shown.insert(managed.user.as_ref().unwrap().user_id.clone(), managed);
    }
    for user in [&root, &person] {
        let got = super::get(&server, &root, user).await;
        assert_eq!(shown[&user.user.user_id], got);
    }
    assert_eq!(shown[&person.user.user_id].user.as_ref().unwrap(), &person.user);
}
