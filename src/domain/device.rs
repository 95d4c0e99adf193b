//! Devices that a person has signed in on before. Their token is no session and gives no rights: it only keeps what
//! strangers do to a number from shutting its owner out.

use uuid::Uuid;

use crate::clock::{self, Timestamp};

/// A device's id, a UUIDv7. It is not secret.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct DeviceId(pub Uuid);

impl DeviceId {
    /// A new id.
    #[must_use]
    pub fn generate(now: Timestamp) -> Self {
        Self(clock::new_id(now))
    }
}
