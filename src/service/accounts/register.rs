//! Registration by phone number and password.

use super::{Accounts, SignedIn};
use crate::domain::access::Caller;
use crate::domain::audit::{Action, AuditDraft, Event};
use crate::domain::password::Password;
use crate::domain::phone::PhoneNumber;
use crate::domain::session::{AuthMethod, ClientInfo};
use crate::domain::throttle::Subject;
use crate::domain::user::User;
use crate::service::error::Error;
use crate::service::hasher::Flow;
use crate::service::passwords::{NewHash, PasswordAttempt};
use crate::service::session_issuer::{IssuedSession, SessionRequest};
use crate::service::throttle::{GivenBack, Reservation, creations};
use crate::service::unit_of_work::TransactionEnd;
use crate::store::{Transaction, audit, users};

/// A registration.
#[derive(Debug)]
pub struct Registration {
    /// The phone number, valid and of an allowed line type.
    pub phone_number: PhoneNumber,
    /// The password. The password policy was not applied to it yet.
    pub password: Password,
    /// The client.
    pub client: ClientInfo,
    /// The calling service.
    pub caller: Caller,
    /// Whether the device gets a token.
    pub remember_device: bool,
}

/// A registration with a hashed password, to be committed.
struct HashedRegistration {
    phone_number: PhoneNumber,
    hash: String,
    client: ClientInfo,
    caller: Caller,
    remember_device: bool,
    /// The reserved attempt, and the reserved account.
    reservation: Reservation,
}

impl Accounts {
    /// Creates a user and signs the user in. The account counts for the network of the client, and stays counted.
    ///
    /// # Errors
    /// [`Error::PhoneNumberTaken`]; [`Error::InvalidInput`] when the password policy rejects the password;
    /// [`Error::TooManyAttempts`]; [`Error::Overloaded`].
    pub async fn register(&self, registration: Registration) -> Result<SignedIn, Error> {
        let Registration {
            phone_number,
            password,
            client,
            caller,
            remember_device,
        } = registration;
        let flow = Flow::new(&caller, client.ip_address, &phone_number);
        let mut subjects = vec![Subject::PhoneClaim(&phone_number)];
        subjects.extend(creations(client.ip_address));
        let attempt = PasswordAttempt {
            flow,
            address: client.ip_address,
            caller: &caller,
            device: None,
            subjects: &subjects,
        };
        let claim = self.passwords.claim(attempt).await?;
        let new = NewHash {
            flow,
            field: "password",
            password,
            phones: &[&phone_number],
        };
        let (hash, reservation) = self.passwords.hash(claim, new).await?;
        let registration = HashedRegistration {
            phone_number,
            hash,
            client,
            caller,
            remember_device,
            reservation,
        };
        let this = self.clone();
        self.work
            .finish(async move { this.commit_registration(registration).await })
            .await
    }

    async fn commit_registration(&self, registration: HashedRegistration) -> Result<SignedIn, Error> {
        let HashedRegistration {
            phone_number,
            hash,
            client,
            caller,
            remember_device,
            reservation,
        } = registration;
        let now = self.work.now();
        let mut user = User::new(phone_number, now);
        user.last_login_at = Some(now);
        let draft = AuditDraft::by_nobody(Action::Register, client.clone(), caller);
        let request = SessionRequest {
            user: user.id,
            methods: vec![AuthMethod::Password],
            client,
            known: None,
            remember_device,
        };
        let issued = self.issuer.issue(request, now)?;
        let event = draft.clone().as_user(user.id, issued.session.id).done(now);
        let attempted = reservation.without_creation();
        let throttle = self.work.throttle();
        let outcome = self
            .work
            .transact(|tx, _| {
                Box::pin(self.write_registration(tx, &user, &hash, &issued, &event, &attempted))
            })
            .await;
        let outcome = throttle.settle_committed(outcome).await;
        let outcome = throttle.keep_creation_if_created(outcome, &reservation).await;
        self.work.audit().refused(&draft, outcome).await?;
        Ok(issued.signed_in(user))
    }

    async fn write_registration<'a>(
        &self,
        tx: &Transaction,
        user: &User,
        hash: &str,
        issued: &IssuedSession,
        event: &Event,
        attempted: &'a Reservation,
    ) -> Result<TransactionEnd<GivenBack<'a>>, Error> {
        users::insert(tx, user, Some(hash)).await?;
        self.issuer.insert(tx, issued, 0, user.created_at).await?;
        audit::insert(tx, event).await?;
        let throttle = self.work.throttle();
        let given_back = throttle.give_back_deferred(tx, attempted).await?;
        Ok(TransactionEnd::commit(given_back))
    }
}
