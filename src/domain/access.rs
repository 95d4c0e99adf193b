//! Access control for calling services: rights, service names and service keys.

mod clients;
mod operator_key;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;
use uuid::Uuid;

use crate::clock::{self, Timestamp};

pub use clients::{ClientList, ClientListError};
pub use operator_key::OperatorKey;

/// The calling service and its call, for the audit log.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Caller {
    /// Name of the calling service. `None`: service authentication is off, or the operator runs a command.
    pub service: Option<Arc<str>>,
    /// Request ID of the call, as in the access log. `None`: the operator runs a command.
    pub request_id: Option<Arc<str>>,
}

/// A right of a calling service: permission to call one or several RPCs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Right {
    /// Validate sessions.
    Validate,
    /// Register users.
    Register,
    /// Sign users in.
    Authenticate,
    /// Sign users out.
    Revoke,
    /// List and revoke the sessions of the bearer.
    Sessions,
    /// Change, deactivate and delete the account of the bearer.
    Profile,
    /// Send and verify one-time codes.
    Codes,
    /// Create superusers.
    Superuser,
    /// Administration.
    Admin,
}

impl Right {
    /// All rights.
    pub const ALL: [Self; 9] = [
        Self::Validate,
        Self::Register,
        Self::Authenticate,
        Self::Revoke,
        Self::Sessions,
        Self::Profile,
        Self::Codes,
        Self::Superuser,
        Self::Admin,
    ];

    /// The name of the right. It is stored, so it never changes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Register => "register",
            Self::Authenticate => "authenticate",
            Self::Revoke => "revoke",
            Self::Sessions => "sessions",
            Self::Profile => "profile",
            Self::Codes => "codes",
            Self::Superuser => "superuser",
            Self::Admin => "admin",
        }
    }

    /// The RPCs that the right permits, as `service/method` without the package; `*` stands for every method.
    #[must_use]
    pub const fn rpcs(self) -> &'static [&'static str] {
        match self {
            Self::Validate => &["PhoneIdentity/ValidateSession"],
            Self::Register => &["PhoneIdentity/Register"],
            Self::Authenticate => &["PhoneIdentity/Authenticate"],
            Self::Revoke => &["PhoneIdentity/RevokeSession"],
            Self::Sessions => &["PhoneIdentity/ListSessions", "PhoneIdentity/RevokeSessions"],
            Self::Profile => &[
                "PhoneIdentity/UpdateProfile",
                "PhoneIdentity/DeactivateProfile",
                "PhoneIdentity/DeleteProfile",
            ],
            Self::Codes => &["PhoneVerification/SendCode", "PhoneVerification/VerifyCode"],
            Self::Superuser => &["PhoneIdentity/CreateSuperuser"],
            Self::Admin => &["PhoneIdentityAdmin/*"],
        }
    }

    /// The right that an RPC requires. `None`: no right permits this RPC.
    #[must_use]
    pub fn of_rpc(service: &str, method: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| {
            let mut rpcs = right.rpcs().iter().filter_map(|rpc| rpc.split_once('/'));
            rpcs.any(|(its_service, its_method)| {
                its_service == service && (its_method == "*" || its_method == method)
            })
        })
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// The name of all rights, including rights of later versions.
const ALL_RIGHTS: &str = "all";

/// A set of rights.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rights(u32);

impl Rights {
    /// All rights, including rights of later versions.
    pub const ALL: Self = Self(u32::MAX);

    /// Whether the set contains a right.
    #[must_use]
    pub const fn contain(self, right: Right) -> bool {
        self.0 & right.bit() != 0
    }

    /// The union of two sets.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Reads stored rights. Ignores unknown names: a newer version may have stored them, and this version has no RPC
    /// that requires them.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        let known = text.split(',').filter_map(|name| Self::named(name).ok());
        known.fold(Self::default(), Self::and)
    }

    /// The names of all rights, for help and error texts.
    #[must_use]
    pub fn names() -> String {
        let names: Vec<_> = Right::ALL.iter().map(|right| right.as_str()).collect();
        format!("{}, or {ALL_RIGHTS}", names.join(", "))
    }

    fn named(name: &str) -> Result<Self, RightsError> {
        if name == ALL_RIGHTS {
            return Ok(Self::ALL);
        }
        let right = Right::ALL.iter().find(|right| right.as_str() == name);
        right
            .map(|right| Self(right.bit()))
            .ok_or_else(|| RightsError::Unknown(name.to_owned()))
    }
}

/// Reads comma-separated names.
impl FromStr for Rights {
    type Err = RightsError;

    fn from_str(text: &str) -> Result<Self, RightsError> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let rights = names
            .map(Self::named)
            .try_fold(Self::default(), |rights, named| {
                named.map(|named| rights.and(named))
            })?;
        if rights == Self::default() {
            return Err(RightsError::None);
        }
        Ok(rights)
    }
}

