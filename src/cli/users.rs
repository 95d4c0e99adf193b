//! `users`: administration of users at the command line, as service PhoneIdentityAdmin offers it to superusers.

mod list;
mod show;

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::messages::Messages;
use super::operator::{new_password, parse_user, rejected};
use super::{Failure, PasswordSource};
use crate::app::App;
use crate::clock::SystemClock;
use crate::config::Settings;
use crate::domain::rights::AdminAction;
use crate::domain::rules::Rules;
use crate::service::admin::{
    Admin, Administrator, ManagedUser, NewUser, PhoneToVerify, UserSelector, UserUpdate,
};
use crate::service::error::{Error, chain};
use show::Printer;

/// The operator, as the administrator of these commands.
const OPERATOR: Administrator = Administrator::Operator;

/// Maximum number of bytes that are read of an answer to a prompt.
const MAX_ANSWER: u64 = 64;

#[derive(Debug, Subcommand)]
pub(super) enum UsersCommand {
    /// List users
    List(list::ListArguments),
    /// Show users
    Show(UserSelection),
    /// Create a user
    Create {
        /// Phone number of the new user
        #[arg(value_name = "NUMBER")]
        phone_number: String,
        #[command(flatten)]
        password: PasswordSource,
        /// Create the user without a password
        #[arg(long, conflicts_with = "password_stdin")]
        no_password: bool,
        /// Make the user staff
        #[arg(long)]
        staff: bool,
        /// Make the user a superuser
        #[arg(long)]
        superuser: bool,
    },
    /// Set whether users are staff or superusers
    Update {
        #[command(flatten)]
        selection: UserSelection,
        /// Whether the users are staff
        #[arg(long, value_name = "BOOL", required_unless_present = "superuser")]
        staff: Option<bool>,
        /// Whether the users are superusers
        #[arg(long, value_name = "BOOL")]
        superuser: Option<bool>,
    },
    /// Change the phone number of a user to an unverified number, and revoke all sessions
    ChangeNumber {
        /// Phone number or id
        #[arg(value_name = "NUMBER|ID")]
        user: String,
        /// The new phone number
        #[arg(value_name = "NEW_NUMBER")]
        phone_number: String,
    },
    /// Mark the phone numbers of users as verified
    Verify(UserSelection),
    /// Deactivate users, and revoke all sessions; the users cannot reactivate themselves
    Deactivate(UserSelection),
    /// Reactivate users
    Reactivate(UserSelection),
    /// Revoke all sessions of users
    RevokeSessions(UserSelection),
    /// Delete users, with all their stored data
    Delete {
        #[command(flatten)]
        selection: UserSelection,
        /// Delete without confirmation
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Args, Debug)]
pub(super) struct UserSelection {
    /// Phone numbers or ids
    #[arg(value_name = "NUMBER|ID", required = true)]
    users: Vec<String>,
}

