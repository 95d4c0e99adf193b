//! Challenges (`expires_at`, `sent_at`), messages in the outbox (`due_at`, `expires_at`), and the hold on a changed
//! number (`phone_changed_at`).

use std::time::Duration;

use phone_identity::proto::v1;
use phone_identity::proto::v1::CodePurpose;
use tonic::{Code, Request};

use super::{HOUR, MAX_SKEW, SCENARIOS, Scenario, World};
use crate::codes::providers::{SECRET, secret, webhook};
use crate::codes::sending::{again, left, outcomes};
use crate::support::codes::{CEILING, code_of, codes, offered, wanted};
use crate::support::refusal::{assert_refused, refusal};
use crate::support::stub::{Answer, Stub};
use crate::support::{PASSWORD, Person, TestServer, next_phone_number, registration, with_bearer};
use crate::throttle::{until_rows, wait_of};

/// Returns a challenge for a user, and the request with its code.
async fn challenge(server: &TestServer, purpose: CodePurpose, person: &Person) -> v1::VerifyCodeRequest {
    let to = wanted(purpose, &person.phone_number);
    let sent = codes(server).await.send_code(to).await.unwrap().into_inner();
    answer(&sent.challenge_id, purpose, person)
}

fn answer(challenge_id: &str, purpose: CodePurpose, person: &Person) -> v1::VerifyCodeRequest {
    let code = code_of(
        challenge_id,
        purpose,
        &person.phone_number,
        Some(&person.user.user_id),
    );
    let mut request = offered(challenge_id, purpose, &code);
    if purpose == CodePurpose::ResetPassword {
        request.new_password = "a river in the morning".to_owned();
    }
    request
}

#[tokio::test]
async fn a_code_of_a_wrong_clock_is_valid_for_its_lifetime_at_most() {
    for scenario in SCENARIOS {
        let world = World::start(scenario, &["--code-lifetime=11m"]).await;
        let person = world.writer.person().await;
        let old = challenge(&world.writer, CodePurpose::SignIn, &person).await;
        let late = challenge(&world.writer, CodePurpose::SignIn, &person).await;
        let server = world.corrected();
        let mut client = codes(server).await;
        let used = client.verify_code(old).await;
        if scenario.is_of_replicas() {
            used.unwrap();
        } else {
            assert_refused(used, Code::InvalidArgument, "CODE_INVALID");
        }
        // A new one is sent at once, and is valid.
        let new = challenge(server, CodePurpose::SignIn, &person).await;
        client.verify_code(new).await.unwrap();
        world.advance(Duration::from_mins(11) + scenario.slack());
        let used = client.verify_code(late.clone()).await;
        assert_refused(used, Code::InvalidArgument, "CODE_INVALID");
    }
}

/// Otherwise it would become valid again two days later.
#[tokio::test]
async fn a_code_of_a_clock_that_was_ahead_is_removed() {
    let world = World::start(Scenario::Ahead, &["--cleanup-interval=10ms"]).await;
    let person = world.writer.person().await;
    challenge(&world.writer, CodePurpose::SignIn, &person).await;
    until_rows(world.corrected(), "challenges", 0).await;
}

#[tokio::test]
async fn a_code_is_sent_again_within_the_interval_whatever_the_clock_was() {
    for scenario in SCENARIOS {
        let world = World::start(scenario, &["--code-lifetime=11m"]).await;
        let person = world.writer.person().await;
        let to = wanted(CodePurpose::SignIn, &person.phone_number);
        let sent = codes(&world.writer).await.send_code(to.clone()).await.unwrap();
        let id = sent.into_inner().challenge_id;
        let mut client = codes(world.corrected()).await;
        let refused = match client.send_code(again(&id)).await {
            Ok(_) => continue,
            Err(status) => refusal(&status),
        };
        // A new challenge is created at once.
        if refused.reason == "CODE_INVALID" {
            assert!(!scenario.is_of_replicas());
            client.send_code(to).await.unwrap();
            continue;
        }
        let wait = refused.retry_after.unwrap();
        assert!(wait <= Duration::from_secs(30), "{scenario:?}: {refused:?}");
        world.advance(wait);
        client.send_code(again(&id)).await.unwrap();
    }
}

