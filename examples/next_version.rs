//! The next version of this program for tests of the version floor: tests run it beside this version on one database.
//!
//! `next_version raise-version-floor` raises the version floor of the database of `DATABASE_URL`, as does the first use
//! of a feature that this version does not support. All other commands are those of `phone-identity`.

#![allow(clippy::expect_used, reason = "a test program")]

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use phone_identity::cli;
use phone_identity::store::changes::{VERSION_LEVEL, raise_version_floor};
use phone_identity::store::{Options, Store};

const NEXT: i32 = VERSION_LEVEL + 1;

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() != Some("raise-version-floor") {
        return cli::main_at_level(NEXT);
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let options = Options {
            url: env::var("DATABASE_URL").expect("DATABASE_URL").into(),
            url_file: None,
            allow_readable_secrets: false,
            connections: 1,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(5),
            version_level: NEXT,
        };
        let store = Store::open(&options).await.expect("the database is opened");
        raise_version_floor(store.writer(), NEXT)
            .await
            .expect("the floor is raised");
        store.close().await.expect("the database is closed");
    });
    ExitCode::SUCCESS
}
