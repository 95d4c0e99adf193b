//! The cost of a page: the database explains every statement of a list.

use std::sync::Mutex;

use chrono::DateTime;
use phone_identity::domain::phone::NumberPrefix;
use phone_identity::store::users::{self, List, Order, UserFilter};
use sea_orm::prelude::async_trait::async_trait;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, Statement};

use crate::support::TestServer;
use crate::support::people::{Someone, insert};

/// So many rows that no planner prefers to read them all.
const PEOPLE: u32 = 20_000;

/// A connection that remembers what it was asked.
pub(crate) struct Remembering {
    pub(crate) connection: DatabaseConnection,
    pub(crate) asked: Mutex<Vec<Statement>>,
}

#[async_trait]
impl ConnectionTrait for Remembering {
    fn get_database_backend(&self) -> DbBackend {
        self.connection.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.connection.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.connection.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.asked.lock().unwrap().push(statement.clone());
        self.connection.query_one_raw(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.asked.lock().unwrap().push(statement.clone());
        self.connection.query_all_raw(statement).await
    }
}

/// The plan of a statement: its lines on SQLite and PostgreSQL; of MariaDB type, key, rows and Extra.
pub(crate) async fn plan(db: &DatabaseConnection, statement: &Statement) -> String {
    let backend = db.get_database_backend();
    let explain = match backend {
        DbBackend::Sqlite => "EXPLAIN QUERY PLAN",
        _ => "EXPLAIN",
    };
    let mut explained = statement.clone();
    explained.sql = format!("{explain} {}", statement.sql);
    let mut plan = Vec::new();
    for row in db.query_all_raw(explained).await.unwrap() {
        plan.push(match backend {
            DbBackend::Sqlite => row.try_get("", "detail").unwrap(),
            DbBackend::Postgres => row.try_get("", "QUERY PLAN").unwrap(),
            _ => {
                let text = |name| {
                    row.try_get::<Option<String>>("", name)
                        .unwrap()
                        .unwrap_or_default()
                };
                format!(
                    "type={} key={} Extra={}",
                    text("type"),
                    text("key"),
                    text("Extra")
                )
            }
        });
    }
    plan.join("\n")
}

/// Returns whether a plan is a range scan of this index that begins at the position of the page and stops at its end:
/// it neither sorts nor reads earlier rows.
fn walks(backend: DbBackend, plan: &str, index: &str, is_first_page: bool) -> bool {
    match backend {
        DbBackend::Sqlite => {
            let walk = if is_first_page {
                format!("USING INDEX {index}")
            } else {
                format!("SEARCH users USING INDEX {index}")
            };
            plan.contains(&walk) && !plan.contains("TEMP B-TREE")
        }
        DbBackend::Postgres => {
            let has_bound = is_first_page || plan.contains("Index Cond");
            plan.contains(index) && plan.contains("Index Scan") && has_bound && !plan.contains("Sort")
        }
        _ => {
            // The whole index is read only where a page stops it.
            let has_bound = is_first_page || !plan.contains("type=index ");
            plan.contains(&format!("key={index} "))
                && !plan.contains("type=ALL")
                && has_bound
                && !plan.contains("filesort")
        }
    }
}

#[tokio::test]
async fn every_page_is_a_range_scan_of_an_index() {
    let server = TestServer::start().await;
    let db = server.place.connect().await;
    let backend = db.get_database_backend();
    let at = |microseconds| DateTime::from_timestamp_micros(1_700_000_000_000_000 + microseconds).unwrap();
    let people: Vec<Someone> = (0..PEOPLE)
        .map(|number| {
            let mixed = number * 7919 % PEOPLE;
            let mut someone = Someone::new(format!("+9989{:08}", mixed * 4000), at(i64::from(mixed)));
            // Half of them never signed in.
            someone.last_login_at = (number % 2 == 0).then(|| at(i64::from(number)));
            someone
        })
        .collect();
    insert(&db, &people).await;
    let analyze = match backend {
        DbBackend::MySql => "ANALYZE TABLE users",
        _ => "ANALYZE",
    };
    db.execute_unprepared(analyze).await.unwrap();
    let unique = match backend {
        DbBackend::Sqlite => "sqlite_autoindex_users_2",
        DbBackend::Postgres => "users_phone_number_key",
        _ => "phone_number",
    };
    let recorder = Remembering {
        connection: db,
        asked: Mutex::default(),
    };
    for (order, index) in [
        (Order::PhoneNumber, unique),
        (Order::CreatedAt, "idx_users_created_at_id"),
        (Order::LastLoginAt, "idx_users_last_login_at_id"),
    ] {
        for descending in [false, true] {
            // As superusers list, and as staff do.
            for is_staff in [None, Some(false)] {
                let mut list = List {
                    filter: UserFilter {
                        is_staff,
                        is_superuser: is_staff,
                        ..UserFilter::default()
                    },
                    order,
                    descending,
                    after: None,
                    limit: 50,
                };
                // The first page, one from the middle, and one near the end.
                let mut places = vec![None];
                list.limit = 15_000;
                let many = users::list(&recorder, &list).await.unwrap();
                for place in [9_000, 14_999] {
                    places.push(Some(list.position_of(&many[place])));
                }
                list.limit = 50;
                for after in places {
                    recorder.asked.lock().unwrap().clear();
                    list.after = after;
                    let page = users::list(&recorder, &list).await.unwrap();
                    assert_eq!(page.len(), 50);
                    let asked = recorder.asked.lock().unwrap().clone();
                    assert!((1..=3).contains(&asked.len()));
                    for statement in asked {
                        let plan = plan(&recorder.connection, &statement).await;
                        let is_first = list.after.is_none();
                        assert!(
                            walks(backend, &plan, index, is_first),
                            "{:?}\n{}\n{plan}",
                            list.after,
                            statement.sql
                        );
                    }
                }
            }
        }
    }
    // Numbers that begin so are a piece of the index.
    recorder.asked.lock().unwrap().clear();
    let list = List {
        filter: UserFilter {
            prefix: Some(NumberPrefix::parse("+99890").unwrap()),
            ..UserFilter::default()
        },
        order: Order::PhoneNumber,
        descending: false,
        after: None,
        limit: 50,
    };
    assert_eq!(users::list(&recorder, &list).await.unwrap().len(), 50);
    let asked = recorder.asked.lock().unwrap().clone();
    let plan = plan(&recorder.connection, &asked[0]).await;
    assert!(walks(backend, &plan, unique, false), "{plan}");
}