/// A message that a provider has not taken is tried again in seconds, and not in two days.
#[tokio::test]
async fn a_message_of_a_wrong_clock_is_sent_or_given_up_at_once() {
    for scenario in SCENARIOS {
        let stub = Stub::start(&[Answer::Status(503, ""), Answer::Status(201, "{}")]).await;
        let key = secret(SECRET);
        let mut flags = webhook(&stub.url(), &key);
        // Longer than the difference of the clocks, or the replica that is ahead gives the code up.
        flags.extend([
            "--sms-providers=webhook".to_owned(),
            "--code-lifetime=11m".to_owned(),
        ]);
        flags.extend(CEILING.map(str::to_owned));
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let world = World::start(scenario, &flags).await;
        let person = world.writer.person().await;
        challenge(&world.writer, CodePurpose::SignIn, &person).await;
        // A replica that is ahead of the writer sees the lease as over, and may send the message before this observes
        // it.
        if scenario != Scenario::ReplicaBehind {
            is_put_off(&world.writer).await;
        }
        let server = world.corrected();
        // The first pause.
        world.advance(Duration::from_secs(1));
        left(server, 0).await;
        if scenario.is_of_replicas() {
            assert_eq!(outcomes(server).await[0].0, "done", "{scenario:?}");
        } else {
            // The code is invalid in both cases. If the cleanup was faster, the challenge is gone, and the message is
            // dropped.
            let is_sent = outcomes(server)
                .await
                .iter()
                .any(|(outcome, _)| outcome == "done");
            assert!(!is_sent || scenario == Scenario::Ahead, "{scenario:?}");
        }
        // New messages are sent at once.
        let sent = stub.requests().len();
        challenge(server, CodePurpose::SignIn, &person).await;
        left(server, 0).await;
        assert!(stub.requests().len() > sent, "{scenario:?}");
    }
}

/// Waits until the only message is due in a second, and not at the end of its lease.
async fn is_put_off(server: &TestServer) {
    use phone_identity::clock::Clock as _;
    let due_at = server.clock.now() + Duration::from_secs(1);
    crate::codes::outbox::is_due_at(server, due_at).await;
}

/// Changes the number of a user with a code.
async fn change(server: &TestServer, person: &mut Person) {
    let number = next_phone_number();
    let purpose = CodePurpose::ChangePhone;
    let mut client = codes(server).await;
    let sent = client
        .send_code(person.asks(wanted(purpose, &number)))
        .await
        .unwrap();
    person.phone_number = number;
    let answer = answer(&sent.into_inner().challenge_id, purpose, person);
    client.verify_code(person.asks(answer)).await.unwrap();
}

const HOLD: &[&str] = &["--phone-change-hold=2h", "--unverified-phone-change"];

#[tokio::test]
async fn a_number_changed_on_a_wrong_clock_is_held_for_the_hold_at_most() {
    for scenario in SCENARIOS {
        let world = World::start(scenario, HOLD).await;
        let mut person = world.writer.person().await;
        change(&world.writer, &mut person).await;
        let server = world.corrected();
        let mut client = codes(server).await;
        let reset = challenge(server, CodePurpose::ResetPassword, &person).await;
        let outcome = client.verify_code(reset).await;
        if scenario == Scenario::Behind {
            // The hold is over.
            outcome.unwrap();
            continue;
        }
        let refused = refusal(&outcome.unwrap_err());
        assert_eq!(refused.reason, "PHONE_CHANGED_RECENTLY");
        let wait = refused.retry_after.unwrap();
        // The hold is not weakened by more than replicas may differ.
        assert!(
            wait <= 2 * HOUR && wait + MAX_SKEW >= 2 * HOUR,
            "{scenario:?}: {wait:?}"
        );
        world.advance(wait - Duration::from_secs(1));
        let reset = challenge(server, CodePurpose::ResetPassword, &person).await;
        let outcome = client.verify_code(reset.clone()).await;
        assert_refused(outcome, Code::FailedPrecondition, "PHONE_CHANGED_RECENTLY");
        world.advance(Duration::from_secs(1));
        client.verify_code(reset).await.unwrap();
    }
}

