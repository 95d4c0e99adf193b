//! Changes of an account by its user.

use super::Accounts;
use crate::clock::Timestamp;
use crate::domain::audit::{Action, AuditDraft, Field};
use crate::domain::password::Password;
use crate::domain::phone::PhoneNumber;
use crate::domain::throttle::Subject;
use crate::domain::user::{Locale, User};
use crate::i18n::Language;
use crate::service::audit::fields_of;
use crate::service::error::Error;
use crate::service::outbox::phone_changed;
use crate::service::passwords::{NewHash, PasswordAttempt};
use crate::service::reauthentication::Proof;
use crate::service::sessions::Actor;
use crate::service::throttle::Reservation;
use crate::service::unit_of_work::TransactionEnd;
use crate::store::sessions::Selection;
use crate::store::users::{Account, UserChange};
use crate::store::{StoreError, Transaction, audit, challenges, outbox, sessions, users};

/// A change of a user. `None` leaves a field as it is.
#[derive(Debug, Default)]
pub struct ProfileUpdate {
    /// The new phone number, valid and of an allowed line type.
    pub phone_number: Option<PhoneNumber>,
    /// The new password. The password policy was not applied to it yet.
    pub password: Option<Password>,
    /// The new locale. `Some(None)` removes it.
    pub locale: Option<Option<Locale>>,
    /// The language of the notice to the old number, if the user has not chosen one.
    pub language: Language,
}

impl ProfileUpdate {
    fn fields(&self) -> Vec<Field> {
        let Self {
            phone_number,
            password,
            locale,
            language: _,
        } = self;
        let fields = [
            phone_number.as_ref().map(|_| Field::PhoneNumber),
            password.as_ref().map(|_| Field::Password),
            locale.as_ref().map(|_| Field::Locale),
        ];
        fields.into_iter().flatten().collect()
    }
}

/// A change of a proven user, to be committed.
struct ProvenUpdate {
    actor: Actor,
    proof: Proof,
    draft: AuditDraft,
    change: UserChange,
    language: Language,
    reservation: Reservation,
}

impl Accounts {
    /// Changes the actor's user. A new password ends the other sessions; a new number is not verified.
    ///
    /// # Errors
    /// [`Error::CurrentPasswordWrong`]; [`Error::ReauthenticationRequired`]; [`Error::PhoneNumberTaken`];
    /// [`Error::VerificationRequired`] when a new number needs a code; [`Error::PhoneChangedRecently`] during the hold
    /// after the last change, if codes are configured; [`Error::InvalidInput`] when the password policy rejects the
    /// password; [`Error::SessionInvalid`] when the session ended meanwhile; [`Error::TooManyAttempts`];
    /// [`Error::Overloaded`].
    pub async fn update_profile(
        &self,
        actor: Actor,
        current_password: Option<Password>,
        update: ProfileUpdate,
    ) -> Result<User, Error> {
        let new_number = update.phone_number.as_ref();
        if new_number.is_some_and(|number| *number != actor.user.phone_number)
            && !self.policy.unverified_phone_change
        {
            return Err(Error::VerificationRequired { sent: None });
        }
        let mut draft = actor.draft(Action::UpdateProfile);
        draft.fields = update.fields();
        let proof = self
            .reauthentication
            .prove(&actor, current_password, &draft)
            .await?;
        let ProfileUpdate {
            phone_number,
            password,
            locale,
            language,
        } = update;
        let (password_hash, reservation) = self
            .reserve_update(&actor, phone_number.as_ref(), password)
            .await?;
        let change = UserChange {
            phone_number,
            password_hash,
            locale,
            ..UserChange::default()
        };
        let update = ProvenUpdate {
            actor,
            proof,
            draft,
            change,
            language,
            reservation,
        };
        let this = self.clone();
        self.work
            .finish(async move { this.commit_update(update).await })
            .await
    }

