//! Service PhoneVerification: one-time codes by SMS. Requests (`sending`, `limits`, `owners`, `pumping`, `fairness`),
//! delivery (`providers`, `outbox`, `failover`, `unreached`), use (`exchange`, `changing`, `registering`, `holding`),
//! rejections (`refused`, `guesses`, `ending`), and random histories of all of these (`histories`).

mod changing;
pub(crate) mod ending;
mod exchange;
mod failover;
mod fairness;
mod guesses;
mod histories;
mod holding;
mod limits;
pub(crate) mod outbox;
mod owners;
pub(crate) mod providers;
mod pumping;
mod refused;
mod registering;
pub(crate) mod sending;
mod unreached;

use phone_identity::proto::v1;
use phone_identity::proto::v1::CodePurpose;
use tonic::{Code, Request, Response, Status};

use crate::support::codes::{CodesClient, another, code_of, codes, offered, start_with_codes, wanted};
use crate::support::refusal::assert_refused;
use crate::support::{Person, TestServer};

/// A challenge, and its right code.
pub(crate) struct Challenge {
    id: String,
    purpose: CodePurpose,
    code: String,
}

impl Challenge {
    /// Requests a code for the number of a user.
    pub(crate) async fn of(client: &mut CodesClient, purpose: CodePurpose, person: &Person) -> Self {
        let mut request = Request::new(wanted(purpose, &person.phone_number));
        if purpose == CodePurpose::VerifyPhone {
            request = person.asks(wanted(purpose, ""));
        }
        let id = client.send_code(request).await.unwrap().into_inner().challenge_id;
        Self::known(id, purpose, person)
    }

    /// Returns the challenge with this id for the number of a user.
    fn known(id: String, purpose: CodePurpose, person: &Person) -> Self {
        let code = code_of(&id, purpose, &person.phone_number, Some(&person.user.user_id));
        Self { id, purpose, code }
    }

    /// Requests a code for a new number of a user.
    async fn of_new_number(client: &mut CodesClient, person: &Person, phone_number: &str) -> Self {
        let purpose = CodePurpose::ChangePhone;
        let request = person.asks(wanted(purpose, phone_number));
        let id = client.send_code(request).await.unwrap().into_inner().challenge_id;
        let code = code_of(&id, purpose, phone_number, Some(&person.user.user_id));
        Self { id, purpose, code }
    }

    /// Requests a code for a number without an account.
    async fn of_unknown_number(client: &mut CodesClient, purpose: CodePurpose, phone_number: &str) -> Self {
        let sent = client.send_code(wanted(purpose, phone_number)).await.unwrap();
        let id = sent.into_inner().challenge_id;
        let code = code_of(&id, purpose, phone_number, None);
        Self { id, purpose, code }
    }

    pub(crate) fn code(&self) -> &str {
        &self.code
    }

    /// With the right code.
    pub(crate) fn met(&self) -> v1::VerifyCodeRequest {
        self.with(&self.code)
    }

    /// With some code.
    fn with(&self, code: &str) -> v1::VerifyCodeRequest {
        let mut request = offered(&self.id, self.purpose, code);
        if matches!(self.purpose, CodePurpose::ResetPassword | CodePurpose::Register) {
            request.new_password = NEW_PASSWORD.to_owned();
        }
        request
    }
}

/// The new password of a reset.
const NEW_PASSWORD: &str = "a river in the morning";

type Outcome = Result<Response<v1::VerifyCodeResponse>, Status>;

/// Verifies the number of a user with its session.
async fn verify(server: &TestServer, client: &mut CodesClient, person: &Person) {
    let challenge = Challenge::of(client, CodePurpose::VerifyPhone, person).await;
    client.verify_code(person.asks(challenge.met())).await.unwrap();
    let verified = "SELECT 1 FROM users WHERE id = ? AND phone_verified_at IS NOT NULL";
    assert!(server.database.knows(verified, person).await);
}

#[tokio::test]
async fn codes_leave_their_events() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    server
        .database
        .execute("DELETE FROM audit_events WHERE subject_id = ?", &person)
        .await;
    verify(&server, &mut client, &person).await;
    let sign_in = Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
    let refused = client.verify_code(sign_in.with(&another(&sign_in.code))).await;
    assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
    client.verify_code(sign_in.met()).await.unwrap();
    let reset = Challenge::of(&mut client, CodePurpose::ResetPassword, &person).await;
    client.verify_code(reset.met()).await.unwrap();
    let sql = "SELECT action, outcome, reason, actor, actor_id, subject_id, session_id, fields, ended_sessions \
               FROM audit_events WHERE action <> 'deliver_code' ORDER BY id";
    let rows = server.database.rows(sql).await;
    let events: Vec<String> = rows
        .iter()
        .map(|row| {
            let text = |column| {
                row.try_get::<Option<String>>("", column)
                    .unwrap()
                    .unwrap_or("-".to_owned())
            };
            let id = |column| row.try_get::<Option<uuid::Uuid>>("", column).unwrap();
            let is_them = |column| match id(column) {
                Some(id) => {
                    if id.to_string() == person.user.user_id {
                        "them"
                    } else {
                        "another"
                    }
                }
                None => "-",
            };
            let session = if id("session_id").is_some() {
                "session"
            } else {
                "-"
            };
            let ended: Option<i64> = row.try_get("", "ended_sessions").unwrap();
            format!(
                "{} {} {} {} {} {} {session} {} {}",
                text("action"),
                text("outcome"),
                text("reason"),
                text("actor"),
                is_them("actor_id"),
                is_them("subject_id"),
                text("fields"),
                ended.map_or("-".to_owned(), |ended| ended.to_string())
            )
        })
        .collect();
    // Events of one millisecond sort by chance.
    let mut sorted = events.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        [
            "reset_password done - user them them - password 2",
            "send_code done - nobody - them - - -",
            "send_code done - nobody - them - - -",
            "send_code done - nobody - them - - -",
            "sign_in_by_code done - user them them session - 0",
            "sign_in_by_code refused CODE_INVALID nobody - them - - -",
            "verify_phone done - user them them session - -",
        ]
    );
}
