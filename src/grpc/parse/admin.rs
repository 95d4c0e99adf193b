//! Conversion of the requests of service `PhoneIdentityAdmin`.

use std::time::Duration;

use chrono::{DateTime, SubsecRound as _};
use prost_types::Timestamp as ProtoTimestamp;

use super::{Fields, MAX_INVALID_IDS, new_password, uuid};
use crate::clock::Timestamp;
use crate::domain::audit::{self, Action, EventId};
use crate::domain::password::Password;
use crate::domain::phone::{NumberPrefix, PhoneNumber};
use crate::domain::rules::Rules;
use crate::domain::user::{UserId, UserStatus};
use crate::grpc::page_token::{self, storable};
use crate::i18n::Language;
use crate::proto::v1;
use crate::service::admin::{Etag, NewUser, PhoneToVerify, UserSelector, UserUpdate};
use crate::service::error::{Error, Problem, Violation};
use crate::store::users::{List, Order, TimeRange, UserFilter};

/// Default number of users per page.
const DEFAULT_PAGE_SIZE: u64 = 50;

/// Default number of events per page.
const DEFAULT_EVENTS: u32 = 100;

/// Maximum number of users per page.
const MAX_PAGE_SIZE: u64 = 500;

/// Maximum number of users of one VerifyPhone.
const MAX_PHONES: usize = 100;

pub(in crate::grpc) fn list(request: &v1::ListUsersRequest) -> Result<List, Error> {
    let mut fields = Fields::default();
    let limit = u64::try_from(request.page_size).map_err(|_| Problem::OutOfRange);
    let limit = fields.check("page_size", limit);
    let prefix = match request.phone_number_prefix.as_str() {
        "" => None,
        text => {
            let prefix = NumberPrefix::parse(text).map_err(|_| Problem::PhoneNumberPrefixInvalid);
            fields.check("phone_number_prefix", prefix)
        }
    };
    let filter = UserFilter {
        prefix,
        status: status(&mut fields, request.status),
        is_staff: request.is_staff,
        is_superuser: request.is_superuser,
        phone_verified: request.phone_verified,
        created: time_range(
            &mut fields,
            ["created.start_time", "created.end_time"],
            request.created,
        ),
        last_login: time_range(
            &mut fields,
            ["last_login.start_time", "last_login.end_time"],
            request.last_login,
        ),
    };
    let order = fields.check("order", order(request.order));
    let after = match order {
        Some(order) if !request.page_token.is_empty() => {
            let position = page_token::decode_user(request, order).ok_or(Problem::PageTokenInvalid);
            fields.check("page_token", position)
        }
        _ => None,
    };
    match (fields.0.is_empty(), limit, order) {
        (true, Some(limit), Some(order)) => Ok(List {
            filter,
            order,
            descending: request.descending,
            after,
            limit: match limit {
                0 => DEFAULT_PAGE_SIZE,
                limit => limit.min(MAX_PAGE_SIZE),
            },
        }),
        _ => Err(fields.into_error()),
    }
}

/// A page of the audit log.
pub(in crate::grpc) struct Events {
    pub(in crate::grpc) filter: audit::EventFilter,
    pub(in crate::grpc) before: Option<EventId>,
    pub(in crate::grpc) size: u32,
}