    /// Reserves an attempt for a new number or a new password, and hashes the password. Whether a number is taken is
    /// what an attempt with a new number reveals.
    async fn reserve_update(
        &self,
        actor: &Actor,
        phone_number: Option<&PhoneNumber>,
        password: Option<Password>,
    ) -> Result<(Option<String>, Reservation), Error> {
        let claimed = phone_number.map(Subject::PhoneClaim);
        let subjects: Vec<Subject<'_>> = claimed
            .into_iter()
            .chain([Subject::Person(actor.user.id)])
            .collect();
        let attempt = PasswordAttempt::of_actor(actor, &subjects);
        let Some(password) = password else {
            let reservation = match phone_number {
                Some(_) => {
                    let throttle = self.work.throttle();
                    throttle
                        .reserve(&subjects, attempt.address, attempt.caller)
                        .await?
                }
                None => Reservation::default(),
            };
            return Ok((None, reservation));
        };
        let flow = attempt.flow;
        let claim = self.passwords.claim(attempt).await?;
        let phones: Vec<&PhoneNumber> = phone_number
            .into_iter()
            .chain([&actor.user.phone_number])
            .collect();
        let new = NewHash {
            flow,
            field: "new_password",
            password,
            phones: &phones,
        };
        let (hash, reservation) = self.passwords.hash(claim, new).await?;
        Ok((Some(hash), reservation))
    }

    async fn commit_update(&self, update: ProvenUpdate) -> Result<User, Error> {
        let now = self.work.now();
        let outcome = self
            .work
            .transact(|tx, _| Box::pin(self.write_update(tx, &update, now)))
            .await;
        let outcome = self
            .reauthentication
            .bound_hold(update.actor.user.id, outcome)
            .await;
        self.work.audit().refused(&update.draft, outcome).await
    }

    async fn write_update(
        &self,
        tx: &Transaction,
        update: &ProvenUpdate,
        now: Timestamp,
    ) -> Result<TransactionEnd<User>, Error> {
        let ProvenUpdate {
            actor,
            proof,
            draft,
            change,
            language,
            reservation,
        } = update;
        let account = self.reauthentication.lock_proven_actor(tx, actor, proof).await?;
        let hold = self.reauthentication.phone_change_hold_remaining(&account, now);
        let is_blocked = matches!(proof, Proof::FreshSignIn)
            && self
                .reauthentication
                .password_change_blocked(&account, &actor.session, now);
        if change.password_hash.is_some() && is_blocked {
            return Err(Error::ReauthenticationRequired);
        }
        let user = account.user;
        let mut change = change.clone();
        change.phone_number.take_if(|number| *number == user.phone_number);
        change.locale.take_if(|locale| *locale == user.locale);
        if change.is_empty() {
            self.work.throttle().give_back_in(tx, reservation).await?;
            return Ok(TransactionEnd::commit(user));
        }
        // Without this rule a user could go from number to number, and keep their holders from ever getting them by a
        // code. Without codes, the number changes in any case.
        let has_codes = self.policy.notices.is_some();
        if let (Some(_), Some(retry_after)) = (&change.phone_number, hold.filter(|_| has_codes)) {
            return Err(Error::PhoneChangedRecently { retry_after });
        }
        let mut draft = draft.clone();
        if change.password_hash.is_some() {
            let others = Selection::AllBut(actor.session.id);
            draft.ended_sessions = Some(sessions::delete(tx, user.id, &others).await?);
        }
        users::update(tx, user.id, &change, now).await?;
        if change.phone_number.is_some() && self.policy.notifies_of_phone_change(&user) {
            let service = actor.caller.service.as_deref();
            let notice = phone_changed(&user, *language, service, now);
            outbox::insert(tx, &notice).await?;
        }
        let changed = users::find(tx, user.id).await?.ok_or(Error::SessionInvalid)?;
        if change.phone_number.is_some() {
            challenges::end_unowned(tx, &user.phone_number).await?;
        } else if change.password_hash.is_some() {
            keep_take_over(tx, &changed).await?;
        }
        draft.fields = fields_of(&change);
        audit::insert(tx, &draft.done(now)).await?;
        self.work.throttle().give_back_in(tx, reservation).await?;
        Ok(TransactionEnd::commit_change_of(user.id, changed.user))
    }
}

/// Keeps the codes valid that were sent to an unverified number, although its user has changed the credentials. The
/// holder of the number may be another person than the user that registered it, has no other proof, and could be kept
/// out by one change after another.
pub(super) async fn keep_take_over(tx: &Transaction, changed: &Account) -> Result<(), StoreError> {
    if changed.user.phone_verified_at.is_none() {
        challenges::keep_for_holder(tx, changed.user.id, changed.credential_version).await?;
    }
    Ok(())
}
