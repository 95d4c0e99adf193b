//! The allow-list of calling services that show a certificate.

use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use super::{RightsError, Service};

/// The longest name of a certificate that may be listed, in bytes.
const MAX_NAME_LENGTH: usize = 512;

/// Which names of client certificates are known, and what each may call.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientList(Vec<Service>);

impl ClientList {
    /// Whether nobody is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The service whose certificate has these names. One that has several listed names is called by the one that is
    /// listed first, and may what any of them may. `None`: none of them is listed.
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

/// Reads `NAME=rights; NAME=rights`. A name is a DNS name or a URI, and is compared as it is written: there are no
/// wildcards.
impl FromStr for ClientList {
    type Err = ClientListError;

    fn from_str(text: &str) -> Result<Self, ClientListError> {
        let mut clients: Vec<Service> = Vec::new();
        for entry in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
            // A URI may have such a sign in it, rights have not.
            let (name, rights) = entry
                .rsplit_once('=')
                .ok_or_else(|| ClientListError::NoRights(entry.to_owned()))?;
            let name = name.trim_end();
            let is_good = (1..=MAX_NAME_LENGTH).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_graphic() && b != b'*');
            if !is_good {
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

/// Why a text is no allow-list.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ClientListError {
    /// An entry says nothing of rights.
    #[error("{0:?} is not NAME=RIGHTS")]
    NoRights(String),
    /// A name cannot be one of a certificate.
    #[error("{0:?} is not a DNS name or a URI without wildcards")]
    Name(String),
    /// A name is listed twice.
    #[error("{0:?} is listed twice")]
    Twice(String),
    /// Rights that there are not.
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
    fn a_list_says_what_each_name_may() {
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
    fn who_has_two_names_may_what_either_may() {
        let list = list("a=validate; b=register; c=all");
        let both = list.find(&["b", "a"]).unwrap();
        assert_eq!(
            (both.name.as_ref(), both.rights.to_string().as_str()),
            ("a", "validate,register")
        );
    }

    #[test]
    fn what_is_no_list_is_refused() {
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
