//! What an operator does at the command line: `migrate`, `createsuperuser`, `changepassword`.

use std::fmt::Display;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

use super::Failure;
use crate::app::{App, open_store};
use crate::clock::SystemClock;
use crate::config::Settings;
use crate::domain::caller::Caller;
use crate::domain::password::{Password, PasswordError};
use crate::domain::phone::PhoneNumber;
use crate::domain::rules::Rules;
use crate::error::{self, Error};
use crate::service::accounts::SuperuserMaker;

/// The most bytes of a password line that are read.
const MAX_PASSWORD_LINE: u64 = 4096;

pub(super) async fn migrate(settings: &Settings) -> Result<(), Failure> {
    let store = open_store(settings).await?;
    store
        .close()
        .await
        .map_err(|error| Failure::Failed(error::chain(&error)))?;
    println!("the database is up to date");
    Ok(())
}

pub(super) async fn create_superuser(
    settings: Settings,
    phone_number: &str,
    from_stdin: bool,
) -> Result<(), Failure> {
    let rules = settings.rules();
    let phone = rules
        .take_phone(phone_number, "")
        .map_err(|problem| unfit("phone number", problem))?;
    let password = new_password(&rules, &phone, from_stdin)?;
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
            println!("superuser {} created: {}", user.id, phone.as_str());
            Ok(())
        }
        Err(Error::PhoneNumberTaken) => Err(Failure::Failed("somebody has this phone number".to_owned())),
        Err(error) => Err(Failure::Failed(error::chain(&error))),
    }
}

pub(super) async fn change_password(
    settings: Settings,
    phone_number: &str,
    from_stdin: bool,
) -> Result<(), Failure> {
    let rules = settings.rules();
    let phone = rules
        .find_phone(phone_number, "")
        .map_err(|problem| unfit("phone number", problem))?;
    let password = new_password(&rules, &phone, from_stdin)?;
    let app = App::build(settings, Arc::new(SystemClock)).await?;
    match app.accounts().change_password(&phone, password).await {
        Ok(true) => {
            println!("password changed, and all sessions ended: {}", phone.as_str());
            Ok(())
        }
        Ok(false) => Err(Failure::Failed("nobody has this phone number".to_owned())),
        Err(error) => Err(Failure::Failed(error::chain(&error))),
    }
}

/// What was given is not fit to be used.
pub(super) fn unfit(what: &str, problem: impl Display) -> Failure {
    Failure::Unusable(format!("the {what} {problem}"))
}

pub(super) fn new_password(
    rules: &Rules,
    phone: &PhoneNumber,
    from_stdin: bool,
) -> Result<Password, Failure> {
    let input = read_password(from_stdin)?;
    let password = rules
        .take_password(input.expose_secret(), &[phone])
        .map_err(|problem| unfit("password", problem))?;
    if password.is_common() {
        Err(unfit("password", PasswordError::TooCommon))
    } else {
        Ok(password)
    }
}

fn read_password(from_stdin: bool) -> Result<SecretString, Failure> {
    let cannot_read = |error: io::Error| Failure::Unusable(format!("the password cannot be read: {error}"));
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
        return Err(Failure::Unusable(
            "there is no terminal to ask for the password; use --password-stdin".to_owned(),
        ));
    }
    let first = SecretString::from(rpassword::prompt_password("Password: ").map_err(cannot_read)?);
    let second = SecretString::from(rpassword::prompt_password("Password (again): ").map_err(cannot_read)?);
    if first.expose_secret() != second.expose_secret() {
        return Err(Failure::Unusable("the two passwords are not the same".to_owned()));
    }
    Ok(first)
}
