//! Random histories of two users and three numbers: numbers change and come back, other users take them, codes are
//! tried, sent again, used up and expired, and users leave. A model predicts the outcome of each step. After each step,
//! the test compares the user of every session with the model.
//!
//! The histories have a fixed seed. `PROPTEST_CASES` sets their number, and `HISTORIES_SEED` another seed.

mod model;
mod steps;

use std::time::Duration;

use phone_identity::proto::v1;
use phone_identity::proto::v1::CodePurpose;
use proptest::collection::vec;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tonic::{Request, Status};

use super::sending::again;
use crate::support::codes::{CodesClient, another, code_of, codes, offered, start_with_codes, wanted};
use crate::support::refusal::refusal;
use crate::support::{
    Client, TestServer, credentials, next_phone_number, registration, validation, with_bearer,
};
use model::{Model, NUMBERS, PASSWORDS, PEOPLE, Token};
use steps::{Bearer, Number, Step, Tried, story};

/// Two users and a server.
struct World {
    server: TestServer,
    client: Client,
    codes: CodesClient,
    model: Model,
}

impl World {
    async fn new() -> Self {
        let server = start_with_codes(&[
            "--throttle-code-attempts=0",
            "--sms-limit-number=none",
            "--sms-limit-prefix=none",
            "--sms-pumping-codes=0",
            "--session-lifetime=1000d",
            "--session-idle-lifetime=1000d",
        ])
        .await;
        let (client, codes) = (server.client().await, codes(&server).await);
        let numbers = [(); NUMBERS].map(|()| next_phone_number());
        let mut world = Self {
            server,
            client,
            codes,
            model: Model::new(numbers),
        };
        for person in 0..PEOPLE {
            world
                .take(Step::Register {
                    person,
                    number: person,
                })
                .await;
        }
        world
    }

    /// Does a step, and compares the result with that of the model.
    async fn take(&mut self, step: Step) {
        match step {
            Step::Register { person, number } => self.register(person, number).await,
            Step::SignIn { person } => self.sign_in(person).await,
            Step::SignOut { person } => self.sign_out(person).await,
            Step::Leave { person } => self.leave(person).await,
            Step::Ask {
                purpose,
                person,
                number,
            } => self.ask(purpose, person, number).await,
            Step::AskAgain { challenge } => self.ask_again(challenge).await,
            Step::Meet {
                challenge,
                by,
                code,
                with_password,
            } => {
                self.meet(challenge, by, code, with_password).await;
            }
            Step::Wait { seconds } => {
                self.server.clock.advance(Duration::from_secs(seconds));
                self.model.now += seconds;
            }
        }
        self.look().await;
    }

    /// The sessions of all users agree with the model, and show the fields that it knows.
    async fn look(&mut self) {
        for (token, owner) in self.model.sessions() {
            let seen = self.client.validate_session(validation(&token)).await;
            match owner {
                None => assert_eq!(reason(&seen.unwrap_err()), "SESSION_INVALID"),
                Some(person) => {
                    let user = seen.unwrap().into_inner().user.unwrap();
                    let seen = (
                        user.user_id.as_str(),
                        user.phone_number.as_str(),
                        user.phone_verified_at.is_some(),
                        user.has_password,
                    );
                    let known = self.model.person(person);
                    let number = self.model.numbers[known.number].as_str();
                    let expected = (
                        known.id.as_str(),
                        number,
                        known.is_verified,
                        known.password.is_some(),
                    );
                    assert_eq!(seen, expected);
                }
            }
        }
    }

    async fn register(&mut self, person: usize, number: usize) {
        if self.model.people[person].is_some() {
            return;
        }
        let number_text = self.model.numbers[number].clone();
        let outcome = self
            .client
            .register(registration(&number_text, PASSWORDS[0]))
            .await;
        if self.model.holder(number).is_some() {
            return assert_eq!(reason(&outcome.unwrap_err()), "PHONE_NUMBER_TAKEN");
        }
        let response = outcome.unwrap().into_inner();
        let id = response.user.unwrap().user_id;
        self.model.registered(person, number, id, response.session_token);
    }

    async fn sign_in(&mut self, person: usize) {
        let Some(known) = &self.model.people[person] else {
            return;
        };
        let number = self.model.numbers[known.number].clone();
        let password = known.password;
        let request = credentials(&number, password.unwrap_or(PASSWORDS[0]));
        let outcome = self.client.authenticate(request).await;
        match password {
            None => assert_eq!(reason(&outcome.unwrap_err()), "INVALID_CREDENTIALS"),
            Some(_) => {
                let token = outcome.unwrap().into_inner().session_token;
                self.model.signed_in(person, token);
            }
        }
    }

    async fn sign_out(&mut self, person: usize) {
        if let Some(Token { text, .. }) = self.model.token(person) {
            let request = v1::RevokeSessionRequest { session_token: text };
            self.client.revoke_session(request).await.unwrap();
            self.model.signed_out(person);
        }
    }

