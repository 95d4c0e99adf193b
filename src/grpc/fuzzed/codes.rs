//! Requests of service `PhoneVerification`.

use super::{Desk, decoded, refused};
use crate::domain::caller::Caller;
use crate::grpc::parse;
use crate::i18n::Language;

pub(crate) fn send_code(bytes: &[u8]) {
    if let (Some(request), Some(desk)) = (decoded(bytes), Desk::get()) {
        let wanted = parse::codes::wanted(request, &Caller::default(), Language::default(), &desk.rules);
        refused(wanted);
    }
}

pub(crate) fn verify_code(bytes: &[u8]) {
    let (Some(request), Some(desk)) = (decoded(bytes), Desk::get()) else {
        return;
    };
    let caller = Caller::default();
    refused(parse::codes::offer(request, &caller, &desk.rules));
}
