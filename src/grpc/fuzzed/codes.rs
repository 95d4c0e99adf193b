//! Requests of service `PhoneVerification`.

use super::{FuzzedHandlers, decoded, refused};
use crate::domain::access::Caller;
use crate::grpc::parse;
use crate::i18n::Language;

pub(crate) fn send_code(bytes: &[u8]) {
    if let (Some(request), Some(desk)) = (decoded(bytes), FuzzedHandlers::get()) {
        let wanted =
            parse::codes::code_to_send(request, &Caller::default(), Language::default(), &desk.rules);
        refused(wanted);
    }
}

pub(crate) fn verify_code(bytes: &[u8]) {
    let (Some(request), Some(desk)) = (decoded(bytes), FuzzedHandlers::get()) else {
        return;
    };
    let caller = Caller::default();
    refused(parse::codes::code_submission(request, &caller, &desk.rules));
}
