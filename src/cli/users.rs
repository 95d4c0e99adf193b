//! `users`: what service PhoneIdentityAdmin does for superusers, for the operator at the command line.

mod list;
mod show;

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::sync::Arc;

use clap::{Args, Subcommand};
use uuid::Uuid;

use super::messages::Messages;
use super::operator::{new_password, rejected};
use super::{Failure, PasswordSource};
use crate::app::App;
use crate::clock::SystemClock;
use crate::config::Settings;
use crate::domain::phone::PhoneError;
use crate::domain::rights::AdminAction;
use crate::domain::rules::Rules;
use crate::domain::user::UserId;
use crate::service::admin::{
    Admin, Administrator, ManagedUser, NewUser, PhoneToVerify, UserSelector, UserUpdate,
};
use crate::service::error::{Error, chain};
use show::Printer;

/// The operator.
const OPERATOR: Administrator = Administrator::Operator;

/// The most bytes of an answer that are read.
const MAX_ANSWER: u64 = 64;

#[derive(Debug, Subcommand)]
pub(super) enum UsersCommand {
    /// List people
    List(list::ListArguments),
    /// Show people
    Show(People),
    /// Create a person
    Create {
        /// Phone number of the new person
        #[arg(value_name = "NUMBER")]
        phone_number: String,
        #[command(flatten)]
        password: PasswordSource,
        /// The person has no password, and cannot sign in by one
        #[arg(long, conflicts_with = "password_stdin")]
        no_password: bool,
        /// The person is staff
        #[arg(long)]
        staff: bool,
        /// The person is a superuser
        #[arg(long)]
        superuser: bool,
    },
    /// Say who is staff, and who a superuser
    Update {
        #[command(flatten)]
        people: People,
        /// Whether they are staff
        #[arg(long, value_name = "BOOL", required_unless_present = "superuser")]
        staff: Option<bool>,
        /// Whether they are superusers
        #[arg(long, value_name = "BOOL")]
        superuser: Option<bool>,
    },
    /// Change the phone number of a user, and end all sessions. The new number is not verified
    ChangeNumber {
        /// Phone number, or id
        #[arg(value_name = "NUMBER|ID")]
        user: String,
        /// The new phone number
        #[arg(value_name = "NEW_NUMBER")]
        phone_number: String,
    },
    /// Note that people hold their phone numbers
    Verify(People),
    /// Deactivate people, and end all their sessions. They cannot come back by themselves
    Deactivate(People),
    /// Bring people back
    Reactivate(People),
    /// End all sessions of people
    RevokeSessions(People),
    /// Delete people, and all that is stored about them
    Delete {
        #[command(flatten)]
        people: People,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Args, Debug)]
pub(super) struct People {
    /// Phone numbers, or ids
    #[arg(value_name = "NUMBER|ID", required = true)]
    people: Vec<String>,
}