pub(in crate::grpc) fn events(request: &v1::ListAuditEventsRequest) -> Result<Events, Error> {
    let mut fields = Fields::default();
    let size = u32::try_from(request.page_size).map_err(|_| Problem::OutOfRange);
    let size = fields.check("page_size", size).unwrap_or_default();
    let mut parse_id = |field, id: &str| {
        let id = (!id.is_empty()).then(|| user_id(id));
        id.and_then(|id| fields.check(field, id))
    };
    let subject = parse_id("subject_id", &request.subject_id);
    let actor = parse_id("actor_id", &request.actor_id);
    let action = match request.action.as_str() {
        "" => None,
        name => fields.check("action", Action::parse(name).ok_or(Problem::EnumValueUnknown)),
    };
    let is_done = match v1::AuditOutcome::try_from(request.outcome) {
        Ok(v1::AuditOutcome::Unspecified) => Ok(None),
        Ok(v1::AuditOutcome::Done) => Ok(Some(true)),
        Ok(v1::AuditOutcome::Refused) => Ok(Some(false)),
        Err(_) => Err(Problem::EnumValueUnknown),
    };
    let is_done = fields.check("outcome", is_done).flatten();
    let service = match request.service.as_str() {
        "" => None,
        name if audit::is_service_name(name) => Some(name.to_owned()),
        _ => fields.check("service", Err(Problem::ServiceNameInvalid)),
    };
    let at = time_range(&mut fields, ["at.start_time", "at.end_time"], request.at);
    let before = match request.page_token.as_str() {
        "" => None,
        _ => {
            let position = page_token::decode_event(request).ok_or(Problem::PageTokenInvalid);
            fields.check("page_token", position)
        }
    };
    fields.finish()?;
    Ok(Events {
        filter: audit::EventFilter {
            subject,
            actor,
            action,
            is_done,
            service,
            since: at.start,
            until: at.end,
        },
        before,
        size: match size {
            0 => DEFAULT_EVENTS,
            size => size,
        },
    })
}

fn order(order: i32) -> Result<Order, Problem> {
    match v1::UserOrder::try_from(order) {
        Ok(v1::UserOrder::Unspecified | v1::UserOrder::PhoneNumber) => Ok(Order::PhoneNumber),
        Ok(v1::UserOrder::CreatedAt) => Ok(Order::CreatedAt),
        Ok(v1::UserOrder::LastLoginAt) => Ok(Order::LastLoginAt),
        Err(_) => Err(Problem::EnumValueUnknown),
    }
}

/// Returns the status of a user. `None`: the field is unset or has a violation.
fn status(fields: &mut Fields, status: i32) -> Option<UserStatus> {
    let status = match v1::UserStatus::try_from(status) {
        Ok(v1::UserStatus::Unspecified) => Ok(None),
        Ok(v1::UserStatus::Active) => Ok(Some(UserStatus::Active)),
        Ok(v1::UserStatus::Deactivated) => Ok(Some(UserStatus::Deactivated)),
        Err(_) => Err(Problem::EnumValueUnknown),
    };
    fields.check("status", status).flatten()
}

