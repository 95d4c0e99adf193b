//! Removal from the audit log: ids of deleted users, and old events.

use std::collections::HashSet;
use std::time::Duration;

use chrono::DateTime;
use phone_identity::proto::v1;
use sea_orm::Value;
use tonic::Code;
use uuid::Uuid;

use super::{Row, Watched, all, deletion};
use crate::support::refusal::assert_refused;
use crate::support::{OTHER_PASSWORD, PASSWORD, Person, TestServer, credentials};

/// Inserts this number of failed sign-ins of a user into the database.
pub(super) async fn write_failures(server: &TestServer, person: &Person, count: usize) {
    let at = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
    let user: Uuid = person.user.user_id.parse().unwrap();
    for start in (0..count).step_by(500) {
        let rows = 500.min(count - start);
        let statement = format!(
            "INSERT INTO audit_events (id, at, action, outcome, reason, actor, subject_id, \
             client_ip_address) VALUES {}",
            vec!["(?, ?, 'sign_in', 'refused', 'INVALID_CREDENTIALS', 'nobody', ?, '203.0.113.7')"; rows]
                .join(", ")
        );
        let values = (0..rows).flat_map(|number| {
            // Ids of ever later milliseconds, so that their order is known.
            let milliseconds = 1_767_225_600_000 + u64::try_from(start + number).unwrap();
            let id = uuid::Builder::from_unix_timestamp_millis(milliseconds, &[1; 10]).into_uuid();
            [Value::from(id), Value::from(at), Value::from(user)]
        });
        server.database.execute_with(&statement, values.collect()).await;
    }
}

/// Returns the number of events that name a user, as the actor or as the subject.
async fn naming(server: &TestServer, user: &str) -> usize {
    let rows = all(server).await;
    let names = |id: &Option<String>| id.as_deref() == Some(user);
    rows.iter()
        .filter(|(_, row)| names(&row.actor_id) || names(&row.subject_id))
        .count()
}

/// The data of the user is gone. The events are still there, and belong to one user. The events of others are
/// unchanged.
#[tokio::test]
async fn no_event_names_a_deleted_user() {
    let mut log = Watched::start(&[]).await;
    let mut client = log.client.clone();
    let person = log.person().await;
    let stranger = log.person().await;
    log.server.clock.advance(Duration::from_secs(1));
    // The user acts on itself and on another user; another user and an unknown caller act on it.
    let again = log.sign_in(&person, PASSWORD, false).await;
    let made = super::superuser(&log.number());
    let refused = client.create_superuser(again.asks(made)).await;
    assert_refused(refused, Code::PermissionDenied, "NOT_SUPERUSER");
    let wrong = client
        .authenticate(credentials(&person.phone_number, OTHER_PASSWORD))
        .await;
    assert_refused(wrong, Code::Unauthenticated, "INVALID_CREDENTIALS");
    let change = "UPDATE audit_events SET actor_id = (SELECT user_id FROM sessions WHERE user_id <> ? LIMIT 1) \
                  WHERE reason = 'INVALID_CREDENTIALS'";
    log.server.database.execute(change, &person).await;
    let before = all(&log.server).await;
    let user = person.user.user_id.as_str();
    assert_eq!(naming(&log.server, user).await, 4);

    client
        .delete_profile(again.asks(deletion(Some(PASSWORD))))
        .await
        .unwrap();

    let after = all(&log.server).await;
    assert_eq!(after.len(), before.len() + 1);
    let mut substitutes = HashSet::new();
    for (id, row) in &after {
        let Some((_, old)) = before.iter().find(|(before, _)| before == id) else {
            assert_eq!(row.action, "delete_profile");
            substitutes.extend([row.actor_id.clone().unwrap(), row.subject_id.clone().unwrap()]);
            assert_eq!((&row.session_id, &row.client_ip_address), (&None, &None));
            continue;
        };
        let is_theirs = |id: &Option<String>| id.as_deref() == Some(user);
        if !is_theirs(&old.actor_id) && !is_theirs(&old.subject_id) {
            assert_eq!(row, old);
            continue;
        }
        let mut expected = Row {
            session_id: None,
            client_ip_address: None,
            client_user_agent: None,
            has_request_id: false,
            ..old.clone()
        };
        for (old, new, expected) in [
            (&old.actor_id, &row.actor_id, &mut expected.actor_id),
            (&old.subject_id, &row.subject_id, &mut expected.subject_id),
        ] {
            if is_theirs(old) {
                substitutes.insert(new.clone().unwrap());
                expected.clone_from(new);
            }
        }
        assert_eq!(*row, expected);
    }
    // One id, which is that of no user.
    assert_eq!(substitutes.len(), 1);
    assert!(!substitutes.contains(user) && !substitutes.contains(&stranger.user.user_id));
    assert_eq!(naming(&log.server, user).await, 0);
    let dump = log.server.database.dump().await;
    let events = dump.lines().filter(|line| line.starts_with("audit_events."));
    let known = [
        user.replace('-', ""),
        person.session.session_id.replace('-', ""),
        again.session.session_id.replace('-', ""),
        person.phone_number.trim_start_matches('+').to_owned(),
    ];
    for line in events {
        assert!(!known.iter().any(|known| line.contains(known.as_str())), "{line}");
    }
}