pub(super) async fn run(
    settings: Settings,
    command: UsersCommand,
    json: bool,
    messages: Messages,
) -> Result<(), Failure> {
    let rules = settings.rules();
    let mut printer = Printer::new(json, messages);
    // What is wrong with the arguments is told before the database is opened.
    match command {
        UsersCommand::List(arguments) => {
            let wanted = arguments.read(messages)?;
            let admin = open(settings).await?;
            list::list(&admin, wanted, &mut printer).await
        }
        UsersCommand::Show(people) => {
            let people = people.read(&rules, messages)?;
            let admin = open(settings).await?;
            for_each(messages, people, async |whom| {
                let shown = admin.get(&OPERATOR, AdminAction::Read, &whom).await?;
                Ok(printer.user(&shown)?)
            })
            .await
        }
        UsersCommand::Create {
            phone_number,
            password,
            no_password,
            staff,
            superuser,
        } => {
            let number = rules
                .take_phone(&phone_number, "")
                .map_err(|problem| messages.phone_unfit(problem))?;
            let password = if no_password {
                None
            } else {
                Some(new_password(
                    &rules,
                    &[&number],
                    password.password_stdin,
                    messages,
                )?)
            };
            let new = NewUser {
                phone_number: number,
                password,
                is_staff: staff,
                is_superuser: superuser,
            };
            let admin = open(settings).await?;
            let created = admin.create(OPERATOR, new).await;
            let created = created.map_err(|problem| match problem {
                Error::InvalidInput(_) => rejected(&problem, messages),
                problem => printer.failed(problem),
            })?;
            let printed = printer.user(&created);
            printed.map_err(|problem| printer.failed(problem))
        }
        UsersCommand::Update {
            people,
            staff,
            superuser,
        } => {
            let people = people.read(&rules, messages)?;
            let admin = open(settings).await?;
            let update = UserUpdate {
                is_staff: staff,
                is_superuser: superuser,
                ..UserUpdate::default()
            };
            for_each(messages, people, async |whom| {
                let person = admin.get(&OPERATOR, AdminAction::Update, &whom).await?;
                let changed = admin
                    .update(&OPERATOR, person.user.id, &person.etag, update.clone())
                    .await?;
                Ok(printer.user(&changed)?)
            })
            .await
        }
        UsersCommand::ChangeNumber { user, phone_number } => {
            let people = People { people: vec![user] }.read(&rules, messages)?;
            let number = rules
                .take_phone(&phone_number, "")
                .map_err(|problem| messages.phone_unfit(problem))?;
            let update = UserUpdate {
                phone_number: Some(number),
                language: settings.default_language,
                ..UserUpdate::default()
            };
            let admin = open(settings).await?;
            for_each(messages, people, async |whom| {
                let user = admin.get(&OPERATOR, AdminAction::Update, &whom).await?;
                let changed = admin
                    .update(&OPERATOR, user.user.id, &user.etag, update.clone())
                    .await?;
                Ok(printer.user(&changed)?)
            })
            .await
        }
        UsersCommand::Verify(people) => {
            let people = people.read(&rules, messages)?;
            let admin = open(settings).await?;
            for_each(messages, people, async |whom| {
                Ok(printer.user(&verify(&admin, &whom).await?)?)
            })
            .await
        }
        UsersCommand::Deactivate(people) => {
            let people = people.read(&rules, messages)?;
            let admin = open(settings).await?;
            for_each(messages, people, async |whom| {
                let person = admin.get(&OPERATOR, AdminAction::Deactivate, &whom).await?;
                let changed = admin.deactivate(&OPERATOR, person.user.id).await?;
                Ok(printer.user(&changed)?)
            })
            .await
        }
        UsersCommand::Reactivate(people) => {
            let people = people.read(&rules, messages)?;
            let admin = open(settings).await?;
            for_each(messages, people, async |whom| {
                let person = admin.get(&OPERATOR, AdminAction::Reactivate, &whom).await?;
                let changed = admin.reactivate(&OPERATOR, person.user.id).await?;
                Ok(printer.user(&changed)?)
            })
            .await
        }
        UsersCommand::RevokeSessions(people) => {
            let people = people.read(&rules, messages)?;
            let admin = open(settings).await?;
            for_each(messages, people, async |whom| {
                let person = admin.get(&OPERATOR, AdminAction::RevokeSessions, &whom).await?;
                let revoked = admin.revoke_sessions(&OPERATOR, person.user.id).await?;
                Ok(printer.revoked(&person, revoked)?)
            })
            .await
        }
        UsersCommand::Delete { people, yes } => {
            let people = people.read(&rules, messages)?;
            if !yes && !io::stdin().is_terminal() {
                return Err(messages.unusable("cli-no-terminal-to-confirm", &[]));
            }
            let admin = open(settings).await?;
            for_each(messages, people, async |whom| {
                let person = admin.get(&OPERATOR, AdminAction::Delete, &whom).await?;
                if !yes && !confirms(&person, messages)? {
                    return Err(UserCommandError::NotConfirmed);
                }
                admin.delete(&OPERATOR, person.user.id).await?;
                Ok(printer.deleted(&person)?)
            })
            .await
        }
    }
}

