//! Compares the database with the acknowledged calls after all writes have ended.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, QueryResult, Statement};
use tokio::time::{Instant, interval};
use uuid::Uuid;

use crate::model::{Ended, Model, Pending, Person, State};
use crate::place::Place;

/// Maximum delay until the database notices that its clients have disconnected.
const PATIENCE: Duration = Duration::from_secs(30);

/// The content of the database.
struct Found {
    /// Id, number, and how often the password was changed.
    users: HashMap<String, (String, i64)>,
    /// The sessions of each user.
    sessions: HashMap<String, HashSet<String>>,
    /// Entries of the change log that name a session.
    session_changes: HashMap<String, usize>,
    /// Entries that name a changed user.
    user_changes: HashMap<String, usize>,
    /// Audit events of the start of a session.
    beginnings: HashMap<String, usize>,
    /// Audit events of the end of a session by its token.
    endings: HashMap<String, usize>,
    /// Audit events of changes of a profile.
    updates: HashMap<String, usize>,
}

/// Checks that every acknowledged write is stored once, that each other write is stored completely or not at all, and
/// that the database is consistent. Afterwards the model knows the outcomes. All processes of the service must have
/// ended.
pub(crate) async fn audit(place: &Place, model: &Model) {
    let database = place.connect().await;
    is_quiet(&database).await;
    is_sound(&database, model).await;
    let mut found = find(&database).await;
    is_told_once(&found, model);
    let people = model.take_all();
    let mut users = std::mem::take(&mut found.users);
    for mut person in people {
        match users.remove(&person.id) {
            Some(user) => compare(&mut person, user, &mut found, model),
            None => model.violation(format!("{} is not there", person.id)),
        }
        model.put(person);
    }
    let registering = model.take_registering();
    for (id, (number, _)) in users {
        let Some(password) = registering.get(&number) else {
            model.violation(format!("{number} is there, and did not register"));
            continue;
        };
        // A registration is atomic: a registered user has a session.
        let sessions = found.sessions.remove(&id).unwrap_or_default().len();
        if sessions != 1 {
            model.violation(format!("{number} has registered, with {sessions} sessions"));
        }
        let mut person = Person::new(id, number, password.clone());
        person.strangers = (sessions, sessions);
        model.put(person);
    }
    if !found.sessions.is_empty() {
        let people = found.sessions.len();
        model.violation(format!("{people} users have sessions without a sign-in"));
    }
    database.close().await.unwrap();
    model.assert_good();
}

/// Checks that the audit log has one event for the start of every stored or acknowledged session, and one for each
/// entry of the change log. The change log is compared with the acknowledged calls.
fn is_told_once(found: &Found, model: &Model) {
    let mut begun: HashSet<String> = found.sessions.values().flatten().cloned().collect();
    begun.extend(model.sessions().iter().map(|session| session.id.clone()));
    for session in begun {
        let times = found.beginnings.get(&session).copied().unwrap_or_default();
        if times != 1 {
            model.violation(format!(
                "the audit log says {times} times how session {session} began"
            ));
        }
    }
    for (what, events, changes) in [
        ("ended sessions", &found.endings, &found.session_changes),
        ("changed users", &found.updates, &found.user_changes),
    ] {
        if events != changes {
            let differ = |id: &&String| events.get(*id) != changes.get(*id);
            let ids: HashSet<&String> = events.keys().chain(changes.keys()).filter(differ).collect();
            model.violation(format!(
                "{what} differ in the audit log and the change log: {ids:?}"
            ));
        }
    }
}

/// Compares one user with the database, and resolves its pending change.
///
/// `version`: that of the credentials, which each change of the number or of the password increments.
fn compare(person: &mut Person, (number, version): (String, i64), found: &mut Found, model: &Model) {
    let version = usize::try_from(version).unwrap();
    let id = person.id.clone();
    let changes = found.user_changes.remove(&id).unwrap_or_default();
    let mut sessions = found.sessions.remove(&id).unwrap_or_default();
    if let Some(pending) = person.pending.take() {
        let has_happened = match &pending {
            Pending::Number(new) => number == *new,
            Pending::Password(_) => version > person.changes,
        };
        if has_happened {
            if let Pending::Password(_) = pending {
                person.strangers = (0, 0);
            }
            person.apply(pending);
        } else if let Pending::Password(_) = pending {
            // A session is gone that only the change of the password, which did not happen, was to end.
            let is_half = person.sessions.iter().any(|session| {
                let id = &session.id;
                !sessions.contains(id) && !found.session_changes.contains_key(id)
            });
            if is_half && person.password_changes == 0 {
                model.violation(format!(
                    "the password of {id} is the old one, and sessions are gone"
                ));
            }
        }
    }
    let wanted = (&person.number, person.changes, person.changes);
    if (&number, version, changes) != wanted {
        model.violation(format!(
            "number, version of the credentials and changes in the log of {id}: {:?}, not {wanted:?}",
            (&number, version, changes)
        ));
    }
    for session in &person.sessions {
        let is_there = sessions.remove(&session.id);
        let times = found
            .session_changes
            .get(&session.id)
            .copied()
            .unwrap_or_default();
        let state = session.state();
        let is_wrong = match state {
            State::Live => !is_there,
            State::Ended(_) => is_there,
            State::Ending => false,
        };
        // A session that is gone without an entry was ended by a change of the password.
        let by_password = !is_there && times == 0 && person.password_changes > 0;
        if is_wrong || (times != usize::from(!is_there) && !by_password) {
            let id = &session.id;
            model.violation(format!(
                "session {id}: {state:?}, is there: {is_there}, {times} times in the log"
            ));
        }
        let now = Instant::now();
        session.set(match state {
            State::Ended(ended) => State::Ended(Ended { by: None, ..ended }),
            _ if is_there => State::Live,
            _ => State::Ended(Ended { at: now, by: None }),
        });
    }
    let strangers = sessions.len();
    let (least, most) = person.strangers;
    if !(least..=most).contains(&strangers) {
        model.violation(format!(
            "{id} has {strangers} sessions that were not acknowledged, and signed in so {least} to {most} times"
        ));
    }
    person.strangers = (strangers, strangers);
}