/// Deletion must not make an administrator anonymous, neither by DeleteProfile nor by DeleteUser.
#[tokio::test]
async fn events_name_staff_and_superusers_after_their_deletion() {
    for flags in ["is_staff = TRUE", "is_superuser = TRUE"] {
        for by_themselves in [true, false] {
            let mut log = Watched::start(&[]).await;
            let mut client = log.client.clone();
            let (gone, root) = (log.person().await, log.person().await);
            let execute = async |flags: &str, person: &Person| {
                let statement = format!("UPDATE users SET {flags} WHERE id = ?");
                log.server.database.execute(&statement, person).await;
            };
            execute(flags, &gone).await;
            execute("is_superuser = TRUE", &root).await;
            let wrong = client
                .authenticate(credentials(&gone.phone_number, OTHER_PASSWORD))
                .await;
            assert_refused(wrong, Code::Unauthenticated, "INVALID_CREDENTIALS");
            log.server.clock.advance(Duration::from_secs(1));
            let before = all(&log.server).await;
            let (user, by, action) = if by_themselves {
                let request = gone.asks(deletion(Some(PASSWORD)));
                client.delete_profile(request).await.unwrap();
                (gone.user.user_id.clone(), &gone, "delete_profile")
            } else {
                let user_id = gone.user.user_id.clone();
                let request = root.asks(v1::DeleteUserRequest {
                    user_id: user_id.clone(),
                });
                log.server.admin().await.delete_user(request).await.unwrap();
                (user_id, &root, "delete_user")
            };
            let after = all(&log.server).await;
            assert_eq!(after[..before.len()], before, "{flags}");
            let deleted = Row::done(action).by(&by.user.user_id).to(&user);
            let deleted = deleted.session(&by.session.session_id).on_the_device();
            assert_eq!(
                after[before.len()..]
                    .iter()
                    .map(|(_, row)| row)
                    .collect::<Vec<_>>(),
                [&deleted]
            );
            assert_eq!(log.server.database.count("audit_erasures").await, 0);
        }
    }
}

/// A superuser that gives up the flags before the deletion is erased as a user, but for acts of administration.
#[tokio::test]
async fn actions_of_an_administrator_stay_attributable_after_a_demotion() {
    let mut log = Watched::start(&["--cleanup-interval=10ms"]).await;
    let mut client = log.client.clone();
    let thief = log.person().await;
    let make_superuser = "UPDATE users SET is_superuser = TRUE WHERE id = ?";
    log.server.database.execute(make_superuser, &thief).await;
    let made = client
        .create_superuser(thief.asks(super::superuser(&log.number())))
        .await;
    let made = made.unwrap().into_inner().user.unwrap().user_id;
    log.server.clock.advance(Duration::from_secs(1));
    let mut demotion = crate::admin::update_of(&log.server, &thief, &thief).await;
    demotion.is_superuser = Some(false);
    let mut admin = log.server.admin().await;
    admin.update_user(thief.asks(demotion)).await.unwrap();
    client
        .delete_profile(thief.asks(deletion(Some(PASSWORD))))
        .await
        .unwrap();
    // The background work has passed over them, too: an event that is written after the deletion is erased.
    write_failures(&log.server, &thief, 1).await;
    let count = async |what: &str| {
        log.server
            .database
            .count(&format!("audit_events WHERE {what}"))
            .await
    };
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let erased = async {
        while count("client_ip_address = '203.0.113.7'").await > 0 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), erased)
        .await
        .expect("it still names the user");
    let user = &thief.user.user_id;
    let named: Vec<Row> = all(&log.server)
        .await
        .into_iter()
        .map(|(_, row)| row)
        .filter(|row| row.actor_id.as_ref() == Some(user) || row.subject_id.as_ref() == Some(user))
        .collect();
    let done = |action: &str| {
        let row = Row::done(action).by(user).session(&thief.session.session_id);
        row.on_the_device()
    };
    assert_eq!(
        named,
        [
            done("create_superuser").to(&made),
            done("update_user").to(user).fields("is_superuser"),
        ]
    );
}

