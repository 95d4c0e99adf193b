//! Concurrent changes of the same users: transactions conflict, on every database in its own way, and callers do not
//! notice.

use std::time::Duration;

use phone_identity::proto::v1;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::support::{Client, PASSWORD, TestServer, credentials, validation, with_bearer};

const PEOPLE: usize = 3;
const DEVICES: usize = 6;
const ROUNDS: usize = 6;

/// Signs in, uses the session, changes the user, and ends sessions: that one, the others, or none.
async fn use_a_device(mut client: Client, phone_number: String, device: usize) -> Result<(), Status> {
    for round in 0..ROUNDS {
        let signed_in = client.authenticate(credentials(&phone_number, PASSWORD)).await?;
        let token = signed_in.into_inner().session_token;
        client.validate_session(validation(&token)).await?;
        let locale = ["en", "uz", "ru", "tr"][(device + round) % 4];
        let update = v1::UpdateProfileRequest {
            locale: Some(locale.to_owned()),
            ..v1::UpdateProfileRequest::default()
        };
        client.update_profile(with_bearer(&token, update)).await?;
        match (device + round) % 3 {
            0 => {
                let others = v1::RevokeSessionsRequest {
                    all_others: true,
                    ..v1::RevokeSessionsRequest::default()
                };
                client.revoke_sessions(with_bearer(&token, others)).await?;
            }
            1 => {
                let session_token = token.clone();
                client
                    .revoke_session(v1::RevokeSessionRequest { session_token })
                    .await?;
            }
            _ => {}
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_calls_reveal_nothing_but_that_a_session_has_ended() {
    // Fewer sessions than devices, so that signing in ends some, too.
    let server = TestServer::start_with(&[
        "--max-sessions=4",
        "--cleanup-interval=10ms",
        "--session-idle-lifetime=10h",
        "--reauthentication-window=30d",
    ])
    .await;
    let people = server.people(PEOPLE).await;
    let mut devices = JoinSet::new();
    for person in &people {
        for device in 0..DEVICES {
            let (client, phone_number) = (server.client().await, person.phone_number.clone());
            devices.spawn(async move {
                let mut again = 0;
                while let Err(status) = use_a_device(client.clone(), phone_number.clone(), device).await {
                    // Another device has ended this one's session.
                    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
                    again += 1;
                    if again == ROUNDS {
                        break;
                    }
                }
            });
        }
    }
    // Whole hours pass meanwhile, so that background tasks write the use and the end of sessions. It is less than a
    // day, after which entries of the change log are removed.
    let mut hours = 0..22;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    while let Some(ended) = tokio::select! {
        ended = devices.join_next() => ended,
        _ = ticks.tick(), if hours.next().is_some() => {
            server.clock.advance(Duration::from_secs(3600));
            Some(Ok(()))
        }
    } {
        ended.unwrap();
    }
    let count = async |table: &str| server.database.count(table).await;
    let entries = count("identity_changes").await;
    assert!(entries > 0);
    // Without a hole and without a double.
    assert_eq!(
        count("change_log WHERE last_seq = (SELECT COUNT(*) FROM identity_changes)").await,
        1
    );
    assert_eq!(
        count("change_log WHERE last_seq = (SELECT MAX(seq) FROM identity_changes)").await,
        1
    );
    // A retried change has one entry in the audit log and one in the change log.
    for (action, kind) in [
        ("update_profile", "user_changed"),
        ("revoke_sessions", "sessions_revoked"),
    ] {
        let events = format!("audit_events WHERE outcome = 'done' AND action = '{action}'");
        let entries = format!("identity_changes WHERE kind = '{kind}'");
        assert_eq!(count(&events).await, count(&entries).await, "{action}");
    }
    // A session was revoked by its token, or pushed out by a sign-in; there may be several of these in one event.
    let revoked = count("identity_changes WHERE kind = 'session_revoked'").await;
    let by_token = count("audit_events WHERE outcome = 'done' AND action = 'revoke_session'").await;
    let sign_ins = "audit_events WHERE outcome = 'done' AND action = 'sign_in' AND ended_sessions";
    let (most, some) = (
        count(&format!("{sign_ins} > 1")).await,
        count(&format!("{sign_ins} = 1")).await,
    );
    assert!(by_token > 0 && some > 0);
    assert_eq!(most, 0, "one gives way to one");
    assert_eq!(revoked, by_token + some);
    for person in &people {
        assert!(server.database.sessions_of(person).await <= 4);
    }
}

/// Calls that end somewhere between BEGIN and COMMIT leave no connection that cannot begin another transaction.
#[tokio::test]
async fn calls_that_are_cancelled_leave_the_connections_as_they_were() {
    let server = TestServer::start_with(&["--database-connections=2"]).await;
    let person = server.person().await;
    let client = server.client().await;
    let mut cancelled = 0;
    for number in 0..400_u64 {
        let token = person.sign_in_again(&server).await.token;
        let mut client = client.clone();
        let revoke = v1::RevokeSessionRequest { session_token: token };
        // Spread over the time that such a call takes.
        let patience = Duration::from_micros(50 * (number % 40));
        let outcome = timeout(patience, client.revoke_session(revoke)).await;
        cancelled += usize::from(outcome.is_err());
    }
    assert!(cancelled > 20, "{cancelled} calls were cancelled");
    // Every connection is used, and more than once.
    for _ in 0..8 {
        person.sign_in_again(&server).await;
    }
}
