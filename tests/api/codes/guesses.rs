//! Wrong codes count by number over all challenges, and those of strangers do not stop the owner.

use std::time::Duration;

use phone_identity::proto::v1::CodePurpose;
use tonic::Code;
use uuid::Uuid;

use super::limits::start;
use super::owners::on_known_device;
use super::{Challenge, verify};
use crate::support::codes::{CodesClient, another, codes, offered};
use crate::support::refusal::assert_refused;
use crate::support::{Person, TestServer, next_phone_number};
use crate::throttle::wait_of;

const FREE: usize = 7;
const RECOVERY: Duration = Duration::from_hours(1);

async fn server() -> TestServer {
    start(&["--throttle-code-guess-attempts=7"]).await
}

/// Tries a wrong code for a challenge.
async fn guess(client: &mut CodesClient, challenge: &Challenge) {
    let wrong = client
        .verify_code(challenge.with(&another(challenge.code())))
        .await;
    assert_refused(wrong, Code::InvalidArgument, "CODE_INVALID");
}

/// Requests a challenge on a known device of a user.
async fn on_device(server: &TestServer, client: &mut CodesClient, person: &Person) -> Challenge {
    let request = on_known_device(server, person).await;
    let id = client.send_code(request).await.unwrap().into_inner().challenge_id;
    Challenge::known(id, CodePurpose::SignIn, person)
}

#[tokio::test]
async fn wrong_codes_count_over_all_challenges_of_a_number_and_are_forgotten() {
    let server = server().await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    let purposes = [CodePurpose::SignIn, CodePurpose::ResetPassword];
    for round in 0..FREE {
        let challenge = Challenge::of(&mut client, purposes[round % 2], &person).await;
        guess(&mut client, &challenge).await;
    }
    // The right code is not checked, either. It is valid after one guess has recovered.
    let challenge = Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
    assert_eq!(wait_of(client.verify_code(challenge.met()).await), RECOVERY);
    assert_eq!(wait_of(client.verify_code(challenge.met()).await), RECOVERY);
    // Another number has guesses of its own.
    let other = Challenge::of_unknown_number(&mut client, CodePurpose::SignIn, &next_phone_number()).await;
    guess(&mut client, &other).await;
    server.clock.advance(RECOVERY);
    for _ in 0..3 {
        // A right code is refunded.
        let challenge = Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
        client.verify_code(challenge.met()).await.unwrap();
    }
    let challenge = Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
    guess(&mut client, &challenge).await;
    assert_eq!(wait_of(client.verify_code(challenge.met()).await), RECOVERY);
}

#[tokio::test]
async fn a_number_without_an_account_counts_and_an_unknown_challenge_does_not() {
    let server = server().await;
    let mut client = codes(&server).await;
    for _ in 0..3 {
        let unknown = Uuid::new_v4().to_string();
        let refused = client
            .verify_code(offered(&unknown, CodePurpose::SignIn, "123456"))
            .await;
        assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
    }
    assert_eq!(server.database.count("attempts").await, 0);
    let number = next_phone_number();
    for _ in 0..FREE {
        let challenge = Challenge::of_unknown_number(&mut client, CodePurpose::SignIn, &number).await;
        guess(&mut client, &challenge).await;
    }
    let challenge = Challenge::of_unknown_number(&mut client, CodePurpose::SignIn, &number).await;
    assert_eq!(wait_of(client.verify_code(challenge.met()).await), RECOVERY);
}

#[tokio::test]
async fn guesses_of_strangers_do_not_stop_a_known_device_or_a_session() {
    let server = server().await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    for _ in 0..FREE {
        let challenge = Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
        guess(&mut client, &challenge).await;
    }
    let challenge = Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
    assert_eq!(wait_of(client.verify_code(challenge.met()).await), RECOVERY);
    verify(&server, &mut client, &person).await;
    let challenge = on_device(&server, &mut client, &person).await;
    client.verify_code(challenge.met()).await.unwrap();
    // They have a limit as well.
    for _ in 0..FREE {
        let challenge = on_device(&server, &mut client, &person).await;
        guess(&mut client, &challenge).await;
    }
    let challenge = on_device(&server, &mut client, &person).await;
    assert_eq!(wait_of(client.verify_code(challenge.met()).await), RECOVERY);
}