    async fn leave(&mut self, person: usize) {
        let Some(token) = self.model.token(person) else {
            return;
        };
        let request = v1::DeleteProfileRequest {
            current_password: self.model.person(person).password.map(str::to_owned),
        };
        let outcome = self
            .client
            .delete_profile(with_bearer(&token.text, request))
            .await;
        if self.model.person(person).password.is_some() || self.model.is_fresh(&token) {
            outcome.unwrap();
            self.model.left(person);
        } else {
            assert_eq!(reason(&outcome.unwrap_err()), "REAUTHENTICATION_REQUIRED");
        }
    }

    async fn ask(&mut self, purpose: CodePurpose, person: usize, number: Number) {
        let of = |person: usize| self.model.people[person].as_ref().map(|person| person.number);
        let number = match number {
            Number::Own => of(person),
            Number::OfOther => of(1 - person),
            Number::These(number) => Some(number),
        };
        // A user that is not registered has no number.
        let number = number.unwrap_or_default();
        let number_text = self.model.numbers[number].clone();
        let token = self.model.token(person);
        let (request, is_bearers) = match purpose {
            CodePurpose::VerifyPhone => (wanted(purpose, ""), true),
            CodePurpose::ChangePhone => (wanted(purpose, &number_text), true),
            _ => (wanted(purpose, &number_text), false),
        };
        let request = if is_bearers {
            bearer(token.as_ref(), request)
        } else {
            Request::new(request)
        };
        let outcome = self.codes.send_code(request).await;
        if is_bearers && token.is_none() {
            return assert_eq!(reason(&outcome.unwrap_err()), "SESSION_INVALID");
        }
        let id = outcome.unwrap().into_inner().challenge_id;
        let number = if purpose == CodePurpose::VerifyPhone {
            self.model.person(person).number
        } else {
            number
        };
        let of = if purpose == CodePurpose::ChangePhone {
            Some(person)
        } else {
            self.model.holder(number)
        };
        let user_id = of.map(|person| self.model.person(person).id.clone());
        let code = code_of(&id, purpose, &self.model.numbers[number], user_id.as_deref());
        self.model.asked(id, purpose, number, user_id, code);
    }

    async fn ask_again(&mut self, challenge: usize) {
        let Some(index) = self.model.recent(challenge) else {
            return;
        };
        let request = again(&self.model.challenges[index].id);
        let outcome = self.codes.send_code(request).await;
        match self.model.asked_again(index) {
            Ok(()) => assert_eq!(
                outcome.unwrap().into_inner().challenge_id,
                self.model.challenges[index].id
            ),
            Err(expected) => assert_eq!(reason(&outcome.unwrap_err()), expected),
        }
    }

    async fn meet(&mut self, challenge: usize, by: Bearer, code: Tried, with_password: bool) {
        let Some(index) = self.model.recent(challenge) else {
            return;
        };
        let owner = self.model.owner(index).unwrap_or_default();
        let person = match by {
            Bearer::Owner => owner,
            Bearer::Other => 1 - owner,
        };
        let known = self.model.challenges[index].clone();
        let code = match code {
            Tried::Right => known.code.clone(),
            Tried::Wrong => another(&known.code),
            Tried::OfChallenge(other) => {
                let other = self.model.recent(other).unwrap_or(index);
                self.model.challenges[other].code.clone()
            }
        };
        let mut request = offered(&known.id, known.purpose, &code);
        let token = self.model.token(person);
        let password = self.model.people[person]
            .as_ref()
            .and_then(|person| person.password);
        let with_password = with_password && known.purpose == CodePurpose::ChangePhone;
        if with_password {
            request.current_password = Some(password.unwrap_or(PASSWORDS[0]).to_owned());
        }
        if known.purpose == CodePurpose::ResetPassword {
            request.new_password = PASSWORDS[1].to_owned();
        }
        let outcome = match known.purpose {
            CodePurpose::VerifyPhone | CodePurpose::ChangePhone => {
                self.codes.verify_code(bearer(token.as_ref(), request)).await
            }
            _ => self.codes.verify_code(request).await,
        };
        match self.model.met(index, person, &code, with_password) {
            Err(expected) => assert_eq!(reason(&outcome.unwrap_err()), expected),
            Ok(owner) => {
                let response = outcome.unwrap().into_inner();
                assert_eq!(response.user.unwrap().user_id, self.model.person(owner).id);
                let is_sign_in = known.purpose == CodePurpose::SignIn;
                assert_eq!(response.session_token.is_empty(), !is_sign_in);
                if is_sign_in {
                    self.model.signed_in(owner, response.session_token);
                }
            }
        }
    }
}

fn bearer<T>(token: Option<&Token>, message: T) -> Request<T> {
    match token {
        Some(token) => with_bearer(&token.text, message),
        None => Request::new(message),
    }
}

fn reason(status: &Status) -> String {
    refusal(status).reason
}

#[test]
fn random_histories_agree_with_the_model() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let seed: u8 = std::env::var("HISTORIES_SEED").map_or(7, |seed| seed.parse().unwrap());
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::with_cases(std::env::var("PROPTEST_CASES").map_or(24, |cases| cases.parse().unwrap()))
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let outcome = TestRunner::new_with_rng(config, rng).run(&vec(story(), 1..40), |stories| {
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in stories.into_iter().flatten() {
                world.take(step).await;
            }
        });
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
