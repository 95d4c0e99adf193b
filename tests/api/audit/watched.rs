//! Reads the audit log as rows, and compares what each call adds to it.

use std::collections::HashSet;
use std::time::Duration;

use phone_identity::proto::v1;
use uuid::Uuid;

use super::{ADDRESS, DEVICE, device};
use crate::support::{
    Client, OTHER_PASSWORD, PASSWORD, Person, TestServer, credentials, next_phone_number, registration,
};

/// A stored event. Unset columns are NULL.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Row {
    pub(super) action: String,
    pub(super) outcome: String,
    pub(super) reason: Option<String>,
    pub(super) actor: String,
    pub(super) actor_id: Option<String>,
    pub(super) subject_id: Option<String>,
    pub(super) session_id: Option<String>,
    pub(super) fields: Option<String>,
    pub(super) ended_sessions: Option<i64>,
    pub(super) service: Option<String>,
    pub(super) client_ip_address: Option<String>,
    pub(super) client_user_agent: Option<String>,
    /// Whether the event has an id of a session or a request.
    pub(super) has_request_id: bool,
}

impl Row {
    pub(super) fn done(action: &str) -> Self {
        Self {
            action: action.to_owned(),
            outcome: "done".to_owned(),
            actor: "nobody".to_owned(),
            has_request_id: true,
            ..Self::default()
        }
    }

    pub(super) fn refused(action: &str, reason: &str) -> Self {
        Self {
            outcome: "refused".to_owned(),
            reason: Some(reason.to_owned()),
            ..Self::done(action)
        }
    }

    pub(super) fn by(self, user: &str) -> Self {
        Self {
            actor: "user".to_owned(),
            actor_id: Some(user.to_owned()),
            ..self
        }
    }

    pub(super) fn by_operator(self) -> Self {
        Self {
            actor: "operator".to_owned(),
            has_request_id: false,
            ..self
        }
    }

    pub(super) fn to(self, user: &str) -> Self {
        Self {
            subject_id: Some(user.to_owned()),
            ..self
        }
    }

    pub(super) fn session(self, session: &str) -> Self {
        Self {
            session_id: Some(session.to_owned()),
            ..self
        }
    }

    /// The event of a user that acts on itself, in this session.
    pub(super) fn of(self, person: &Person) -> Self {
        let user = &person.user.user_id;
        self.by(user).to(user).session(&person.session.session_id)
    }

    pub(super) fn fields(self, fields: &str) -> Self {
        Self {
            fields: Some(fields.to_owned()),
            ..self
        }
    }

    pub(super) fn ended(self, count: i64) -> Self {
        Self {
            ended_sessions: Some(count),
            ..self
        }
    }

    pub(super) fn on_the_device(self) -> Self {
        Self {
            client_ip_address: Some(ADDRESS.to_owned()),
            client_user_agent: Some(DEVICE.to_owned()),
            ..self
        }
    }
}

/// All events, the oldest first.
pub(super) async fn all(server: &TestServer) -> Vec<(Uuid, Row)> {
    let rows = server
        .database
        .rows("SELECT * FROM audit_events ORDER BY id")
        .await;
    let rows = rows.iter().map(|row| {
        let text = |column: &str| row.try_get::<Option<String>>("", column).unwrap();
        let id = |column: &str| {
            let id: Option<Uuid> = row.try_get("", column).unwrap();
            id.map(|id| id.to_string())
        };
        let found = Row {
            action: text("action").unwrap(),
            outcome: text("outcome").unwrap(),
            reason: text("reason"),
            actor: text("actor").unwrap(),
            actor_id: id("actor_id"),
            subject_id: id("subject_id"),
            session_id: id("session_id"),
            fields: text("fields"),
            ended_sessions: row.try_get("", "ended_sessions").unwrap(),
            service: text("service"),
            client_ip_address: text("client_ip_address"),
            client_user_agent: text("client_user_agent"),
            has_request_id: text("request_id").is_some(),
        };
        (row.try_get("", "id").unwrap(), found)
    });
    rows.collect()
}

/// A server, and which events of it were seen.
pub(super) struct Watched {
    pub(super) server: TestServer,
    pub(super) client: Client,
    pub(super) seen: HashSet<Uuid>,
    /// Texts that no event may contain.
    pub(super) secrets: Vec<String>,
}

impl Watched {
    pub(super) async fn start(flags: &[&str]) -> Self {
        let server = TestServer::start_with(flags).await;
        Self {
            client: server.client().await,
            server,
            seen: HashSet::new(),
            secrets: vec![PASSWORD.to_owned(), OTHER_PASSWORD.to_owned(), "pid_".to_owned()],
        }
    }

    /// Compares the events since the last call. Then advances the clock by a second, so that later events have a later
    /// time.
    pub(super) async fn leaves(&mut self, what: &str, expected: &[Row]) {
        let mut found = Vec::new();
        for (id, row) in all(&self.server).await {
            if self.seen.insert(id) {
                found.push(row);
            }
        }
        assert_eq!(found, expected, "{what}");
        self.server.clock.advance(Duration::from_secs(1));
    }

    pub(super) fn number(&mut self) -> String {
        let number = next_phone_number();
        self.secrets.push(number.trim_start_matches('+').to_owned());
        number
    }

    /// Registers a user on the device.
    pub(super) async fn person(&mut self) -> Person {
        let phone_number = self.number();
        let request = v1::RegisterRequest {
            client: Some(device()),
            ..registration(&phone_number, PASSWORD)
        };
        let response = self.client.register(request).await.unwrap().into_inner();
        Person {
            phone_number,
            user: response.user.unwrap(),
            session: response.session.unwrap(),
            token: response.session_token,
        }
    }

    /// Signs a user in again, on the device.
    pub(super) async fn sign_in(&mut self, person: &Person, password: &str, reactivate: bool) -> Person {
        let request = v1::AuthenticateRequest {
            client: Some(device()),
            reactivate,
            ..credentials(&person.phone_number, password)
        };
        let response = self.client.authenticate(request).await.unwrap().into_inner();
        Person {
            phone_number: person.phone_number.clone(),
            user: response.user.unwrap(),
            session: response.session.unwrap(),
            token: response.session_token,
        }
    }
}
