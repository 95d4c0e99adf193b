//! Who may call what: the calling service of each call, by the certificate of its connection or by the service key of
//! the call, and whether it has the right that the RPC takes.
//!
//! Health needs nothing, since those who ask have no identity. Reflection, and what is no RPC at all, takes a service
//! that is known, whatever its rights. A refusal is never UNAUTHENTICATED: that would be taken for a dead session.

use std::sync::Arc;

use http::Request;
use thiserror::Error;
use tonic::body::Body;

use super::metrics::RpcIndex;
use super::server::stream::Peer;
use crate::domain::access::{Caller, Right, Service};
use crate::proto::{self, Rpc};
use crate::service::error::Error;
use crate::service::service_keys::Keyring;

const SERVICE_KEY: &str = "x-service-key";

/// Whom calls are taken from.
#[derive(Clone)]
pub struct Callers {
    /// Those whose certificate is listed.
    pub certificates: bool,
    /// Those who have a key.
    pub keys: Option<Keyring>,
}

/// Stands before all calls. Cheap to clone.
#[derive(Clone)]
pub(super) struct CallerAuthorizer {
    callers: Callers,
    /// The right that each RPC takes, by its place.
    rights: Arc<[Right]>,
}

impl CallerAuthorizer {
    /// # Errors
    /// When the compiled-in contract cannot be read, or has an RPC of which nobody has said what right it takes.
    pub(super) fn new(callers: Callers) -> Result<Self, AuthorizationError> {
        let right = |rpc: &Rpc| {
            Right::of_rpc(&rpc.service, &rpc.method)
                .ok_or_else(|| AuthorizationError::NoRight(rpc.full_name()))
        };
        let rights: Result<_, _> = proto::rpcs()?.iter().map(right).collect();
        Ok(Self {
            callers,
            rights: rights?,
        })
    }

    /// Lets a call of this RPC in, and notes who makes it.
    ///
    /// # Errors
    /// [`Error::ServiceUnknown`], [`Error::ServiceNotAllowed`], or [`Error::DatabaseUnavailable`] when it is not known
    /// whether the key is good.
    pub(super) async fn authorize(&self, request: &mut Request<Body>, place: RpcIndex) -> Result<(), Error> {
        let Callers { certificates, keys } = &self.callers;
        if !certificates && keys.is_none() || request.uri().path().starts_with("/grpc.health.") {
            return Ok(());
        }
        let right = self.rights.get(place.index()).copied();
        let may = |service: &Service| right.is_none_or(|right| service.rights.contain(right));
        let listed = request
            .extensions()
            .get::<Peer>()
            .and_then(|peer| peer.service.clone());
        let mut is_known = listed.is_some();
        let mut service = listed.filter(|listed| may(listed));
        if service.is_none()
            && let Some(keys) = keys
            && let Some(key) = request.headers().get(SERVICE_KEY)
            && let Ok(key) = key.to_str()
        {
            let holder = keys.find(key).await?;
            is_known |= holder.is_some();
            service = holder.filter(|holder| may(holder));
        }
        let Some(service) = service else {
            return Err(if is_known {
                Error::ServiceNotAllowed
            } else {
                Error::ServiceUnknown
            });
        };
        request.extensions_mut().insert(Caller {
            service: Some(service.name.clone()),
            request_id: None,
        });
        Ok(())
    }
}

/// Why there is no gate.
#[derive(Debug, Error)]
pub enum AuthorizationError {
    /// The compiled-in contract cannot be read.
    #[error("the contract cannot be read: {0}")]
    Descriptors(#[from] prost::DecodeError),
    /// There is an RPC that is in no right.
    #[error("no right is for {0}")]
    NoRight(String),
}

#[cfg(test)]
mod tests {
    use super::super::metrics::Metrics;
    use super::*;

    #[test]
    fn every_rpc_takes_a_right_and_every_right_is_for_an_rpc() {
        let nobody = Callers {
            certificates: false,
            keys: None,
        };
        let gate = CallerAuthorizer::new(nobody).unwrap();
        let metrics = Metrics::new().unwrap();
        for right in Right::ALL {
            assert!(gate.rights.contains(&right), "{right:?}");
            for rpc in right.rpcs().iter().filter(|rpc| !rpc.ends_with('*')) {
                let place = metrics.place(&format!("/phone_identity.v1.{rpc}"));
                assert_eq!(gate.rights.get(place.index()), Some(&right), "{rpc}");
            }
        }
        let other = metrics.place("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
        assert_eq!(gate.rights.get(other.index()), None);
    }
}
