//! Allow-list of calling services that authenticate with a client certificate (mutual TLS).

use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use super::{RightsError, Service};

/// Maximum length of a certificate name in the list, in bytes.
const MAX_NAME_LENGTH: usize = 512;

/// The accepted names of client certificates, with the rights of each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientList(Vec<Service>);

impl ClientList {
    /// Whether the list is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the service with these certificate names. If several names are listed, the service has the name that is
    /// first in the list, and the rights of all of them. `None`: no name is listed.
    #[must_use]
    pub fn find(&self, names: &[&str]) -> Option<Arc<Service>> {
        let mut listed = self
            .0
            .iter()
            .filter(|service| names.contains(&service.name.as_ref()));
        let first = listed.next()?.clone();
        let all = listed.fold(first, |service, other| Service {
            rights: service.rights.and(other.rights),
            ..service
        });
        Some(Arc::new(all))
    }
}

/// Reads `NAME=RIGHTS; NAME=RIGHTS`. A name is a DNS name or a URI. Names are compared exactly, without wildcards.
impl FromStr for ClientList {
    type Err = ClientListError;

    fn from_str(text: &str) -> Result<Self, ClientListError> {
        let mut clients: Vec<Service> = Vec::new();
        for entry in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
            // A URI can contain `=`, rights cannot.
            let (name, rights) = entry
                .rsplit_once('=')
                .ok_or_else(|| ClientListError::NoRights(entry.to_owned()))?;
            let name = name.trim_end();
            let is_valid = (1..=MAX_NAME_LENGTH).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_graphic() && b != b'*');
            if !is_valid {
                return Err(ClientListError::Name(name.to_owned()));
            }
            if clients.iter().any(|client| client.name.as_ref() == name) {
                return Err(ClientListError::Twice(name.to_owned()));
            }
            clients.push(Service {
                name: name.into(),
                rights: rights.parse()?,
            });
        }
        Ok(Self(clients))
    }
}

/// Why an allow-list is invalid.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ClientListError {
    /// An entry has no rights.
    #[error("{0:?} is not NAME=RIGHTS")]
    NoRights(String),
    /// A name cannot be the name of a certificate.
    #[error("{0:?} is not a DNS name or a URI without wildcards")]
    Name(String),
    /// A name is listed twice.
    #[error("{0:?} is listed twice")]
    Twice(String),
    /// The rights of an entry are invalid.
    #[error(transparent)]
    Rights(#[from] RightsError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> ClientList {
        text.parse().unwrap()
    }

    #[test]
    fn each_listed_name_has_its_rights() {
        let list = list("orders.internal=validate,sessions; spiffe://cluster/ns/web?a=b=register ;");
        let orders = list.find(&["orders.internal"]).unwrap();
        assert_eq!(
            (orders.name.as_ref(), orders.rights.to_string().as_str()),
            ("orders.internal", "validate,sessions")
        );
        let web = list.find(&["web", "spiffe://cluster/ns/web?a=b"]).unwrap();
        assert_eq!(
            (web.name.as_ref(), web.rights.to_string().as_str()),
            ("spiffe://cluster/ns/web?a=b", "register")
        );
        for unlisted in [
            "Orders.internal",
            "a.orders.internal",
            "internal",
            "",
            "orders.internal.",
        ] {
            assert_eq!(list.find(&[unlisted]), None, "{unlisted}");
        }
        assert_eq!(list.find(&[]), None);
    }

    #[test]
    fn a_certificate_with_two_listed_names_has_the_rights_of_both() {
        let list = list("a=validate; b=register; c=all");
        let both = list.find(&["b", "a"]).unwrap();
        assert_eq!(
            (both.name.as_ref(), both.rights.to_string().as_str()),
            ("a", "validate,register")
        );
    }

    #[test]
    fn invalid_lists_are_rejected() {
        for (text, expected) in [
            ("orders", ClientListError::NoRights("orders".to_owned())),
            ("=validate", ClientListError::Name(String::new())),
            ("*.internal=all", ClientListError::Name("*.internal".to_owned())),
            ("a b=all", ClientListError::Name("a b".to_owned())),
            ("a=all;a=validate", ClientListError::Twice("a".to_owned())),
            ("a=", ClientListError::Rights(RightsError::None)),
            (
                "a=list",
                ClientListError::Rights(RightsError::Unknown("list".to_owned())),
            ),
        ] {
            assert_eq!(text.parse::<ClientList>(), Err(expected), "{text:?}");
        }
        assert!(list(" ; ").is_empty());
    }
}