pub(super) async fn run(
    settings: Settings,
    command: UsersCommand,
    json: bool,
    messages: Messages,
) -> Result<(), Failure> {
    let rules = settings.rules();
    let mut printer = Printer::new(json, messages);
    // Invalid arguments are reported before the database is opened.
    match command {
        UsersCommand::List(arguments) => {
            let wanted = arguments.read(messages)?;
            let admin = open(settings).await?;
            list::list(&admin, wanted, &mut printer).await
        }
        UsersCommand::Show(selection) => {
            let selection = selection.read(&rules, messages)?;
            let admin = open(settings).await?;
            for_each(messages, selection, async |selector| {
                let shown = admin.get(&OPERATOR, AdminAction::Read, &selector).await?;
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
            selection,
            staff,
            superuser,
        } => {
            let selection = selection.read(&rules, messages)?;
            let admin = open(settings).await?;
            let update = UserUpdate {
                is_staff: staff,
                is_superuser: superuser,
                ..UserUpdate::default()
            };
            for_each(messages, selection, async |selector| {
                let managed = admin.get(&OPERATOR, AdminAction::Update, &selector).await?;
                let changed = admin
                    .update(&OPERATOR, managed.user.id, &managed.etag, update.clone())
                    .await?;
                Ok(printer.user(&changed)?)
            })
            .await
        }
        UsersCommand::ChangeNumber { user, phone_number } => {
            let selection = UserSelection { users: vec![user] }.read(&rules, messages)?;
            let number = rules
                .take_phone(&phone_number, "")
                .map_err(|problem| messages.phone_unfit(problem))?;
            let update = UserUpdate {
                phone_number: Some(number),
                language: settings.default_language,
                ..UserUpdate::default()
            };
            let admin = open(settings).await?;
            for_each(messages, selection, async |selector| {
                let managed = admin.get(&OPERATOR, AdminAction::Update, &selector).await?;
                let changed = admin
                    .update(&OPERATOR, managed.user.id, &managed.etag, update.clone())
                    .await?;
                Ok(printer.user(&changed)?)
            })
            .await
        }
        UsersCommand::Verify(selection) => {
            let selection = selection.read(&rules, messages)?;
            let admin = open(settings).await?;
            for_each(messages, selection, async |selector| {
                Ok(printer.user(&verify(&admin, &selector).await?)?)
            })
            .await
        }
        UsersCommand::Deactivate(selection) => {
            let selection = selection.read(&rules, messages)?;
            let admin = open(settings).await?;
            for_each(messages, selection, async |selector| {
                let managed = admin.get(&OPERATOR, AdminAction::Deactivate, &selector).await?;
                let changed = admin.deactivate(&OPERATOR, managed.user.id).await?;
                Ok(printer.user(&changed)?)
            })
            .await
        }
        UsersCommand::Reactivate(selection) => {
            let selection = selection.read(&rules, messages)?;
            let admin = open(settings).await?;
            for_each(messages, selection, async |selector| {
                let managed = admin.get(&OPERATOR, AdminAction::Reactivate, &selector).await?;
                let changed = admin.reactivate(&OPERATOR, managed.user.id).await?;
                Ok(printer.user(&changed)?)
            })
            .await
        }
        UsersCommand::RevokeSessions(selection) => {
            let selection = selection.read(&rules, messages)?;
            let admin = open(settings).await?;
            for_each(messages, selection, async |selector| {
                let managed = admin
                    .get(&OPERATOR, AdminAction::RevokeSessions, &selector)
                    .await?;
                let revoked = admin.revoke_sessions(&OPERATOR, managed.user.id).await?;
                Ok(printer.revoked(&managed, revoked)?)
            })
            .await
        }
        UsersCommand::Delete { selection, yes } => {
            let selection = selection.read(&rules, messages)?;
            if !yes && !io::stdin().is_terminal() {
                return Err(messages.unusable("cli-no-terminal-to-confirm", &[]));
            }
            let admin = open(settings).await?;
            for_each(messages, selection, async |selector| {
                let managed = admin.get(&OPERATOR, AdminAction::Delete, &selector).await?;
                if !yes && !confirms(&managed, messages)? {
                    return Err(UserCommandError::NotConfirmed);
                }
                admin.delete(&OPERATOR, managed.user.id).await?;
                Ok(printer.deleted(&managed)?)
            })
            .await
        }
    }
}

async fn open(settings: Settings) -> Result<Admin, Failure> {
    Ok(App::build(settings, Arc::new(SystemClock)).await?.admin())
}

/// Verifies the phone number that was read, and fails if the user has changed it since.
async fn verify(admin: &Admin, selector: &UserSelector) -> Result<ManagedUser, UserCommandError> {
    let managed = admin.get(&OPERATOR, AdminAction::VerifyPhone, selector).await?;
    let phone = PhoneToVerify {
        user: managed.user.id,
        etag: Some(managed.etag),
    };
    let verification = admin.verify_phones(&OPERATOR, &[phone]).await?.pop();
    match verification.map(|verification| verification.outcome) {
        Some(Ok(verified)) => Ok(verified),
        _ => Err(UserCommandError::Service(Error::EtagMismatch)),
    }
}

/// Asks for confirmation at the terminal.
fn confirms(managed: &ManagedUser, messages: Messages) -> io::Result<bool> {
    let user = &managed.user;
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

impl UserSelection {
    fn read(self, rules: &Rules, messages: Messages) -> Result<Vec<(String, UserSelector)>, Failure> {
        let read = |text: String| {
            let selector =
                parse_user(&text, rules).map_err(|problem| messages.phone_of_many_unfit(&text, problem))?;
            Ok((text, selector))
        };
        self.users.into_iter().map(read).collect()
    }
}

/// The reason why an operation on a user failed.
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

/// Runs an operation for each user. A failure for one user does not stop the others, and is reported at the end.
async fn for_each(
    messages: Messages,
    selection: Vec<(String, UserSelector)>,
    mut act: impl AsyncFnMut(UserSelector) -> Result<(), UserCommandError>,
) -> Result<(), Failure> {
    let mut failed = Vec::new();
    for (text, selector) in selection {
        match act(selector).await {
            Ok(()) => {}
            // The output is closed.
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