/// The comma-separated names: the stored and displayed form.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_str(ALL_RIGHTS);
        }
        let names = Right::ALL.iter().filter(|right| self.contain(**right));
        let names: Vec<_> = names.map(|right| right.as_str()).collect();
        f.write_str(&names.join(","))
    }
}

/// Why a list of rights is invalid.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum RightsError {
    /// The right does not exist.
    #[error("there is no right {0:?}; the rights are {names}", names = Rights::names())]
    Unknown(String),
    /// The list is empty.
    #[error("no right is named; the rights are {names}", names = Rights::names())]
    None,
}

/// An authenticated calling service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    /// The name of its key, or the name in its client certificate.
    pub name: Arc<str>,
    /// The RPCs that it may call.
    pub rights: Rights,
}

/// The name of a service with a key: 1 to 63 lower-case letters, digits and hyphens; the first is not a hyphen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceName(String);

impl ServiceName {
    /// Maximum length of a name, in characters.
    pub const MAX_LENGTH: usize = 63;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Wraps a name that was read from the database.
    pub(crate) fn from_stored(name: String) -> Self {
        Self(name)
    }
}

impl FromStr for ServiceName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let is_valid = (1..=Self::MAX_LENGTH).contains(&text.len())
            && !text.starts_with('-')
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if is_valid {
            Ok(Self(text.to_owned()))
        } else {
            Err("not 1 to 63 lower-case letters, digits and hyphens, beginning with a letter or digit")
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The ID of a service key, a UUIDv7. It is not secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ServiceKeyId(pub Uuid);

impl ServiceKeyId {
    /// Creates a new ID.
    #[must_use]
    pub fn generate(now: Timestamp) -> Self {
        Self(clock::new_id(now))
    }
}

impl fmt::Display for ServiceKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The metadata of a service key, without the key itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceKey {
    /// The ID.
    pub id: ServiceKeyId,
    /// The calling service. During a rotation several keys have the same name.
    pub name: ServiceName,
    /// The rights of the service with this key.
    pub rights: Rights,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of revocation. `None`: the key is valid.
    pub revoked_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_round_trip_through_their_names() {
        let rights: Rights = "register, validate,".parse().unwrap();
        assert_eq!(rights.to_string(), "validate,register");
        assert!(rights.contain(Right::Validate) && rights.contain(Right::Register));
        assert!(!rights.contain(Right::Admin));
        assert_eq!(Rights::from_stored(&rights.to_string()), rights);
        let all: Rights = "all".parse().unwrap();
        assert!(Right::ALL.iter().all(|right| all.contain(*right)));
        assert_eq!((all, all.to_string().as_str()), (Rights::ALL, "all"));
        let each: Vec<_> = Right::ALL.iter().map(|right| right.as_str()).collect();
        // A list of all current rights does not include rights of later versions.
        assert_ne!(each.join(",").parse::<Rights>().unwrap(), Rights::ALL);
    }

    #[test]
    fn unknown_rights_are_rejected_in_input_and_ignored_in_storage() {
        for (text, expected) in [
            ("", RightsError::None),
            (" , ", RightsError::None),
            ("validate,list", RightsError::Unknown("list".to_owned())),
            ("Validate", RightsError::Unknown("Validate".to_owned())),
            ("*", RightsError::Unknown("*".to_owned())),
        ] {
            assert_eq!(text.parse::<Rights>(), Err(expected), "{text:?}");
        }
        let stored = Rights::from_stored("validate,of-a-newer-version");
        assert_eq!(stored.to_string(), "validate");
        assert_eq!(Rights::from_stored(""), Rights::default());
    }

    #[test]
    fn each_rpc_requires_one_right() {
        let mut rpcs: Vec<_> = Right::ALL.iter().flat_map(|right| right.rpcs()).collect();
        let count = rpcs.len();
        rpcs.sort_unstable();
        rpcs.dedup();
        assert_eq!(rpcs.len(), count);
        assert_eq!(
            Right::of_rpc("PhoneIdentityAdmin", "Anything"),
            Some(Right::Admin)
        );
        assert_eq!(Right::of_rpc("PhoneIdentity", "Anything"), None);
    }

    #[test]
    fn service_names_have_lower_case_letters_digits_and_hyphens() {
        for valid in ["a", "0", "orders", "orders-eu-2", &"x".repeat(63)] {
            assert_eq!(valid.parse::<ServiceName>().unwrap().as_str(), valid);
        }
        for invalid in ["", "-a", "Orders", "a b", "a.b", "ö", "a_b", &"x".repeat(64)] {
            assert!(invalid.parse::<ServiceName>().is_err(), "{invalid:?}");
        }
    }
}
