//! What people do with their own account: change it, deactivate it, delete it.

use super::{Accounts, Check, Claim, NewHash, keep_a_superuser};
use crate::domain::audit::{Action, AuditDraft, Field};
use crate::domain::password::Password;
use crate::domain::phone::PhoneNumber;
use crate::domain::throttle::Subject;
use crate::domain::user::{Locale, User, UserId, UserStatus};
use crate::i18n::Language;
use crate::service::audit::{erase, fields_of};
use crate::service::error::Error;
use crate::service::hasher::Flow;
use crate::service::outbox::phone_changed;
use crate::service::retry::retry;
use crate::service::sessions::Actor;
use crate::service::throttle::{Reservation, SuccessPermit};
use crate::store::sessions::Selection;
use crate::store::users::{Account, UserChange};
use crate::store::{StoreError, Transaction, audit, challenges, changes, outbox, sessions, users};

/// What to change about a person; `None` stays as it is.
#[derive(Debug, Default)]
pub struct ProfileUpdate {
    /// The new phone number, fit to be taken.
    pub phone_number: Option<PhoneNumber>,
    /// The new password, to which the password policy was not applied yet.
    pub password: Option<Password>,
    /// The new locale, or none.
    pub locale: Option<Option<Locale>>,
    /// The language in which the old number is told that there is a new one, if the person has not chosen one.
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

/// How a person has shown that it is they who ask.
pub(in crate::service) enum Proof {
    /// They signed in within the reauthentication window.
    FreshSignIn,
    /// They knew the password of this version.
    Password { credential_version: i64 },
}

impl Accounts {
    /// Changes the actor's person. A new password ends the other sessions; a new number is not verified.
    ///
    /// # Errors
    /// [`Error::CurrentPasswordWrong`], [`Error::ReauthenticationRequired`], [`Error::PhoneNumberTaken`],
    /// [`Error::VerificationRequired`] when a new number takes a code, [`Error::PhoneChangedRecently`] when it takes
    /// one since the last change was lately, [`Error::InvalidInput`] when the password policy rejects the password,
    /// [`Error::SessionInvalid`] when the session ended meanwhile, [`Error::TooManyAttempts`], [`Error::Overloaded`].
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
        let mut attempt = actor.attempt(Action::UpdateProfile);
        attempt.fields = update.fields();
        let proof = self.prove(&actor, current_password, &attempt).await?;
        let ProfileUpdate {
            phone_number,
            password,
            locale,
            language,
        } = update;
        let flow = Flow::of_actor(&actor);
        let success = match &password {
            Some(_) => {
                self.hasher.check_room(flow)?;
                self.admit_success_of(&actor)?
            }
            None => SuccessPermit::default(),
        };
        let reservation = match (&phone_number, &password) {
            (Some(phone_number), _) => self.reserve_taking(&actor, phone_number).await?,
            (None, Some(_)) => self.reserve_by_actor(&actor).await?,
            (None, None) => Reservation::default(),
        };
        let (password_hash, reservation) = match password {
            Some(password) => {
                let claim = Claim::new(self.throttle.guard(reservation), success);
                let phones: Vec<&PhoneNumber> =
                    phone_number.iter().chain([&actor.user.phone_number]).collect();
                let new = NewHash {
                    flow,
                    field: "new_password",
                    password,
                    phones: &phones,
                };
                let (hash, reservation) = self.hash_password(claim, new).await?;
                (Some(hash), reservation)
            }
            None => (None, reservation),
        };
        self.finish(move |this| async move {
            let now = this.clock.now();
            let wanted = UserChange {
                phone_number,
                password_hash,
                locale,
                ..UserChange::default()
            };
            let outcome = retry(|| async {
                let tx = this.store.begin().await?;
                let mut attempt = attempt.clone();
                let account = this.lock_proved_actor(&tx, &actor, &proof).await?;
                let mut change = wanted.clone();
                let sets_none = matches!(proof, Proof::FreshSignIn)
                    && this.password_change_blocked(&account, &actor.session, now);
                if change.password_hash.is_some() && sets_none {
                    return Err(Error::ReauthenticationRequired);
                }
                // Else whoever goes from number to number would keep those who hold them from ever having them by a
                // code. Where there are codes, one changes it all the same.
                let has_codes = this.policy.notices.is_some();
                let moved = this.held(&account, now).filter(|_| has_codes);
                let user = account.user;
                change.phone_number.take_if(|number| *number == user.phone_number);
                change.locale.take_if(|locale| *locale == user.locale);
                if change.is_empty() {
                    this.throttle.give_back_in(&tx, &reservation).await?;
                    tx.commit().await?;
                    return Ok(user);
                }
                if let (Some(_), Some(retry_after)) = (&change.phone_number, moved) {
                    return Err(Error::PhoneChangedRecently { retry_after });
                }
                if change.phone_number.is_some() && this.is_told(&user) {
                    let service = actor.caller.service.as_deref();
                    let notice = phone_changed(&user, language, service, now);
                    outbox::insert_with_commit(&tx, &notice).await?;
                }
                if change.password_hash.is_some() {
                    let others = Selection::AllBut(actor.session.id);
                    attempt.ended_sessions = Some(sessions::delete(&tx, user.id, &others).await?);
                }
                users::update(&tx, user.id, &change, now).await?;
                let changed = users::find(&tx, user.id).await?.ok_or(Error::SessionInvalid)?;
                if change.phone_number.is_some() {
                    challenges::end_unowned(&tx, &user.phone_number).await?;
                } else if change.password_hash.is_some() {
                    keep_take_over(&tx, &changed).await?;
                }
                attempt.fields = fields_of(&change);
                audit::insert(&tx, &attempt.done(now)).await?;
                this.throttle.give_back_in(&tx, &reservation).await?;
                this.commit_change_of(tx, user.id).await?;
                Ok(changed.user)
            });
            let outcome = this.bound_hold(actor.user.id, outcome.await).await;
            this.audit.refused(&attempt, outcome).await
        })
        .await
    }