/// UpdateProfile refuses a new password in a session by code, and another number without a code.
#[tokio::test]
async fn update_profile_is_blocked_for_the_hold_at_most() {
    for is_password in [true, false] {
        let world = World::start(Scenario::Ahead, HOLD).await;
        let mut person = world.writer.person().await;
        change(&world.writer, &mut person).await;
        let server = world.corrected();
        let update = match is_password {
            true => v1::UpdateProfileRequest {
                new_password: Some("a river in the morning".to_owned()),
                ..v1::UpdateProfileRequest::default()
            },
            false => v1::UpdateProfileRequest {
                new_phone_number: Some(next_phone_number()),
                ..v1::UpdateProfileRequest::default()
            },
        };
        for is_held in [true, false] {
            let sign_in = challenge(server, CodePurpose::SignIn, &person).await;
            let signed_in = codes(server).await.verify_code(sign_in).await.unwrap();
            let token = signed_in.into_inner().session_token;
            let request: Request<_> = with_bearer(&token, update.clone());
            let updated = server.client().await.update_profile(request).await;
            match (is_held, is_password) {
                (true, true) => {
                    assert_refused(updated, Code::FailedPrecondition, "REAUTHENTICATION_REQUIRED");
                }
                (true, false) => {
                    let wait = refusal(&updated.unwrap_err()).retry_after.unwrap();
                    assert_eq!(wait, 2 * HOUR);
                }
                (false, _) => drop(updated.unwrap()),
            }
            world.advance(2 * HOUR);
        }
    }
}

/// The owner of a number takes the account over to which a stranger has moved it, when the hold is over.
#[tokio::test]
async fn a_stranger_keeps_a_number_for_the_hold_at_most() {
    let world = World::start(Scenario::Ahead, HOLD).await;
    let stranger = world.writer.person().await;
    let taken = next_phone_number();
    let update = v1::UpdateProfileRequest {
        new_phone_number: Some(taken.clone()),
        ..v1::UpdateProfileRequest::default()
    };
    let mut client = world.writer.client().await;
    client.update_profile(stranger.asks(update)).await.unwrap();
    let server = world.corrected();
    for is_held in [true, false] {
        let mut owner = server.person().await;
        let mut client = codes(server).await;
        let to_number = wanted(CodePurpose::ChangePhone, &taken);
        let sent = client.send_code(owner.asks(to_number)).await.unwrap();
        owner.phone_number.clone_from(&taken);
        let answer = answer(&sent.into_inner().challenge_id, CodePurpose::ChangePhone, &owner);
        let refused = client.verify_code(owner.asks(answer)).await;
        assert_refused(refused, Code::AlreadyExists, "PHONE_NUMBER_TAKEN");
        assert_eq!(server.database.sessions_of(&stranger).await, i64::from(is_held));
        world.advance(2 * HOUR);
    }
}

/// The delays of codes are stored in `attempts`.
#[tokio::test]
async fn codes_asked_for_on_a_wrong_clock_delay_for_the_longest_delay_at_most() {
    for scenario in SCENARIOS {
        let world = World::start(scenario, &["--throttle-code-attempts=1"]).await;
        let number = next_phone_number();
        let registered = world.writer.client().await;
        { registered }
            .register(registration(&number, PASSWORD))
            .await
            .unwrap();
        let to = || wanted(CodePurpose::SignIn, &number);
        let mut client = codes(&world.writer).await;
        client.send_code(to()).await.unwrap();
        wait_of(client.send_code(to()).await);
        let mut client = codes(world.corrected()).await;
        let mut waited = Duration::ZERO;
        while let Err(status) = client.send_code(to()).await {
            let wait = wait_of::<v1::SendCodeResponse>(Err(status));
            waited += wait;
            assert!(
                !wait.is_zero() && waited <= Duration::from_mins(15),
                "{scenario:?}"
            );
            world.advance(wait);
        }
    }
}
