//! Conversion of requests to the domain. All violations of a request are collected before it is refused.

pub(super) mod admin;
pub(super) mod codes;

use std::net::IpAddr;

use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use crate::domain::access::Caller;
use crate::domain::password::Password;
use crate::domain::phone::{PhoneError, PhoneNumber};
use crate::domain::rules::Rules;
use crate::domain::session::{ClientInfo, SessionId};
use crate::domain::user::{Locale, User};
use crate::i18n::Language;
use crate::proto::v1;
use crate::service::accounts::{Credentials, ProfileUpdate, Registration};
use crate::service::error::{Error, Problem, Violation};
use crate::service::sessions::Consistency;
use crate::store::sessions::Selection;

/// Maximum number of session ids of one RevokeSessions.
const MAX_SESSION_IDS: usize = 100;

/// Maximum number of ids that are reported as violations. A status is sent in headers, which some clients limit to
/// 8 KiB.
const MAX_INVALID_IDS: usize = 10;

/// Collects the violations of a request.
#[derive(Default)]
struct Fields(Vec<Violation>);

impl Fields {
    /// Returns the value of a field. `None`: the field has a violation, which is added.
    fn check<T>(&mut self, field: &'static str, result: Result<T, impl Into<Problem>>) -> Option<T> {
        result
            .map_err(|problem| self.0.push(Violation::new(field, problem.into())))
            .ok()
    }

    /// As [`Self::check`], for a phone number: an unknown region is a violation of `default_region`.
    fn check_phone<T>(&mut self, field: &'static str, result: Result<T, PhoneError>) -> Option<T> {
        let field = if matches!(result, Err(PhoneError::RegionUnknown)) {
            "default_region"
        } else {
            field
        };
        self.check(field, result)
    }

    /// Adds a violation.
    fn refuse(&mut self, field: &'static str, problem: Problem) {
        self.0.push(Violation::new(field, problem));
    }

    /// # Errors
    /// [`Error::InvalidInput`] if there are violations.
    fn finish(self) -> Result<(), Error> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(self.into_error())
        }
    }

    /// Returns [`Error::InvalidInput`] with the violations.
    fn into_error(self) -> Error {
        Error::InvalidInput(self.0)
    }
}

pub(super) fn registration(
    request: v1::RegisterRequest,
    caller: &Caller,
    rules: &Rules,
) -> Result<Registration, Error> {
    let mut fields = Fields::default();
    let (phone_number, password) = new_account(
        &mut fields,
        rules,
        &request.phone_number,
        &request.default_region,
        request.password,
    );
    let client = client(&mut fields, request.client);
    match (phone_number, password, client) {
        (Some(phone_number), Some(password), Some(client)) => Ok(Registration {
            phone_number,
            password,
            client,
            caller: caller.clone(),
            remember_device: request.remember_device,
        }),
        _ => Err(fields.into_error()),
    }
}

pub(super) fn superuser(
    request: v1::CreateSuperuserRequest,
    rules: &Rules,
) -> Result<(PhoneNumber, Password), Error> {
    let mut fields = Fields::default();
    let account = new_account(
        &mut fields,
        rules,
        &request.phone_number,
        &request.default_region,
        request.password,
    );
    match account {
        (Some(phone_number), Some(password)) => Ok((phone_number, password)),
        _ => Err(fields.into_error()),
    }
}

fn new_account(
    fields: &mut Fields,
    rules: &Rules,
    phone_number: &str,
    region: &str,
    password: String,
) -> (Option<PhoneNumber>, Option<Password>) {
    let phone_number = fields.check_phone("phone_number", rules.take_phone(phone_number, region));
    let phones: Vec<&PhoneNumber> = phone_number.iter().collect();
    let password = new_password(fields, rules, "password", password, &phones);
    (phone_number, password)
}

/// Returns a new password of an account with these phone numbers. Only its shape is checked here. The service applies
/// the password policy.
fn new_password(
    fields: &mut Fields,
    rules: &Rules,
    field: &'static str,
    password: String,
    phones: &[&PhoneNumber],
) -> Option<Password> {
    let input = SecretString::from(password);
    fields.check(field, rules.take_password(input.expose_secret(), phones))
}

pub(super) fn credentials(
    request: v1::AuthenticateRequest,
    caller: &Caller,
    rules: &Rules,
) -> Result<Credentials, Error> {
    let mut fields = Fields::default();
    let phone_number = rules.find_phone(&request.phone_number, &request.default_region);
    let phone_number = fields.check_phone("phone_number", phone_number);
    let password = known_password(&mut fields, "password", request.password);
    let client = client(&mut fields, request.client);
    match (phone_number, password, client) {
        (Some(phone_number), Some(password), Some(client)) => Ok(Credentials {
            phone_number,
            password,
            client,
            caller: caller.clone(),
            reactivate: request.reactivate,
            device_token: device_token(request.device_token),
            remember_device: request.remember_device,
        }),
        _ => Err(fields.into_error()),
    }
}

