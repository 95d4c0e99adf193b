//! Known devices: a device on which the user has signed in before has throttling limits of its own, so that other
//! clients cannot lock it out.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::SessionIssuer;
use crate::clock::{MAX_SKEW, Timestamp};
use crate::domain::phone::PhoneNumber;
use crate::domain::session::DeviceId;
use crate::domain::token::{PlainToken, TokenHash};
use crate::domain::user::UserId;
use crate::service::error::Error;
use crate::store::{StoreError, Transaction, devices};

/// Maximum age of the stored expiry of a known device, so that most uses cost no write.
const GRANULARITY: Duration = Duration::from_hours(24);

/// A device with a valid token.
#[derive(Debug)]
pub(in crate::service) struct KnownDevice {
    device: devices::StoredDevice,
    token: PlainToken,
}

impl KnownDevice {
    pub(in crate::service) fn id(&self) -> DeviceId {
        self.device.id
    }

    /// Whether the phone number of the user is verified.
    pub(in crate::service) fn is_verified(&self) -> bool {
        self.device.is_verified
    }
}

/// The effect of a sign-in on the device.
#[derive(Debug)]
pub(in crate::service) enum SignInDevice {
    /// The device is unknown and stays unknown.
    Unknown,
    /// The device is known already.
    Known(KnownDevice),
    /// The device gets a token.
    New {
        device: devices::StoredDevice,
        token: PlainToken,
    },
}

impl SignInDevice {
    /// The token that the client gets.
    pub(in crate::service) fn token(&self) -> Option<PlainToken> {
        match self {
            Self::Unknown => None,
            Self::Known(KnownDevice { token, .. }) | Self::New { token, .. } => Some(token.clone()),
        }
    }
}

impl SessionIssuer {
    /// Finds the device of a token, if the token is valid for this number. It runs the same statement whether or not
    /// the number has an account. A malformed token counts as no token, so that it does not prevent a sign-in.
    ///
    /// # Errors
    /// When the database fails.
    pub(in crate::service) async fn known_device(
        &self,
        token: Option<SecretString>,
        phone_number: &PhoneNumber,
    ) -> Result<Option<KnownDevice>, Error> {
        let Some(token) = token else { return Ok(None) };
        let Ok(hash) = TokenHash::of_device(token.expose_secret()) else {
            return Ok(None);
        };
        let reader = self.work.store().reader();
        let found = devices::find_good(reader, &hash, phone_number, self.work.now()).await?;
        Ok(found.map(|device| KnownDevice {
            device,
            token: PlainToken::given(token),
        }))
    }

    /// The effect of a sign-in on the device.
    pub(super) fn device(
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

    /// Stores the effect of a sign-in on the device, in the transaction of the sign-in, under the lock of the user's
    /// row.
    ///
    /// # Errors
    /// When the database fails.
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
                // A later expiry comes from a clock that was wrong.
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