    /// Deactivates the actor's person and ends all their sessions.
    ///
    /// # Errors
    /// [`Error::CurrentPasswordWrong`], [`Error::ReauthenticationRequired`], [`Error::LastSuperuser`],
    /// [`Error::SessionInvalid`] when the session ended meanwhile, [`Error::TooManyAttempts`], [`Error::Overloaded`].
    pub async fn deactivate_profile(
        &self,
        actor: Actor,
        current_password: Option<Password>,
    ) -> Result<(), Error> {
        let mut attempt = actor.attempt(Action::DeactivateProfile);
        attempt.fields = vec![Field::Status];
        let proof = self.prove(&actor, current_password, &attempt).await?;
        self.finish(|this| async move {
            let now = this.clock.now();
            let change = UserChange {
                status: Some(UserStatus::Deactivated),
                ..UserChange::default()
            };
            let outcome = retry(|| async {
                let tx = this.store.begin().await?;
                let id = this.lock_leaving_actor(&tx, &actor, &proof).await?.user.id;
                users::update(&tx, id, &change, now).await?;
                let changed = users::find(&tx, id).await?.ok_or(Error::SessionInvalid)?;
                keep_take_over(&tx, &changed).await?;
                let mut attempt = attempt.clone();
                attempt.ended_sessions = Some(sessions::delete(&tx, id, &Selection::All).await?);
                audit::insert(&tx, &attempt.done(now)).await?;
                this.commit_change_of(tx, id).await
            });
            this.audit.refused(&attempt, outcome.await).await
        })
        .await
    }

    /// Deletes the actor's user and all that is stored about the user. In the audit log a substitute id stands in the
    /// user's place, unless the user is staff or a superuser.
    ///
    /// # Errors
    /// [`Error::CurrentPasswordWrong`], [`Error::ReauthenticationRequired`], [`Error::LastSuperuser`],
    /// [`Error::SessionInvalid`] when the session ended meanwhile, [`Error::TooManyAttempts`], [`Error::Overloaded`].
    pub async fn delete_profile(
        &self,
        actor: Actor,
        current_password: Option<Password>,
    ) -> Result<(), Error> {
        let attempt = actor.attempt(Action::DeleteProfile);
        let proof = self.prove(&actor, current_password, &attempt).await?;
        self.finish(|this| async move {
            let now = this.clock.now();
            let substitute = UserId::generate(now);
            let outcome = retry(|| async {
                let tx = this.store.begin().await?;
                let user = this.lock_leaving_actor(&tx, &actor, &proof).await?.user;
                users::delete(&tx, &user).await?;
                erase(&tx, &user, substitute, now).await?;
                let attempt = if user.is_privileged() {
                    attempt.clone()
                } else {
                    attempt.clone().of_somebody(substitute)
                };
                audit::insert(&tx, &attempt.done(now)).await?;
                let deleted = changes::RevocationChange::UserDeleted { user: user.id };
                Ok(this.changes.commit(tx, &[deleted]).await?)
            });
            this.audit.refused(&attempt, outcome.await).await
        })
        .await
    }

