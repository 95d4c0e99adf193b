//! Router: sends ValidateSession to its own service ([`super::validate_session`]) and other calls to tonic's routes.

use std::convert::Infallible;
use std::task::{Context, Poll};

use http::{Request, Response};
use tokio_util::either::Either;
use tonic::body::Body;
use tower::Service;

use super::metrics::VALIDATE_SESSION;
use super::middleware::CallService;

/// Selects the service of a call by its path.
#[derive(Clone)]
pub(super) struct Router<V, R> {
    pub(super) validate_session: V,
    pub(super) routes: R,
}

impl<V, R> Service<Request<Body>> for Router<V, R>
where
    V: CallService,
    R: CallService,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<V::Future, R::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The service of ValidateSession is always ready.
        self.routes.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() == VALIDATE_SESSION {
            Either::Left(self.validate_session.call(request))
        } else {
            Either::Right(self.routes.call(request))
        }
    }
}
