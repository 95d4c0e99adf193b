//! Commands of the operator: `migrate`, `createsuperuser`, `changepassword`.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::Failure;
use super::messages::Messages;
use super::output::print_line;
use crate::app::{App, open_store};
use crate::clock::SystemClock;
use crate::config::Settings;
use crate::domain::access::Caller;
use crate::domain::password::{Password, PasswordError};
use crate::domain::phone::{PhoneError, PhoneNumber};
use crate::domain::rights::AdminAction;
use crate::domain::rules::Rules;
use crate::domain::user::UserId;
use crate::service::accounts::SuperuserMaker;
use crate::service::admin::{Administrator, UserSelector};
use crate::service::error::{self, Error, Problem, Violation};

/// Maximum number of bytes that are read of a password line.
const MAX_PASSWORD_LINE: u64 = 4096;

pub(super) async fn migrate(settings: &Settings, messages: Messages) -> Result<(), Failure> {
    let store = open_store(settings).await?;
    store
        .close()
        .await
        .map_err(|error| Failure::Failed(error::chain(&error)))?;
    print_line(&messages.say("cli-migrated", &[]))
}

pub(super) async fn create_superuser(
    settings: Settings,
    phone_number: &str,
    from_stdin: bool,
    messages: Messages,
) -> Result<(), Failure> {
    let rules = settings.rules();
    let phone = rules
        .take_phone(phone_number, "")
        .map_err(|problem| messages.phone_unfit(problem))?;
    let password = new_password(&rules, &[&phone], from_stdin, messages)?;
    let app = App::build(settings, Arc::new(SystemClock)).await?;
    match app
        .accounts()
        .create_superuser(
            SuperuserMaker::Operator(Caller::default()),
            phone.clone(),
            password,
        )
        .await
    {
        Ok(user) => {
            let id = user.id.to_string();
            let values = [("id", id.as_str().into()), ("number", phone.as_str().into())];
            print_line(&messages.say("cli-superuser-created", &values))
        }
        Err(Error::PhoneNumberTaken) => Err(messages.failed("cli-phone-taken", &[])),
        Err(error) => Err(rejected(&error, messages)),
    }
}

pub(super) async fn change_password(
    settings: Settings,
    user: &str,
    from_stdin: bool,
    messages: Messages,
) -> Result<(), Failure> {
    let rules = settings.rules();
    let selector = parse_user(user, &rules).map_err(|problem| messages.phone_unfit(problem))?;
    let phones: Vec<&PhoneNumber> = match &selector {
        UserSelector::PhoneNumber(number) => vec![number.key()],
        UserSelector::Id(_) => Vec::new(),
    };
    let password = new_password(&rules, &phones, from_stdin, messages)?;
    let app = App::build(settings, Arc::new(SystemClock)).await?;
    let unknown = match &selector {
        UserSelector::PhoneNumber(_) => "cli-phone-unknown",
        UserSelector::Id(_) => "cli-user-unknown",
    };
    let found = match app
        .admin()
        .get(&Administrator::Operator, AdminAction::Read, &selector)
        .await
    {
        Ok(found) => found.user,
        Err(Error::UserNotFound) => return Err(messages.failed(unknown, &[])),
        Err(error) => return Err(Failure::Failed(error::chain(&error))),
    };
    match app.accounts().change_password(found.id, password).await {
        Ok(true) => {
            let values = [("number", found.phone_number.as_str().into())];
            print_line(&messages.say("cli-password-changed", &values))
        }
        Ok(false) => Err(messages.failed(unknown, &[])),
        Err(error) => Err(rejected(&error, messages)),
    }
}

/// Returns the failure of a rejected password: the violated rule of the password policy, otherwise the error.
pub(super) fn rejected(error: &Error, messages: Messages) -> Failure {
    if let Error::InvalidInput(violations) = error
        && let [
            Violation {
                problem: Problem::Password(problem),
                ..
            },
        ] = violations.as_slice()
    {
        return messages.password_unfit(*problem);
    }
    Failure::Failed(error::chain(error))
}

/// Reads and validates a new password. It needs no service, so a typing mistake opens no database.
pub(super) fn new_password(
    rules: &Rules,
    phones: &[&PhoneNumber],
    from_stdin: bool,
    messages: Messages,
) -> Result<Password, Failure> {
    let input = read_password(from_stdin, messages)?;
    let password = rules
        .take_password(input.expose_secret(), phones)
        .map_err(|problem| messages.password_unfit(problem))?;
    if password.is_common() {
        return Err(messages.password_unfit(PasswordError::TooCommon));
    }
    Ok(password)
}

fn read_password(from_stdin: bool, messages: Messages) -> Result<SecretString, Failure> {
    let cannot_read = |error: io::Error| {
        let problem = error.to_string();
        messages.unusable("cli-password-unreadable", &[("problem", problem.as_str().into())])
    };
    if from_stdin {
        let mut line = String::new();
        io::stdin()
            .lock()
            .take(MAX_PASSWORD_LINE)
            .read_line(&mut line)
            .map_err(cannot_read)?;
        return Ok(SecretString::from(line.trim_end_matches(['\n', '\r'])));
    }
    if !io::stdin().is_terminal() {
        return Err(messages.unusable("cli-no-terminal-for-password", &[]));
    }
    let ask = |id| {
        let prompt = format!("{} ", messages.say(id, &[]));
        rpassword::prompt_password(prompt)
            .map(SecretString::from)
            .map_err(cannot_read)
    };
    let (first, second) = (ask("cli-ask-password")?, ask("cli-ask-password-again")?);
    if first.expose_secret() != second.expose_secret() {
        return Err(messages.unusable("cli-passwords-differ", &[]));
    }
    Ok(first)
}

/// Parses a phone number or an id.
pub(super) fn parse_user(text: &str, rules: &Rules) -> Result<UserSelector, PhoneError> {
    let id = (text.len() == uuid::fmt::Hyphenated::LENGTH)
        .then(|| Uuid::try_parse(text).ok())
        .flatten();
    match id {
        Some(id) => Ok(UserSelector::Id(UserId(id))),
        None => rules.find_phone(text, "").map(UserSelector::PhoneNumber),
    }
}
