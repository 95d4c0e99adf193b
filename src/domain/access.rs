//! Which calling services there are, and what each may call: rights, names of services, and what a service key is.

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

/// What is known of the calling service, and of its call.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Caller {
    /// Its name. `None`: services do not have to prove who they are here, or it is the operator at the command line.
    pub service: Option<Arc<str>>,
    /// The id of the call, under which the log has its line. `None`: it is the operator at the command line.
    pub request_id: Option<Arc<str>>,
}

/// What a calling service may be allowed: one or several RPCs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Right {
    /// To check sessions.
    Validate,
    /// To register people.
    Register,
    /// To sign people in.
    Authenticate,
    /// To sign people out.
    Revoke,
    /// To list and end the sessions of a bearer.
    Sessions,
    /// To change, deactivate and delete the account of a bearer.
    Profile,
    /// To send and take one-time codes.
    Codes,
    /// To make superusers.
    Superuser,
    /// Administration.
    Admin,
}

impl Right {
    /// All of them.
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

    /// The name. It is stored, so it never changes.
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

    /// The RPCs, as `service/method`, without the package; `*` is every method.
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

    /// The right that an RPC takes. `None`: nobody has said which.
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

/// The name of all rights, also of those that there will be.
const ALL_RIGHTS: &str = "all";

/// Some rights.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rights(u32);

impl Rights {
    /// All rights, also those that there will be.
    pub const ALL: Self = Self(u32::MAX);

    /// Whether a right is among these.
    #[must_use]
    pub const fn contain(self, right: Right) -> bool {
        self.0 & right.bit() != 0
    }

    /// These and others.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Rights as they are stored. A newer version may have stored one that this one does not know, and has no RPC for.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        let known = text.split(',').filter_map(|name| Self::named(name).ok());
        known.fold(Self::default(), Self::and)
    }

    /// What the names of rights may be, for the help.
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

/// Reads names with commas between them.
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

/// The names, with commas between them: how rights are stored and shown.
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

/// Why a text is no rights.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum RightsError {
    /// There is no such right.
    #[error("there is no right {0:?}: they are {names}", names = Rights::names())]
    Unknown(String),
    /// No right is named.
    #[error("no right is named: they are {names}", names = Rights::names())]
    None,
}

/// A service that calls, and has proved who it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    /// Its name: that of its key, or the one in its certificate.
    pub name: Arc<str>,
    /// What it may call.
    pub rights: Rights,
}

/// The name of a service that has a key: 1 to 63 small letters, digits and hyphens, the first one no hyphen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceName(String);

impl ServiceName {
    /// The longest name.
    pub const MAX_LENGTH: usize = 63;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name that was read from the database.
    pub(crate) fn from_stored(name: String) -> Self {
        Self(name)
    }
}

impl FromStr for ServiceName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let is_good = (1..=Self::MAX_LENGTH).contains(&text.len())
            && !text.starts_with('-')
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if is_good {
            Ok(Self(text.to_owned()))
        } else {
            Err("not 1 to 63 small letters, digits and hyphens, the first one no hyphen")
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of a service key, a UUIDv7. It is not secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ServiceKeyId(pub Uuid);

impl ServiceKeyId {
    /// A new id.
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

/// What is known of a service key, which is not the key itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceKey {
    /// Its id.
    pub id: ServiceKeyId,
    /// Whose it is. Several may have one name, while one takes the place of another.
    pub name: ServiceName,
    /// What it is good for.
    pub rights: Rights,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it is good for nothing.
    pub revoked_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_read_as_they_are_written() {
        let rights: Rights = "register, validate,".parse().unwrap();
        assert_eq!(rights.to_string(), "validate,register");
        assert!(rights.contain(Right::Validate) && rights.contain(Right::Register));
        assert!(!rights.contain(Right::Admin));
        assert_eq!(Rights::from_stored(&rights.to_string()), rights);
        let all: Rights = "all".parse().unwrap();
        assert!(Right::ALL.iter().all(|right| all.contain(*right)));
        assert_eq!((all, all.to_string().as_str()), (Rights::ALL, "all"));
        let each: Vec<_> = Right::ALL.iter().map(|right| right.as_str()).collect();
        // One that comes later is not among them.
        assert_ne!(each.join(",").parse::<Rights>().unwrap(), Rights::ALL);
    }

    #[test]
    fn what_is_no_right_is_refused_and_passed_over_where_it_is_stored() {
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
    fn no_rpc_takes_two_rights() {
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
    fn names_of_services_are_words() {
        for good in ["a", "0", "orders", "orders-eu-2", &"x".repeat(63)] {
            assert_eq!(good.parse::<ServiceName>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "Orders", "a b", "a.b", "ö", "a_b", &"x".repeat(64)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?}");
        }
    }
}
