//! Sessions (`created_at`, `last_seen_at`, `expires_at`) and service keys (`created_at`, `revoked_at`).

use std::time::Duration;

use phone_identity::clock::Clock as _;
use phone_identity::proto::v1;
use phone_identity::proto::v1::Consistency;
use tonic::Code;

use super::{DAY, HOUR, MAX_SKEW, SCENARIOS, Scenario, World};
use crate::access::{REQUIRE_KEY, check, make_key, revoke_key};
use crate::replicas::PATIENCE;
use crate::support::refusal::assert_refused;
use crate::support::{Person, TestServer, with_bearer};

async fn validate(
    server: &TestServer,
    person: &Person,
    consistency: Consistency,
) -> Result<tonic::Response<v1::ValidateSessionResponse>, tonic::Status> {
    let request = v1::ValidateSessionRequest {
        session_token: person.token.clone(),
        consistency: consistency.into(),
    };
    server.client().await.validate_session(request).await
}

/// A session of a wrong clock is used once after the correction, and then either not at all or all the time.
async fn lifetime(scenario: Scenario, flags: &[&str], lifetime: Duration, is_used: bool) {
    let world = World::start(scenario, flags).await;
    let person = world.writer.person().await;
    // Puts it into the cache.
    validate(&world.writer, &person, Consistency::MinimizeLatency)
        .await
        .unwrap();
    let server = world.corrected();
    let checked = validate(server, &person, Consistency::MinimizeLatency).await;
    if scenario == Scenario::Behind {
        // A new sign-in succeeds at once.
        assert_refused(checked, Code::Unauthenticated, "SESSION_EXPIRED");
        let again = person.sign_in_again(server).await;
        validate(server, &again, Consistency::Strong).await.unwrap();
        return;
    }
    let session = checked.unwrap().into_inner().session.unwrap();
    let now = server.clock.now().timestamp();
    let ends = |time: Option<prost_types::Timestamp>| time.unwrap().seconds - now;
    let slack = i64::try_from(scenario.slack().as_secs()).unwrap();
    let lifetime_in_seconds = i64::try_from(lifetime.as_secs()).unwrap();
    assert!(
        ends(session.idle_expires_at) <= lifetime_in_seconds + slack,
        "{scenario:?}: {session:?}"
    );
    let mut rest = lifetime + scenario.slack();
    if is_used {
        let step = lifetime / 10;
        while rest > step {
            world.advance(step);
            rest -= step;
            let checked = validate(server, &person, Consistency::MinimizeLatency).await;
            assert!(
                checked.is_ok() || rest <= MAX_SKEW + step,
                "{scenario:?}: {rest:?}"
            );
        }
    }
    world.advance(rest);
    for consistency in [Consistency::MinimizeLatency, Consistency::Strong] {
        let checked = validate(server, &person, consistency).await;
        assert_refused(checked, Code::Unauthenticated, "SESSION_EXPIRED");
    }
}

#[tokio::test]
async fn a_session_of_a_wrong_clock_idles_for_its_idle_lifetime_at_most() {
    for scenario in SCENARIOS {
        lifetime(scenario, &["--session-idle-lifetime=12h"], DAY / 2, false).await;
    }
}

#[tokio::test]
async fn a_session_of_a_wrong_clock_lives_for_its_lifetime_at_most() {
    for scenario in SCENARIOS {
        lifetime(scenario, &["--session-lifetime=24h"], DAY, true).await;
    }
}

/// The session was created before the clock was wrong.
#[tokio::test]
async fn a_use_on_a_clock_that_was_ahead_does_not_prolong_a_session() {
    let flags = ["--session-idle-lifetime=4d"];
    let server = TestServer::start_with(&flags).await;
    let person = server.person().await;
    server.clock.shift_wall(chrono::TimeDelta::days(2));
    validate(&server, &person, Consistency::MinimizeLatency)
        .await
        .unwrap();
    server.clock.shift_wall(chrono::TimeDelta::days(-2));
    let session = validate(&server, &person, Consistency::MinimizeLatency)
        .await
        .unwrap();
    let session = session.into_inner().session.unwrap();
    let now = server.clock.now().timestamp();
    assert_eq!(session.last_seen_at.unwrap().seconds, now);
    assert_eq!(session.created_at, person.session.created_at);
    assert_eq!(session.expires_at, person.session.expires_at);
    server.clock.advance(4 * DAY);
    let checked = validate(&server, &person, Consistency::MinimizeLatency).await;
    assert_refused(checked, Code::Unauthenticated, "SESSION_EXPIRED");
}

/// A recent sign-in replaces the password for the reauthentication window.
#[tokio::test]
async fn a_sign_in_on_a_wrong_clock_is_recent_for_the_window_at_most() {
    for scenario in SCENARIOS {
        // With and without a check that corrects the session before.
        for is_checked in [true, false] {
            let world = World::start(scenario, &[]).await;
            let person = world.writer.person().await;
            let server = world.corrected();
            if is_checked {
                validate(server, &person, Consistency::Strong).await.unwrap();
            }
            // The default of `--reauthentication-window`.
            world.advance(Duration::from_mins(5) + scenario.slack() + Duration::from_secs(1));
            let mut client = server.client().await;
            let request = || v1::DeactivateProfileRequest::default();
            let refused = client.deactivate_profile(person.asks(request())).await;
            assert_refused(refused, Code::FailedPrecondition, "REAUTHENTICATION_REQUIRED");
            let again = person.sign_in_again(server).await;
            client
                .deactivate_profile(with_bearer(&again.token, request()))
                .await
                .unwrap();
        }
    }
}

/// Keys have no lifetime. The command that creates and revokes them has the clock of the machine, which differs from
/// those of the servers.
#[tokio::test]
async fn a_service_key_is_valid_from_its_creation_to_its_revocation_whatever_the_clocks_are() {
    for scenario in SCENARIOS {
        let world = World::start(scenario, &[REQUIRE_KEY]).await;
        let (id, key) = make_key(&world.writer.place, "orders", "all").await;
        let mut client = world.writer.client().await;
        assert_eq!(
            check(&mut client, Some(&key)).await,
            "SESSION_INVALID",
            "{scenario:?}"
        );
        let mut client = world.corrected().client().await;
        assert_eq!(
            check(&mut client, Some(&key)).await,
            "SESSION_INVALID",
            "{scenario:?}"
        );
        assert!(revoke_key(&world.writer.place, &id).await.status.success());
        let revoked = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(5));
            while check(&mut client, Some(&key)).await != "SERVICE_UNKNOWN" {
                ticks.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, revoked)
            .await
            .expect("is not revoked");
        world.advance(3 * DAY + HOUR);
    }
}
