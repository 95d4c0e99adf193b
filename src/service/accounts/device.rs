//! Devices that people have signed in on before, which strangers cannot shut out.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::Accounts;
use crate::clock::{MAX_SKEW, Timestamp};
use crate::domain::phone::PhoneNumber;
use crate::domain::session::DeviceId;
use crate::domain::token::{PlainToken, TokenHash};
use crate::domain::user::UserId;
use crate::service::error::Error;
use crate::store::{StoreError, Transaction, devices};

/// How far the end of a known device may lag behind its use, so that a use seldom costs a write.
const GRANULARITY: Duration = Duration::from_hours(24);

/// A device whose token is good.
#[derive(Debug)]
pub(in crate::service) struct KnownDevice {
    device: devices::StoredDevice,
    token: PlainToken,
}

impl KnownDevice {
    pub(in crate::service) fn id(&self) -> DeviceId {
        self.device.id
    }

    /// Whether the person has shown that they hold their number.
    pub(in crate::service) fn is_verified(&self) -> bool {
        self.device.is_verified
    }
}

/// What a sign-in does about the device.
#[derive(Debug)]
pub(in crate::service) enum SignInDevice {
    /// Nobody wants to know it.
    Unknown,
    /// It is known already.
    Known(KnownDevice),
    /// It gets a token.
    New {
        device: devices::StoredDevice,
        token: PlainToken,
    },
}

impl SignInDevice {
    /// What it is told.
    pub(in crate::service) fn token(&self) -> Option<PlainToken> {
        match self {
            Self::Unknown => None,
            Self::Known(KnownDevice { token, .. }) | Self::New { token, .. } => Some(token.clone()),
        }
    }
}

impl Accounts {
    /// The device of a token, if the token is good for this number. It is looked up whether or not somebody has the
    /// number.
    pub(in crate::service) async fn known_device(
        &self,
        token: Option<SecretString>,
        phone_number: &PhoneNumber,
    ) -> Result<Option<KnownDevice>, Error> {
        let Some(token) = token else { return Ok(None) };
        // What is no token must not keep anybody from signing in.
        let Ok(hash) = TokenHash::of_device(token.expose_secret()) else {
            return Ok(None);
        };
        let now = self.clock.now();
        let found = devices::find_good(self.store.reader(), &hash, phone_number, now).await?;
        Ok(found.map(|device| KnownDevice {
            device,
            token: PlainToken::given(token),
        }))
    }

    /// What to do about a device.
    pub(in crate::service) fn device(
        &self,
        known: Option<KnownDevice>,
        remember: bool,
        now: Timestamp,
    ) -> Result<SignInDevice, Error> {
        Ok(match known {
            Some(known) => SignInDevice::Known(known),
            None if remember => SignInDevice::New {
                device: devices::StoredDevice {
                    id: DeviceId::generate(now),
                    expires_at: now + self.policy.device_lifetime,
                    is_verified: false,
                },
                token: PlainToken::generate_for_device()?,
            },
            None => SignInDevice::Unknown,
        })
    }

    /// Does it, in the transaction of the sign-in, under the lock of the person's row.
    pub(in crate::service) async fn remember(
        &self,
        tx: &Transaction,
        device: &SignInDevice,
        user: UserId,
        credential_version: i64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match device {
            SignInDevice::Unknown => Ok(()),
            SignInDevice::Known(known) => {
                let expires_at = now + self.policy.device_lifetime;
                let stored = known.device.expires_at;
                // An expiry further ahead comes from a clock that was wrong.
                if stored + GRANULARITY < expires_at || stored > expires_at + MAX_SKEW {
                    devices::extend(tx, known.device.id, expires_at).await?;
                }
                Ok(())
            }
            SignInDevice::New { device, token } => {
                devices::make_room(tx, user, self.policy.max_devices).await?;
                devices::insert(tx, device, &token.hash(), user, credential_version).await
            }
        }
    }
}