async fn open(settings: Settings) -> Result<Admin, Failure> {
    Ok(App::build(settings, Arc::new(SystemClock)).await?.admin())
}

/// The number that was looked at, and no other that the person has taken since.
async fn verify(admin: &Admin, whom: &UserSelector) -> Result<ManagedUser, UserCommandError> {
    let person = admin.get(&OPERATOR, AdminAction::VerifyPhone, whom).await?;
    let phone = PhoneToVerify {
        user: person.user.id,
        etag: Some(person.etag),
    };
    let verification = admin.verify_phones(&OPERATOR, &[phone]).await?.pop();
    match verification.map(|verification| verification.outcome) {
        Some(Ok(verified)) => Ok(verified),
        _ => Err(UserCommandError::Service(Error::EtagMismatch)),
    }
}

/// Asks at the terminal.
fn confirms(person: &ManagedUser, messages: Messages) -> io::Result<bool> {
    let user = &person.user;
    let id = user.id.to_string();
    let values = [
        ("number", user.phone_number.as_str().into()),
        ("id", id.as_str().into()),
    ];
    let mut screen = io::stderr().lock();
    write!(screen, "{} ", messages.say("cli-confirm-delete", &values))?;
    screen.flush()?;
    let mut answer = String::new();
    io::stdin().lock().take(MAX_ANSWER).read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

impl People {
    fn read(self, rules: &Rules, messages: Messages) -> Result<Vec<(String, UserSelector)>, Failure> {
        let read = |text: String| {
            let whom = whom(&text, rules).map_err(|problem| messages.phone_of_many_unfit(&text, problem))?;
            Ok((text, whom))
        };
        self.people.into_iter().map(read).collect()
    }
}

/// Reads a phone number or an id.
pub(super) fn whom(text: &str, rules: &Rules) -> Result<UserSelector, PhoneError> {
    let id = (text.len() == uuid::fmt::Hyphenated::LENGTH)
        .then(|| Uuid::try_parse(text).ok())
        .flatten();
    match id {
        Some(id) => Ok(UserSelector::Id(UserId(id))),
        None => rules.find_phone(text, "").map(UserSelector::PhoneNumber),
    }
}

/// Why something could not be done to a person.
enum UserCommandError {
    Service(Error),
    Output(io::Error),
    NotConfirmed,
}

impl From<Error> for UserCommandError {
    fn from(error: Error) -> Self {
        Self::Service(error)
    }
}

impl From<io::Error> for UserCommandError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl UserCommandError {
    fn text(&self, messages: Messages) -> String {
        match self {
            Self::Service(Error::UserNotFound) => messages.say("cli-user-unknown", &[]),
            Self::Service(Error::PhoneNumberTaken) => messages.say("cli-phone-taken", &[]),
            Self::Service(Error::LastSuperuser) => messages.say("cli-last-superuser", &[]),
            Self::Service(Error::EtagMismatch) => messages.say("cli-changed-meanwhile", &[]),
            Self::Service(error) => chain(error),
            Self::Output(error) => error.to_string(),
            Self::NotConfirmed => messages.say("cli-not-deleted", &[]),
        }
    }
}

/// Does something to one person after another. What fails for one is told in the end, and keeps nobody from the rest.
async fn for_each(
    messages: Messages,
    people: Vec<(String, UserSelector)>,
    mut act: impl AsyncFnMut(UserSelector) -> Result<(), UserCommandError>,
) -> Result<(), Failure> {
    let mut failed = Vec::new();
    for (text, whom) in people {
        match act(whom).await {
            Ok(()) => {}
            // Nobody reads on.
            Err(UserCommandError::Output(error)) => return Err(Failure::Failed(error.to_string())),
            Err(problem) => failed.push(format!("{text}: {}", problem.text(messages))),
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::Failed(failed.join("; ")))
    }
}