fn time_range(
    fields: &mut Fields,
    [start, end]: [&'static str; 2],
    range: Option<v1::TimeRange>,
) -> TimeRange {
    let range = range.unwrap_or_default();
    let mut parse = |field, time: Option<ProtoTimestamp>| {
        fields.check(field, timestamp(time?).ok_or(Problem::TimeInvalid))
    };
    TimeRange {
        start: parse(start, range.start_time),
        end: parse(end, range.end_time),
    }
}

/// Returns a time of the contract, rounded up to a whole microsecond, the precision of stored times. `None`: the time
/// is invalid or out of the range of [`storable`].
fn timestamp(time: ProtoTimestamp) -> Option<Timestamp> {
    let nanoseconds = u32::try_from(time.nanos)
        .ok()
        .filter(|nanoseconds| *nanoseconds < 1_000_000_000)?;
    let time = storable(DateTime::from_timestamp(time.seconds, nanoseconds)?)?;
    let whole = time.trunc_subsecs(6);
    let rest = if whole < time {
        Duration::from_micros(1)
    } else {
        Duration::ZERO
    };
    storable(whole + rest)
}

/// Returns the user that GetUser requests, by id or phone number.
pub(in crate::grpc) fn user_selector(
    request: &v1::GetUserRequest,
    rules: &Rules,
) -> Result<UserSelector, Error> {
    let mut fields = Fields::default();
    let selector = match (request.user_id.as_str(), request.phone_number.as_str()) {
        ("", "") => fields.check("user_id", Err(Problem::Required)),
        ("", number) => {
            let number = rules.find_phone(number, &request.default_region);
            fields
                .check_phone("phone_number", number)
                .map(UserSelector::PhoneNumber)
        }
        (id, "") => fields.check("user_id", user_id(id)).map(UserSelector::Id),
        _ => fields.check("phone_number", Err(Problem::MutuallyExclusive("user_id"))),
    };
    selector.ok_or_else(|| fields.into_error())
}

/// Returns the id of the user that a request manages.
pub(in crate::grpc) fn managed_user_id(id: &str) -> Result<UserId, Error> {
    user_id(id).map_err(|problem| Error::InvalidInput(vec![Violation::new("user_id", problem)]))
}

fn user_id(id: &str) -> Result<UserId, Problem> {
    if id.is_empty() {
        return Err(Problem::Required);
    }
    uuid(id).map(UserId).ok_or(Problem::UserIdInvalid)
}

pub(in crate::grpc) fn new_user(request: v1::CreateUserRequest, rules: &Rules) -> Result<NewUser, Error> {
    let mut fields = Fields::default();
    let number = rules.take_phone(&request.phone_number, &request.default_region);
    let number = fields.check_phone("phone_number", number);
    let phones: Vec<&PhoneNumber> = number.iter().collect();
    let password = request
        .password
        .and_then(|password| new_password(&mut fields, rules, "password", password, &phones));
    match (fields.0.is_empty(), number) {
        (true, Some(phone_number)) => Ok(NewUser {
            phone_number,
            password,
            is_staff: request.is_staff,
            is_superuser: request.is_superuser,
        }),
        _ => Err(fields.into_error()),
    }
}

pub(in crate::grpc) fn update(
    request: &v1::UpdateUserRequest,
    rules: &Rules,
    language: Language,
) -> Result<(UserId, Etag, UserUpdate), Error> {
    let mut fields = Fields::default();
    let id = fields.check("user_id", user_id(&request.user_id));
    let etag = match request.etag.as_str() {
        "" => Err(Problem::Required),
        etag => Ok(Etag::given(etag)),
    };
    let etag = fields.check("etag", etag);
    let status = status(&mut fields, request.status);
    let phone_number = request.phone_number.as_ref().and_then(|number| {
        fields.check_phone("phone_number", rules.take_phone(number, &request.default_region))
    });
    match (fields.0.is_empty(), id, etag) {
        (true, Some(id), Some(etag)) => {
            let update = UserUpdate {
                phone_number,
                language,
                status,
                is_staff: request.is_staff,
                is_superuser: request.is_superuser,
            };
            Ok((id, etag, update))
        }
        _ => Err(fields.into_error()),
    }
}

/// Returns the user and the new password. The service checks the password against the phone number of the account.
pub(in crate::grpc) fn password(
    request: v1::SetPasswordRequest,
    rules: &Rules,
) -> Result<(UserId, Password), Error> {
    let mut fields = Fields::default();
    let id = fields.check("user_id", user_id(&request.user_id));
    let password = new_password(&mut fields, rules, "new_password", request.new_password, &[]);
    match (id, password) {
        (Some(id), Some(password)) => Ok((id, password)),
        _ => Err(fields.into_error()),
    }
}

pub(in crate::grpc) fn phones(request: v1::VerifyPhoneRequest) -> Result<Vec<PhoneToVerify>, Error> {
    let mut fields = Fields::default();
    match request.phones.len() {
        0 => fields.0.push(Violation::new("phones", Problem::Required)),
        1..=MAX_PHONES => {}
        _ => fields
            .0
            .push(Violation::new("phones", Problem::TooManyItems(MAX_PHONES))),
    }
    fields.finish()?;
    let mut invalid = Vec::new();
    let mut phones = Vec::with_capacity(request.phones.len());
    for (index, phone) in request.phones.into_iter().enumerate() {
        match user_id(&phone.user_id) {
            Ok(user) => phones.push(PhoneToVerify {
                user,
                etag: (!phone.etag.is_empty()).then(|| Etag::given(&phone.etag)),
            }),
            Err(problem) => invalid.push(Violation {
                field: "phones[].user_id",
                index: Some(index),
                problem,
            }),
        }
    }
    invalid.truncate(MAX_INVALID_IDS);
    Fields(invalid).finish()?;
    Ok(phones)
}
