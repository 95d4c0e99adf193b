//! The change log (`identity_changes.at`), the audit log (`audit_events.at`) and its erasures (`audit_erasures.at`).

use std::time::Duration;

use phone_identity::proto::v1;
use tokio::time::Instant;
use tonic::Code;

use super::{DAY, HOUR, SCENARIOS, Scenario, World};
use crate::replicas::{check_until, revoke};
use crate::support::refusal::assert_refused;
use crate::support::{PASSWORD, validation};
use crate::throttle::until_rows;

/// Replicas read the entries by their numbers.
#[tokio::test]
async fn a_revocation_on_a_wrong_clock_holds_everywhere() {
    for scenario in SCENARIOS {
        let world = World::start(scenario, &[]).await;
        let person = world.writer.person().await;
        let (mut client, mut judge) = (world.writer.client().await, world.judge().client().await);
        judge.validate_session(validation(&person.token)).await.unwrap();
        revoke(&mut client, &person.token).await;
        world.corrected();
        if scenario.is_of_replicas() {
            check_until(&mut judge, &person.token, Instant::now(), Code::Unauthenticated).await;
        }
        let checked = judge.validate_session(validation(&person.token)).await;
        assert_refused(checked, Code::Unauthenticated, "SESSION_INVALID");
    }
}

/// An entry that is ahead is pruned with the next later entry that is old.
#[tokio::test]
async fn the_change_log_is_pruned_after_a_day_whatever_the_clock_was() {
    for scenario in SCENARIOS {
        let world = World::start(scenario, &["--cleanup-interval=10ms"]).await;
        let people = world.writer.people(3).await;
        revoke(&mut world.writer.client().await, &people[0].token).await;
        let server = world.corrected();
        // Entries of a clock that is right. The newest stays.
        for person in &people[1..] {
            revoke(&mut server.client().await, &person.token).await;
        }
        world.advance(DAY + Duration::from_mins(11));
        until_rows(server, "identity_changes", 1).await;
    }
}

/// The retention of an event is longer or shorter by the error of its clock.
#[tokio::test]
async fn events_of_a_wrong_clock_leave_the_audit_log() {
    for scenario in SCENARIOS {
        let flags = ["--audit-retention=7d", "--cleanup-interval=10ms"];
        let world = World::start(scenario, &flags).await;
        world.writer.person().await;
        let server = world.corrected();
        world.advance(7 * DAY + scenario.offset().to_std().unwrap_or_default() + Duration::from_secs(1));
        until_rows(server, "audit_events", 0).await;
    }
}

/// For an hour the cleanup looks for late events that name the deleted user.
#[tokio::test]
async fn an_erasure_of_a_wrong_clock_ends_an_hour_after_the_correction() {
    for scenario in SCENARIOS {
        let world = World::start(scenario, &["--cleanup-interval=10ms"]).await;
        let person = world.writer.person().await;
        let request = v1::DeleteProfileRequest {
            current_password: Some(PASSWORD.to_owned()),
        };
        let mut client = world.writer.client().await;
        client.delete_profile(person.asks(request)).await.unwrap();
        let server = world.corrected();
        if scenario == Scenario::Ahead {
            // Waits until the cleanup has corrected it.
            let now = phone_identity::clock::Clock::now(server.clock.as_ref());
            let mut ticks = tokio::time::interval(Duration::from_millis(5));
            let corrected = async {
                loop {
                    let rows = server.database.rows("SELECT at FROM audit_erasures").await;
                    let at: phone_identity::clock::Timestamp = rows[0].try_get("", "at").unwrap();
                    if at == now {
                        return;
                    }
                    ticks.tick().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), corrected)
                .await
                .expect("is not corrected");
        }
        world.advance(HOUR + scenario.slack() + Duration::from_secs(1));
        until_rows(server, "audit_erasures", 0).await;
    }
}
