//! Issues sessions and device tokens, for sign-ins by password and by code.

mod device;

use std::sync::Arc;

pub(super) use device::{KnownDevice, SignInDevice};

use super::error::Error;
use super::policy::Policy;
use super::unit_of_work::UnitOfWork;
use crate::clock::Timestamp;
use crate::domain::session::{AuthMethod, AuthMethods, ClientInfo, Session, SessionId};
use crate::domain::token::PlainToken;
use crate::domain::user::{User, UserId};
use crate::store::changes::RevocationChange;
use crate::store::{StoreError, Transaction, sessions};

/// Issues sessions and device tokens. Cheap to clone.
#[derive(Clone)]
pub(super) struct SessionIssuer {
    work: UnitOfWork,
    policy: Arc<Policy>,
}

/// A session to issue.
pub(super) struct SessionRequest {
    pub(super) user: UserId,
    /// The methods by which the user signs in.
    pub(super) methods: Vec<AuthMethod>,
    pub(super) client: ClientInfo,
    /// The device, if it is known.
    pub(super) known: Option<KnownDevice>,
    /// Whether an unknown device gets a token.
    pub(super) remember_device: bool,
}

/// A session that is not stored yet.
pub(super) struct IssuedSession {
    pub(super) session: Session,
    pub(super) token: PlainToken,
    pub(super) device: SignInDevice,
}

/// The result of a sign-in.
#[derive(Debug)]
pub struct SignedIn {
    /// The user.
    pub user: User,
    /// The new session.
    pub session: Session,
    /// The token of the session. The service stores its hash only.
    pub token: PlainToken,
    /// The token of the device, if the device has one.
    pub device_token: Option<PlainToken>,
}

impl IssuedSession {
    /// The result of the sign-in, after the session was committed.
    pub(super) fn signed_in(&self, user: User) -> SignedIn {
        SignedIn {
            user,
            session: self.session.clone(),
            token: self.token.clone(),
            device_token: self.device.token(),
        }
    }
}

impl SessionIssuer {
    pub(super) fn new(work: UnitOfWork, policy: Arc<Policy>) -> Self {
        Self { work, policy }
    }

    /// Issues a session, with random tokens.
    ///
    /// # Errors
    /// [`Error::Internal`] when the system has no random numbers.
    pub(super) fn issue(&self, request: SessionRequest, now: Timestamp) -> Result<IssuedSession, Error> {
        let SessionRequest {
            user,
            methods,
            client,
            known,
            remember_device,
        } = request;
        let session = Session {
            id: SessionId::generate(now),
            user_id: user,
            created_at: now,
            last_seen_at: now,
            expires_at: now + self.policy.lifetimes.absolute,
            auth_methods: AuthMethods::from_iter(methods),
            client,
        };
        Ok(IssuedSession {
            session,
            token: PlainToken::generate()?,
            device: self.device(known, remember_device, now)?,
        })
    }

    /// Stores an issued session and its device, in the transaction of the sign-in, under the lock of the user's row.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn insert(
        &self,
        tx: &Transaction,
        issued: &IssuedSession,
        credential_version: i64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let IssuedSession {
            session,
            token,
            device,
        } = issued;
        self.remember(tx, device, session.user_id, credential_version, now)
            .await?;
        sessions::insert(tx, session, &token.hash()).await
    }

    /// Removes the oldest sessions of a user with `count` sessions, so that one more is within the limit. Returns the
    /// revocations, to be committed with the transaction.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn make_room(
        &self,
        tx: &Transaction,
        user: UserId,
        count: u64,
        now: Timestamp,
    ) -> Result<Vec<RevocationChange>, StoreError> {
        let max = self.policy.max_sessions;
        let removed = sessions::make_room(tx, user, count, max, &self.policy.lifetimes, now).await?;
        let revoked = |session| RevocationChange::SessionRevoked { user, session };
        Ok(removed.into_iter().map(revoked).collect())
    }
}
