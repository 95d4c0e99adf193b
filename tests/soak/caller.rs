//! The calls, and the checks of their responses.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use phone_identity::proto::v1;
use tokio::time::{Instant, timeout};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

use crate::model::{Ended, Model, Pending, Person, Session, State};
use crate::replica::Life;

/// No call is without an answer for longer: the service gives up after ten seconds.
const PATIENCE: Duration = Duration::from_secs(15);

/// The default of `--staleness-bound`.
const STALENESS_BOUND: Duration = Duration::from_secs(1);

/// The required freshness of a check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Consistency {
    MinimizeLatency,
    Strong,
}

/// Asks one process, and notes in the model what it acknowledges.
pub(crate) struct Caller {
    pub(crate) model: Arc<Model>,
    pub(crate) life: Arc<Life>,
}

enum Answer<T> {
    Done(T),
    /// The outcome is unknown.
    Unknown,
    /// It did not happen, for this reason.
    Refused(Code, String),
}

/// The response of Register and Authenticate.
type SignedIn = (Option<v1::User>, Option<v1::Session>, String);

impl Caller {
    /// Registers a new user.
    pub(crate) async fn register(&self) {
        let (number, password) = (self.model.new_number(), "mountains and rivers".to_owned());
        self.model.registers(&number, &password);
        let mut client = self.life.client();
        let request = v1::RegisterRequest {
            phone_number: number.clone(),
            password: password.clone(),
            ..v1::RegisterRequest::default()
        };
        match self.answer(client.register(request)).await {
            Answer::Done(response) => {
                let id = response.user.as_ref().unwrap().user_id.clone();
                let mut person = Person::new(id, number.clone(), password);
                self.signed_in(
                    &mut person,
                    (response.user, response.session, response.session_token),
                );
                self.model.is_settled(&number);
                self.model.put(person);
            }
            Answer::Unknown => {}
            Answer::Refused(code, reason) => {
                self.model
                    .violation(format!("{number} cannot register: {code:?} {reason}"));
            }
        }
    }

    /// Signs a user in.
    pub(crate) async fn sign_in(&self, mut person: Person) {
        let mut client = self.life.client();
        let request = v1::AuthenticateRequest {
            phone_number: person.number.clone(),
            password: person.password.clone(),
            ..v1::AuthenticateRequest::default()
        };
        match self.answer(client.authenticate(request)).await {
            Answer::Done(response) => {
                let answered = (response.user, response.session, response.session_token);
                self.signed_in(&mut person, answered);
            }
            Answer::Unknown => person.strangers.1 += 1,
            Answer::Refused(code, reason) => {
                self.model
                    .violation(format!("{} cannot sign in: {code:?} {reason}", person.number));
            }
        }
        self.model.put(person);
    }

    fn signed_in(&self, person: &mut Person, (user, session, token): SignedIn) {
        let (user, session) = (user.unwrap(), session.unwrap());
        let is_right =
            user.user_id == person.id && session.user_id == person.id && user.phone_number == person.number;
        if !is_right {
            self.model.violation(format!(
                "{} signed in as {} with number {}",
                person.id, user.user_id, user.phone_number
            ));
        }
        let session = Session::new(session.session_id, person.id.clone(), token);
        self.model.knows(&session);
        person.sessions.push(session);
    }

    /// Signs a user out.
    pub(crate) async fn sign_out(&self, person: Person, session: &Arc<Session>) {
        session.set(State::Ending);
        let mut client = self.life.client();
        let request = v1::RevokeSessionRequest {
            session_token: session.token.clone(),
        };
        match self.answer(client.revoke_session(request)).await {
            Answer::Done(_) => self.model.has_ended(session, &self.life),
            Answer::Unknown => {}
            Answer::Refused(code, reason) => {
                self.model
                    .violation(format!("{} cannot sign out: {code:?} {reason}", person.id));
            }
        }
        self.model.put(person);
    }

    /// Changes the phone number of a user.
    pub(crate) async fn change_number(&self, person: Person, by: &Arc<Session>) {
        let number = self.model.new_number();
        let request = v1::UpdateProfileRequest {
            new_phone_number: Some(number.clone()),
            ..v1::UpdateProfileRequest::default()
        };
        self.change(person, by, Pending::Number(number), request).await;
    }

    /// Changes the password of a user, which ends all other sessions of that user.
    pub(crate) async fn change_password(&self, person: Person, by: &Arc<Session>) {
        let password = format!("rivers and mountains {}", person.password_changes);
        let request = v1::UpdateProfileRequest {
            new_password: Some(password.clone()),
            ..v1::UpdateProfileRequest::default()
        };
        for session in person.sessions.iter().filter(|session| session.id != by.id) {
            if session.is_live() {
                session.set(State::Ending);
            }
        }
        self.change(person, by, Pending::Password(password), request)
            .await;
    }