/// Returns the device token of a request. `None`: the field is empty.
fn device_token(token: String) -> Option<SecretString> {
    Some(SecretString::from(token)).filter(|token| !token.expose_secret().is_empty())
}

/// Returns the current password. `None`: the field is unset.
pub(super) fn current_password(current_password: Option<String>) -> Result<Option<Password>, Error> {
    let Some(password) = current_password else {
        return Ok(None);
    };
    let mut fields = Fields::default();
    match known_password(&mut fields, "current_password", password) {
        Some(password) => Ok(Some(password)),
        None => Err(fields.into_error()),
    }
}

/// Returns the update of `user`, and the current password. `None`: that field is unset.
pub(super) fn profile_update(
    request: v1::UpdateProfileRequest,
    rules: &Rules,
    user: &User,
    language: Language,
) -> Result<(Option<Password>, ProfileUpdate), Error> {
    let mut fields = Fields::default();
    let current_password = request
        .current_password
        .and_then(|password| known_password(&mut fields, "current_password", password));
    let phone_number = request.new_phone_number.and_then(|number| {
        fields.check_phone(
            "new_phone_number",
            rules.take_phone(&number, &request.default_region),
        )
    });
    let phones: Vec<&PhoneNumber> = phone_number.iter().chain([&user.phone_number]).collect();
    let password = request
        .new_password
        .and_then(|password| new_password(&mut fields, rules, "new_password", password, &phones));
    let locale = request.locale.and_then(|locale| {
        if locale.is_empty() {
            return Some(None);
        }
        fields
            .check(
                "locale",
                Locale::parse(&locale).map_err(|_| Problem::LocaleInvalid),
            )
            .map(Some)
    });
    fields.finish()?;
    let update = ProfileUpdate {
        phone_number,
        password,
        locale,
        language,
    };
    Ok((current_password, update))
}

/// Returns the sessions to revoke. `current` is the session of the call.
pub(super) fn selection(request: &v1::RevokeSessionsRequest, current: SessionId) -> Result<Selection, Error> {
    let mut fields = Fields::default();
    match (request.session_ids.len(), request.all_others) {
        (0, true) => return Ok(Selection::AllBut(current)),
        (0, false) => fields.0.push(Violation::new("session_ids", Problem::Required)),
        (_, true) => fields.0.push(Violation::new(
            "all_others",
            Problem::MutuallyExclusive("session_ids"),
        )),
        (1..=MAX_SESSION_IDS, false) => {}
        (_, false) => fields.0.push(Violation::new(
            "session_ids",
            Problem::TooManyItems(MAX_SESSION_IDS),
        )),
    }
    fields.finish()?;
    let parsed: Vec<Option<SessionId>> = request.session_ids.iter().map(|id| session_id(id)).collect();
    let invalid = parsed.iter().enumerate().filter(|(_, id)| id.is_none());
    let violations = invalid.take(MAX_INVALID_IDS).map(|(index, _)| Violation {
        field: "session_ids",
        index: Some(index),
        problem: Problem::SessionIdInvalid,
    });
    Fields(violations.collect()).finish()?;
    Ok(Selection::These(parsed.into_iter().flatten().collect()))
}

fn session_id(id: &str) -> Option<SessionId> {
    uuid(id).map(SessionId)
}

/// Returns an id in the form of our ids: 32 hexadecimal digits with hyphens. `None`: it has another form.
fn uuid(id: &str) -> Option<Uuid> {
    const LENGTH: usize = uuid::fmt::Hyphenated::LENGTH;
    (id.len() == LENGTH).then(|| Uuid::try_parse(id).ok()).flatten()
}

/// Returns the required consistency of a response.
pub(super) fn consistency(consistency: i32) -> Result<Consistency, Error> {
    match v1::Consistency::try_from(consistency) {
        Ok(v1::Consistency::Unspecified | v1::Consistency::MinimizeLatency) => {
            Ok(Consistency::MinimizeLatency)
        }
        Ok(v1::Consistency::Strong) => Ok(Consistency::Strong),
        Err(_) => Err(Error::InvalidInput(vec![Violation::new(
            "consistency",
            Problem::EnumValueUnknown,
        )])),
    }
}

/// Returns a password that is verified, and not set. A password that no account can have is a violation.
fn known_password(fields: &mut Fields, field: &'static str, password: String) -> Option<Password> {
    let password = SecretString::from(password);
    fields.check(field, Password::parse(password.expose_secret()))
}

fn client(fields: &mut Fields, client: Option<v1::ClientInfo>) -> Option<ClientInfo> {
    let client = client.unwrap_or_default();
    if client.ip_address.is_empty() {
        return Some(ClientInfo::new(None, &client.user_agent));
    }
    let address: Result<IpAddr, Problem> = client.ip_address.parse().map_err(|_| Problem::IpAddressInvalid);
    let address = fields.check("client.ip_address", address)?;
    Some(ClientInfo::new(Some(address), &client.user_agent))
}
