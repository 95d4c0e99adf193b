//! Errors in the format of the contract.

use std::time::Duration;

use tonic::{Code, Response, Status};
use tonic_types::{ErrorDetail, StatusExt as _};

/// The content of an error.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) metadata: Vec<(String, String)>,
    /// Field and reason of each violation.
    pub(crate) violations: Vec<(String, String)>,
    pub(crate) retry_after: Option<Duration>,
    /// Language and text.
    pub(crate) localized: (String, String),
}

/// Reads a status. Checks that it has one ErrorInfo with the domain of the service, and one LocalizedMessage.
pub(crate) fn refusal(status: &Status) -> Refusal {
    let details = status.get_error_details_vec();
    let infos: Vec<_> = details
        .iter()
        .filter_map(|detail| match detail {
            ErrorDetail::ErrorInfo(info) => Some(info),
            _ => None,
        })
        .collect();
    let [info] = infos.as_slice() else {
        panic!("not exactly one ErrorInfo: {status:?}")
    };
    assert_eq!(info.domain, "phone-identity");
    let details = status.get_error_details();
    let localized = details.localized_message().expect("no LocalizedMessage");
    let violations = details
        .bad_request()
        .map(|bad| bad.field_violations.clone())
        .unwrap_or_default();
    for violation in &violations {
        assert!(!violation.description.is_empty());
        assert_eq!(
            violation
                .localized_message
                .as_ref()
                .map(|message| &message.locale),
            Some(&localized.locale)
        );
    }
    Refusal {
        code: status.code(),
        reason: info.reason.clone(),
        message: status.message().to_owned(),
        metadata: info.metadata.clone().into_iter().collect(),
        violations: violations
            .into_iter()
            .map(|violation| (violation.field, violation.reason))
            .collect(),
        retry_after: details.retry_info().and_then(|info| info.retry_delay),
        localized: (localized.locale.clone(), localized.message.clone()),
    }
}

/// Checks that a call was refused with this code and reason.
pub(crate) fn assert_refused<T: std::fmt::Debug>(
    outcome: Result<Response<T>, Status>,
    code: Code,
    reason: &str,
) {
    let refusal = refusal(&outcome.expect_err("was not refused"));
    assert_eq!(
        (refusal.code, refusal.reason.as_str()),
        (code, reason),
        "{refusal:?}"
    );
}

/// Checks that a call was refused for exactly these fields and reasons.
pub(crate) fn assert_violations<T: std::fmt::Debug>(
    outcome: Result<Response<T>, Status>,
    expected: &[(&str, &str)],
) {
    let refusal = refusal(&outcome.expect_err("was not refused"));
    assert_eq!(
        (refusal.code, refusal.reason.as_str()),
        (Code::InvalidArgument, "INVALID_INPUT"),
        "{refusal:?}"
    );
    let violations: Vec<_> = refusal
        .violations
        .iter()
        .map(|(field, reason)| (field.as_str(), reason.as_str()))
        .collect();
    assert_eq!(violations, expected, "{refusal:?}");
}
