//! From messages to the domain. All violations of a request are collected before it is refused.

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

/// The most session ids of one RevokeSessions.
const MAX_SESSION_IDS: usize = 100;

/// The most ids that are named as violations. A status travels in headers, which some clients bound at 8 KiB.
const MAX_BAD_IDS: usize = 10;

/// Collects what is wrong with the fields of a request.
#[derive(Default)]
struct Fields(Vec<Violation>);

impl Fields {
    /// Notes what is wrong with a field, and gives its value if nothing is.
    fn check<T>(&mut self, field: &'static str, result: Result<T, impl Into<Problem>>) -> Option<T> {
        result
            .map_err(|problem| self.0.push(Violation::new(field, problem.into())))
            .ok()
    }

    /// As [`Self::check`], for a phone number: an unknown region is the fault of another field.
    fn check_phone<T>(&mut self, field: &'static str, result: Result<T, PhoneError>) -> Option<T> {
        let field = if matches!(result, Err(PhoneError::RegionUnknown)) {
            "default_region"
        } else {
            field
        };
        self.check(field, result)
    }

    /// Notes what is wrong with a field.
    fn refuse(&mut self, field: &'static str, problem: Problem) {
        self.0.push(Violation::new(field, problem));
    }

    /// The violations as an error, if there are any.
    fn finish(self) -> Result<(), Error> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(self.into_error())
        }
    }

    /// The violations as an error.
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

/// A new password of an account with these numbers. Only its shape is checked here: the service applies the password
/// policy.
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

/// The token of a device, if one is given.
fn device_token(token: String) -> Option<SecretString> {
    Some(SecretString::from(token)).filter(|token| !token.expose_secret().is_empty())
}

/// The current password, if one is given.
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

/// What to change about `user`, and the current password, if one is given.
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

/// Which sessions to revoke; `current` is the one of the call.
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
    let bad = parsed.iter().enumerate().filter(|(_, id)| id.is_none());
    let violations = bad.take(MAX_BAD_IDS).map(|(index, _)| Violation {
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

/// An id as we write them: 32 hexadecimal digits with hyphens.
fn uuid(id: &str) -> Option<Uuid> {
    const LENGTH: usize = uuid::fmt::Hyphenated::LENGTH;
    (id.len() == LENGTH).then(|| Uuid::try_parse(id).ok()).flatten()
}

/// How fresh an answer has to be.
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

/// A password to be checked, not chosen. One that nobody can have is the fault of the field.
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
