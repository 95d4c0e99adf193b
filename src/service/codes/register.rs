//! Registration by a code. Until the code is submitted, nothing is stored of the future user: the password comes with
//! the code.

use super::Codes;
use super::redeem::{CodeSubmission, RedeemedChallenge, create};
use crate::domain::audit::{Action, AuditDraft};
use crate::domain::code::Purpose;
use crate::domain::password::Password;
use crate::domain::session::{AuthMethod, ClientInfo};
use crate::domain::user::User;
use crate::service::accounts::SignedIn;
use crate::service::error::Error;
use crate::service::session_issuer::{IssuedSession, SessionRequest};
use crate::service::unit_of_work::TransactionEnd;
use crate::store::{Transaction, audit};

/// A registration by a code.
#[derive(Debug)]
pub struct CodeRegistration {
    /// The code.
    pub submission: CodeSubmission,
    /// The password. The password policy was not applied to it yet.
    pub password: Password,
    /// Whether the device gets a token.
    pub remember_device: bool,
}

/// A registration with a right code and a hashed password, to be committed.
struct RedeemedRegistration {
    redeemed: RedeemedChallenge,
    draft: AuditDraft,
    hash: String,
    client: ClientInfo,
    remember_device: bool,
}

impl Codes {
    /// Creates a user with a verified number that has no account, and signs the user in.
    ///
    /// # Errors
    /// [`Error::CodeInvalid`], also when another account got the number meanwhile; [`Error::InvalidInput`] when the
    /// password policy rejects the password, only with the right code, which stays valid; [`Error::TooManyAttempts`];
    /// [`Error::Overloaded`].
    pub async fn register(&self, registration: CodeRegistration) -> Result<SignedIn, Error> {
        let CodeRegistration {
            submission,
            password,
            remember_device,
        } = registration;
        let flow = submission.flow();
        self.passwords.check_room(flow)?;
        let (mut redeemed, draft) = self
            .redeem(Purpose::Register, Action::Register, &submission)
            .await?;
        self.reserve_creation(&mut redeemed, &submission, &draft).await?;
        let hash = self.hash_for(flow, &redeemed, password).await?;
        let registration = RedeemedRegistration {
            redeemed,
            draft,
            hash,
            client: submission.client,
            remember_device,
        };
        let this = self.clone();
        self.work
            .finish(async move { this.commit_registration(registration).await })
            .await
    }

    async fn commit_registration(&self, registration: RedeemedRegistration) -> Result<SignedIn, Error> {
        let RedeemedRegistration { redeemed, draft, .. } = &registration;
        let now = self.work.now();
        let user = User {
            phone_verified_at: Some(now),
            last_login_at: Some(now),
            ..User::new(redeemed.challenge.phone_number.clone(), now)
        };
        let request = SessionRequest {
            user: user.id,
            methods: vec![AuthMethod::Password, AuthMethod::SmsCode],
            client: registration.client.clone(),
            known: None,
            remember_device: registration.remember_device,
        };
        let issued = self.issuer.issue(request, now)?;
        let outcome = self
            .work
            .transact(|tx, _| Box::pin(self.write_registration(tx, &registration, &user, &issued)))
            .await;
        let outcome = self.give_back_if_code_was_right(outcome, redeemed).await;
        let outcome = redeemed.counted(outcome);
        self.work.audit().refused(draft, outcome).await?;
        Ok(issued.signed_in(user))
    }

    async fn write_registration(
        &self,
        tx: &Transaction,
        registration: &RedeemedRegistration,
        user: &User,
        issued: &IssuedSession,
    ) -> Result<TransactionEnd<()>, Error> {
        let RedeemedRegistration {
            redeemed,
            draft,
            hash,
            ..
        } = registration;
        let now = user.created_at;
        create(tx, redeemed, user, Some(hash)).await?;
        self.issuer.insert(tx, issued, 0, now).await?;
        let draft = draft.clone().as_user(user.id, issued.session.id);
        audit::insert(tx, &draft.done(now)).await?;
        let attempted = redeemed.reservation.without_creation();
        self.work.throttle().give_back_in(tx, &attempted).await?;
        Ok(TransactionEnd::commit(()))
    }
}