    async fn change(
        &self,
        mut person: Person,
        by: &Arc<Session>,
        change: Pending,
        request: v1::UpdateProfileRequest,
    ) {
        let mut request = Request::new(v1::UpdateProfileRequest {
            current_password: Some(person.password.clone()),
            ..request
        });
        let bearer = format!("Bearer {}", by.token).parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        let mut client = self.life.client();
        match self.answer(client.update_profile(request)).await {
            Answer::Done(response) => {
                if let Pending::Password(_) = change {
                    for session in &person.sessions {
                        if session.id != by.id && !matches!(session.state(), State::Ended(_)) {
                            self.model.has_ended(session, &self.life);
                        }
                    }
                    person.strangers = (0, 0);
                }
                person.apply(change);
                let shown = response.user.unwrap().phone_number;
                if shown != person.number {
                    let (id, number) = (&person.id, &person.number);
                    self.model
                        .violation(format!("{id} changed to {number} and is shown {shown}"));
                }
            }
            Answer::Unknown => {
                if let Pending::Password(_) = change {
                    person.strangers.0 = 0;
                }
                person.pending = Some(change);
            }
            Answer::Refused(code, reason) => {
                self.model.violation(format!(
                    "{} cannot change {change:?}: {code:?} {reason}",
                    person.id
                ));
            }
        }
        self.model.put(person);
    }

    /// Checks a session. An ended session is rejected: at once by the process that ended it and by the database, and
    /// elsewhere after the staleness bound. A valid session is accepted. Returns whether the session was rejected.
    pub(crate) async fn check(&self, session: &Arc<Session>, consistency: Consistency) -> bool {
        let before = session.state();
        let is_split = self.model.is_split.load(Ordering::SeqCst);
        let asked = Instant::now();
        let request = v1::ValidateSessionRequest {
            session_token: session.token.clone(),
            consistency: match consistency {
                Consistency::MinimizeLatency => v1::Consistency::MinimizeLatency,
                Consistency::Strong => v1::Consistency::Strong,
            }
            .into(),
        };
        let mut client = self.life.client();
        match self.answer(client.validate_session(request)).await {
            Answer::Done(response) => {
                let user = response.user.unwrap();
                if user.user_id != session.user_id {
                    self.model
                        .violation(format!("{} is taken for {}", session.user_id, user.user_id));
                }
                if let State::Ended(ended) = &before
                    && self.must_be_known(ended, asked, consistency == Consistency::Strong && !is_split)
                {
                    let id = &session.id;
                    self.model.violation(format!(
                        "session {id} is good, {consistency:?}, and was ended {:?} before",
                        asked - ended.at
                    ));
                }
            }
            Answer::Unknown => {}
            Answer::Refused(Code::Unauthenticated, reason) if reason == "SESSION_INVALID" => {
                // As it is now: it may have been ended since.
                if session.is_live() {
                    let id = &session.id;
                    self.model
                        .violation(format!("session {id} is not good, {consistency:?}, and is live"));
                }
                return true;
            }
            Answer::Refused(code, reason) => {
                self.model.violation(format!("a check: {code:?} {reason}"));
            }
        }
        false
    }

    fn must_be_known(&self, ended: &Ended, asked: Instant, is_at_once: bool) -> bool {
        let is_by_this = ended.by.as_ref().is_some_and(|by| Arc::ptr_eq(by, &self.life));
        is_at_once || is_by_this || asked > ended.at + STALENESS_BOUND
    }

    /// Interprets a response. A fault may cause UNAVAILABLE with RetryInfo, and a lost connection if the process was
    /// killed, and nothing else.
    async fn answer<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Answer<T> {
        let status = match timeout(PATIENCE, call).await {
            Ok(Ok(response)) => {
                self.model.was_answered();
                return Answer::Done(response.into_inner());
            }
            Ok(Err(status)) => status,
            Err(_) => {
                self.model.violation(format!("no answer within {PATIENCE:?}"));
                return Answer::Unknown;
            }
        };
        let details = status.get_error_details();
        let Some(info) = details.error_info() else {
            // Not by the service.
            if !self.life.is_killed() {
                self.model
                    .violation(format!("the process was not killed: {status:?}"));
            }
            self.model.was_not_answered();
            return Answer::Unknown;
        };
        match status.code() {
            Code::Unavailable => {
                if details.retry_info().is_none() {
                    self.model.violation(format!("without RetryInfo: {status:?}"));
                }
                self.model.was_not_answered();
                Answer::Unknown
            }
            code => {
                // A rejection is a response, too. The caller checks whether it is right.
                self.model.was_answered();
                Answer::Refused(code, info.reason.clone())
            }
        }
    }
}