/// A call that began before a user was deleted may record its rejection later. The id is removed from such events as
/// long as such a call can run; after that, the deletion itself is forgotten.
#[tokio::test]
async fn a_late_event_does_not_name_a_deleted_user() {
    let server = TestServer::start_with(&["--cleanup-interval=10ms"]).await;
    let person = server.person().await;
    let stranger = server.person().await;
    let mut client = server.client().await;
    client
        .delete_profile(person.asks(deletion(Some(PASSWORD))))
        .await
        .unwrap();
    write_failures(&server, &person, 1).await;
    write_failures_of_later(&server, &stranger).await;
    let count = async |what: &str| server.database.count(&format!("audit_events WHERE {what}")).await;
    let late = "action = 'sign_in' AND subject_id IS NULL AND client_ip_address IS NULL";
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let erased = async {
        while count(late).await == 0 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), erased)
        .await
        .expect("it still names them");
    assert_eq!(naming(&server, &person.user.user_id).await, 0);
    assert_eq!(naming(&server, &stranger.user.user_id).await, 2);
    assert_eq!(
        count("client_ip_address = '203.0.113.7'").await,
        1,
        "the stranger's"
    );
    assert_eq!(server.database.count("audit_erasures").await, 1);
    server.clock.advance(Duration::from_mins(61));
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let forgotten = async {
        while server.database.count("audit_erasures").await > 0 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), forgotten)
        .await
        .expect("the id of the deleted user is still stored");
}

/// As [`write_failures`], under an id that is not taken by it.
async fn write_failures_of_later(server: &TestServer, person: &Person) {
    let at = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
    let user: Uuid = person.user.user_id.parse().unwrap();
    let statement = "INSERT INTO audit_events (id, at, action, outcome, reason, actor, subject_id, client_ip_address) \
                     VALUES (?, ?, 'sign_in', 'refused', 'INVALID_CREDENTIALS', 'nobody', ?, '203.0.113.7')";
    let values = vec![Value::from(Uuid::new_v4()), Value::from(at), Value::from(user)];
    server.database.execute_with(statement, values).await;
}

/// A user with more events than one statement changes.
#[tokio::test]
async fn a_deleted_user_is_removed_from_very_many_events() {
    let server = TestServer::start_with(&["--cleanup-interval=1h"]).await;
    let person = server.person().await;
    write_failures(&server, &person, 12_500).await;
    let mut client = server.client().await;
    client
        .delete_profile(person.asks(v1::DeleteProfileRequest {
            current_password: Some(PASSWORD.to_owned()),
        }))
        .await
        .unwrap();
    let user = &person.user.user_id;
    // Events that exceed one transaction.
    assert_eq!(naming(&server, user).await, 2_501);
    let server = server.restart_with(&["--cleanup-interval=10ms"]).await;
    let count = async |what: &str| server.database.count(&format!("audit_events WHERE {what}")).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let erased = async {
        while count("client_ip_address IS NOT NULL").await > 0 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), erased)
        .await
        .expect("they are still named");
    assert_eq!(naming(&server, user).await, 0);
    assert_eq!(count("action = 'sign_in'").await, 12_500);
}

/// Events are kept for a set time, and then removed, by a clock that a test can turn.
#[tokio::test]
async fn events_are_removed_when_they_are_old() {
    let server = TestServer::start_with(&["--audit-retention=90d", "--cleanup-interval=10ms"]).await;
    const DAY: Duration = Duration::from_hours(24);
    let old = server.person().await;
    write_failures(&server, &old, 1_200).await;
    server.clock.advance(DAY * 2);
    let young = server.person().await;
    assert_eq!(naming(&server, &old.user.user_id).await, 1_201);
    server.clock.advance(DAY * 88 + Duration::from_hours(12));
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let removed = async {
        while naming(&server, &old.user.user_id).await > 0 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), removed)
        .await
        .expect("they are still there");
    assert_eq!(naming(&server, &young.user.user_id).await, 1);
}
