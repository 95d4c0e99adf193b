//! The service that makes a call, which is not the person whom the call is about.

use std::sync::Arc;

/// What is known of the calling service, and of its call.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Caller {
    /// Its name. `None`: services do not have to prove who they are here, or it is the operator at the command line.
    pub service: Option<Arc<str>>,
    /// The id of the call, under which the log has its line. `None`: it is the operator at the command line.
    pub request_id: Option<Arc<str>>,
}