/// Waits until no other client is connected: a statement that a process sent before it was killed may still run.
async fn is_quiet(database: &DatabaseConnection) {
    let others = match database.get_database_backend() {
        DbBackend::Postgres => {
            "SELECT COUNT(*) AS n FROM pg_stat_activity WHERE datname = current_database() \
             AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        }
        DbBackend::MySql => {
            "SELECT COUNT(*) AS n FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        }
        _ => return,
    };
    let deadline = Instant::now() + PATIENCE;
    let mut ticks = interval(Duration::from_millis(20));
    while count(database, others).await > 0 {
        assert!(Instant::now() < deadline, "the database still has other clients");
        ticks.tick().await;
    }
}

/// Checks the invariants of the database.
async fn is_sound(database: &DatabaseConnection, model: &Model) {
    let orphans = "SELECT COUNT(*) AS n FROM sessions LEFT JOIN users ON users.id = sessions.user_id \
                   WHERE users.id IS NULL";
    let orphans = count(database, orphans).await;
    if orphans != 0 {
        model.violation(format!("{orphans} sessions without a user"));
    }
    // The numbers of the change log have no gap, and end at its head.
    let numbers = "SELECT COUNT(*) AS n FROM identity_changes";
    let first = "SELECT COUNT(*) AS n FROM identity_changes, change_log WHERE seq BETWEEN 1 AND last_seq";
    let head = "SELECT last_seq AS n FROM change_log";
    let numbers = [
        count(database, numbers).await,
        count(database, first).await,
        count(database, head).await,
    ];
    if numbers[0] != numbers[1] || numbers[1] != numbers[2] {
        model.violation(format!("the change log has holes: {numbers:?}"));
    }
    if database.get_database_backend() == DbBackend::Sqlite {
        let said = rows(database, "PRAGMA integrity_check").await;
        let said: Vec<String> = said.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        if said != ["ok"] {
            model.violation(format!("PRAGMA integrity_check: {said:?}"));
        }
        if !rows(database, "PRAGMA foreign_key_check").await.is_empty() {
            model.violation("PRAGMA foreign_key_check finds orphans".to_owned());
        }
    }
}

async fn find(database: &DatabaseConnection) -> Found {
    let mut numbers = HashSet::new();
    let mut found = Found {
        users: HashMap::new(),
        sessions: HashMap::new(),
        session_changes: HashMap::new(),
        user_changes: HashMap::new(),
        beginnings: HashMap::new(),
        endings: HashMap::new(),
        updates: HashMap::new(),
    };
    for row in rows(database, "SELECT id, phone_number, credential_version FROM users").await {
        let number: String = row.try_get("", "phone_number").unwrap();
        assert!(numbers.insert(number.clone()), "{number} is there twice");
        let user = (number, row.try_get("", "credential_version").unwrap());
        found.users.insert(id(&row, "id").unwrap(), user);
    }
    for row in rows(database, "SELECT id, user_id FROM sessions").await {
        let sessions = found.sessions.entry(id(&row, "user_id").unwrap()).or_default();
        sessions.insert(id(&row, "id").unwrap());
    }
    for row in rows(database, "SELECT user_id, session_id FROM identity_changes").await {
        let times = match id(&row, "session_id") {
            Some(session) => found.session_changes.entry(session),
            None => found.user_changes.entry(id(&row, "user_id").unwrap()),
        };
        *times.or_default() += 1;
    }
    let events = "SELECT action, subject_id, session_id FROM audit_events WHERE outcome = 'done'";
    for row in rows(database, events).await {
        let (user, session) = (id(&row, "subject_id").unwrap(), id(&row, "session_id").unwrap());
        let action: String = row.try_get("", "action").unwrap();
        let times = match action.as_str() {
            "register" | "sign_in" => found.beginnings.entry(session),
            "revoke_session" => found.endings.entry(session),
            "update_profile" => found.updates.entry(user),
            _ => panic!("no call did {action}"),
        };
        *times.or_default() += 1;
    }
    found
}

fn id(row: &QueryResult, column: &str) -> Option<String> {
    let id: Option<Uuid> = row.try_get("", column).unwrap();
    id.map(|id| id.to_string())
}

pub(crate) async fn count(database: &DatabaseConnection, sql: &str) -> i64 {
    rows(database, sql).await[0].try_get("", "n").unwrap()
}

async fn rows(database: &DatabaseConnection, sql: &str) -> Vec<QueryResult> {
    let statement = Statement::from_string(database.get_database_backend(), sql);
    database.query_all_raw(statement).await.unwrap()
}
