//! Authorization of calling services: authenticates the calling service of each call, by the certificate of its
//! connection or by its service key, and checks that it has the right that the RPC requires.
//!
//! Health requires no calling service, because the clients of health checks have no identity. Reflection and unknown
//! paths require a known calling service, with any rights. A refusal is never UNAUTHENTICATED: clients would take that
//! for an invalid session.

use std::collections::HashMap;
use std::sync::Arc;

use http::Request;
use thiserror::Error;
use tonic::Status;
use tonic::body::Body;
use tower::service_fn;

use super::middleware::{CallResult, CallService};
use super::refusal_log::RefusedCaller;
use super::server::stream::Peer;
use super::{metadata, status};
use crate::domain::access::{Caller, Right, Service};
use crate::proto::{self, Rpc};
use crate::service::error::Error;
use crate::service::service_keys::Keyring;

const SERVICE_KEY: &str = "x-service-key";

/// The credentials that calling services can authenticate with. With none of them, every call is accepted.
#[derive(Clone)]
pub struct Callers {
    /// Whether certificates are accepted.
    pub certificates: bool,
    /// The service keys. `None`: service keys are not accepted.
    pub keys: Option<Keyring>,
}

/// Authorizes calls. Cheap to clone.
#[derive(Clone)]
pub(super) struct CallerAuthorizer {
    callers: Callers,
    /// The right that each of our RPCs requires, by its path.
    rights: Arc<HashMap<String, Right>>,
}

impl CallerAuthorizer {
    /// # Errors
    /// When the compiled-in contract cannot be read, or has an RPC that belongs to no right.
    pub(super) fn new(callers: Callers) -> Result<Self, AuthorizationError> {
        let right = |rpc: &Rpc| {
            let right = Right::of_rpc(&rpc.service, &rpc.method);
            let right = right.ok_or_else(|| AuthorizationError::NoRight(rpc.full_name()))?;
            Ok::<_, AuthorizationError>((format!("/{}", rpc.full_name()), right))
        };
        let rights: Result<_, _> = proto::rpcs()?.iter().map(right).collect();
        Ok(Self {
            callers,
            rights: Arc::new(rights?),
        })
    }

    /// Returns a service that passes authorized calls to `inner` and refuses the others.
    pub(super) fn protect<S>(self, inner: S) -> impl CallService<Future: Send> + Clone
    where
        S: CallService<Future: Send> + Clone + Send,
    {
        service_fn(move |request| authorized(self.clone(), inner.clone(), request))
    }

    /// Authorizes a call, and adds its [`Caller`] to the extensions of the request.
    ///
    /// # Errors
    /// [`Error::ServiceUnknown`], [`Error::ServiceNotAllowed`], or [`Error::DatabaseUnavailable`] when the service keys
    /// in memory are too old.
    async fn authorize(&self, request: &mut Request<Body>) -> Result<(), Error> {
        let Callers { certificates, keys } = &self.callers;
        let path = request.uri().path();
        if !certificates && keys.is_none() || path.starts_with("/grpc.health.") {
            return Ok(());
        }
        let right = self.rights.get(path).copied();
        let is_allowed = |service: &Service| right.is_none_or(|right| service.rights.contain(right));
        let certified = request
            .extensions()
            .get::<Peer>()
            .and_then(|peer| peer.service.clone());
        let mut is_known = certified.is_some();
        let mut service = certified.filter(|service| is_allowed(service));
        if service.is_none()
            && let Some(keys) = keys
            && let Some(key) = request.headers().get(SERVICE_KEY)
            && let Ok(key) = key.to_str()
        {
            let key_owner = keys.find(key).await?;
            is_known |= key_owner.is_some();
            service = key_owner.filter(|service| is_allowed(service));
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

/// Handles a call if its calling service is authorized.
async fn authorized<S>(authorizer: CallerAuthorizer, mut inner: S, mut request: Request<Body>) -> CallResult
where
    S: CallService,
{
    if let Err(error) = authorizer.authorize(&mut request).await {
        return Ok(status::of_error(&error, metadata::language_of(&request)).into_http());
    }
    let caller = request.extensions().get::<Caller>();
    let service = caller.and_then(|caller| caller.service.clone());
    let mut response = inner.call(request).await?;
    if let Some(service) = service
        && response.headers().contains_key(Status::GRPC_STATUS)
    {
        response.extensions_mut().insert(RefusedCaller(service));
    }
    Ok(response)
}

/// Why calls cannot be authorized.
#[derive(Debug, Error)]
pub enum AuthorizationError {
    /// The compiled-in contract cannot be read.
    #[error("the contract cannot be read: {0}")]
    Descriptors(#[from] prost::DecodeError),
    /// An RPC belongs to no right.
    #[error("no right includes {0}")]
    NoRight(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_takes_a_right_and_every_right_is_for_an_rpc() {
        let none = Callers {
            certificates: false,
            keys: None,
        };
        let authorizer = CallerAuthorizer::new(none).unwrap();
        for right in Right::ALL {
            assert!(
                authorizer.rights.values().any(|required| *required == right),
                "{right:?}"
            );
            for rpc in right.rpcs().iter().filter(|rpc| !rpc.ends_with('*')) {
                let path = format!("/phone_identity.v1.{rpc}");
                assert_eq!(authorizer.rights.get(&path), Some(&right), "{rpc}");
            }
        }
        assert_eq!(authorizer.rights.len(), proto::rpcs().unwrap().len());
        let other = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        assert_eq!(authorizer.rights.get(other), None);
    }
}