    /// Whether the number that somebody has is told by SMS that they change it without showing to hold the new one. One
    /// that nobody has shown to hold is not, or whoever has a session could go through all numbers that they want to
    /// ring.
    pub(in crate::service) fn is_told(&self, user: &User) -> bool {
        let reach = self.policy.notices.as_ref();
        user.phone_verified_at.is_some() && reach.is_some_and(|reach| reach.has(&user.phone_number))
    }

    /// Has the actor show that it is really they: by the password, or by a fresh sign-in.
    pub(in crate::service) async fn prove(
        &self,
        actor: &Actor,
        current_password: Option<Password>,
        attempt: &AuditDraft,
    ) -> Result<Proof, Error> {
        let Some(password) = current_password else {
            let proof = if self.is_fresh(&actor.session) {
                Ok(Proof::FreshSignIn)
            } else {
                Err(Error::ReauthenticationRequired)
            };
            return self.audit.refused(attempt, proof).await;
        };
        let account = users::find(self.store.reader(), actor.user.id)
            .await?
            .ok_or(Error::SessionInvalid)?;
        let credential_version = account.credential_version;
        let flow = Flow::of_actor(actor);
        self.hasher.check_room(flow)?;
        let success = self.admit_success_of(actor)?;
        let reservation = self.reserve_by_actor(actor).await?;
        let claim = Claim::new(self.throttle.guard(reservation), success);
        let check = Check {
            flow,
            password,
            stored: account.password_hash,
            upgrade: false,
            attempt,
            wrong: || Error::CurrentPasswordWrong,
        };
        let (_, reservation) = self.check_password(claim, check).await?;
        self.throttle.guard(reservation).give_back().await;
        Ok(Proof::Password { credential_version })
    }

    /// Reserves an attempt of the actor: on their account and their address.
    async fn reserve_by_actor(&self, actor: &Actor) -> Result<Reservation, Error> {
        let subjects = [Subject::Person(actor.user.id)];
        let address = actor.session.client.ip_address;
        self.throttle.reserve(&subjects, address, &actor.caller).await
    }

    /// Takes a permit for a right password of the actor.
    pub(in crate::service) fn admit_success_of(&self, actor: &Actor) -> Result<SuccessPermit, Error> {
        let address = actor.session.client.ip_address;
        self.throttle.admit_success(address, &actor.caller, None)
    }

    /// Locks the actor's row and checks again what was read before the transaction.
    pub(in crate::service) async fn lock_actor(
        &self,
        tx: &Transaction,
        actor: &Actor,
    ) -> Result<Account, Error> {
        let account = users::lock(tx, actor.user.id)
            .await?
            .filter(|account| account.user.is_active());
        let account = account.ok_or(Error::SessionInvalid)?;
        if !sessions::exists(tx, actor.session.id).await? {
            return Err(Error::SessionInvalid);
        }
        Ok(account)
    }

    pub(in crate::service) async fn lock_proved_actor(
        &self,
        tx: &Transaction,
        actor: &Actor,
        proof: &Proof,
    ) -> Result<Account, Error> {
        let account = self.lock_actor(tx, actor).await?;
        match proof {
            Proof::Password { credential_version } if *credential_version != account.credential_version => {
                Err(Error::CurrentPasswordWrong)
            }
            Proof::Password { .. } | Proof::FreshSignIn => Ok(account),
        }
    }

    /// As [`Self::lock_proved_actor`], for somebody who leaves: the last active superuser may not.
    async fn lock_leaving_actor(
        &self,
        tx: &Transaction,
        actor: &Actor,
        proof: &Proof,
    ) -> Result<Account, Error> {
        let account = self.lock_proved_actor(tx, actor, proof).await?;
        keep_a_superuser(tx, &account.user).await?;
        Ok(account)
    }
}

/// Keeps the codes valid that were sent to an unverified number, although its user has changed the credentials. Its
/// holder may be another person than the one that registered it, has no other proof, and could be kept out by one
/// change after another.
async fn keep_take_over(tx: &Transaction, changed: &Account) -> Result<(), StoreError> {
    if changed.user.phone_verified_at.is_none() {
        challenges::keep_for_holder(tx, changed.user.id, changed.credential_version).await?;
    }
    Ok(())
}
