//! Many users, inserted directly into the database.

use phone_identity::clock::Timestamp;
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement, Value};
use uuid::Uuid;

/// A user to insert into the database, without a password.
#[derive(Clone, Debug)]
pub(crate) struct Someone {
    pub(crate) id: Uuid,
    pub(crate) phone_number: String,
    pub(crate) status: &'static str,
    pub(crate) is_staff: bool,
    pub(crate) is_superuser: bool,
    pub(crate) phone_verified_at: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    pub(crate) last_login_at: Option<Timestamp>,
}

impl Someone {
    pub(crate) fn new(phone_number: impl Into<String>, created_at: Timestamp) -> Self {
        Self {
            id: Uuid::new_v4(),
            phone_number: phone_number.into(),
            status: "active",
            is_staff: false,
            is_superuser: false,
            phone_verified_at: None,
            created_at,
            last_login_at: None,
        }
    }

    fn values(&self) -> [Value; 12] {
        [
            self.id.into(),
            self.phone_number.clone().into(),
            None::<String>.into(),
            0_i64.into(),
            self.status.into(),
            self.is_staff.into(),
            self.is_superuser.into(),
            self.phone_verified_at.into(),
            None::<String>.into(),
            self.created_at.into(),
            self.created_at.into(),
            self.last_login_at.into(),
        ]
    }
}

/// Inserts users into the database, a thousand per statement.
pub(crate) async fn insert(db: &DatabaseConnection, people: &[Someone]) {
    let backend = db.get_database_backend();
    for some in people.chunks(1000) {
        let mut sql =
            "INSERT INTO users (id, phone_number, password_hash, credential_version, status, is_staff, \
             is_superuser, phone_verified_at, locale, created_at, updated_at, last_login_at) VALUES "
                .to_owned();
        let mut values = Vec::new();
        for (row, someone) in some.iter().enumerate() {
            let first = row * 12;
            let places: Vec<String> = (first + 1..=first + 12)
                .map(|number| match backend {
                    sea_orm::DbBackend::Postgres => format!("${number}"),
                    _ => "?".to_owned(),
                })
                .collect();
            sql.push_str(if row == 0 { "(" } else { ", (" });
            sql.push_str(&places.join(", "));
            sql.push(')');
            values.extend(someone.values());
        }
        let statement = Statement::from_sql_and_values(backend, sql, values);
        db.execute_raw(statement).await.unwrap();
    }
}
