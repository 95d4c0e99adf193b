//! Output of commands on a terminal: stored text of users, without control characters.

use std::process::Output;

use phone_identity::domain::text::is_control_or_format;
use sea_orm::{ConnectionTrait as _, Statement};

use crate::support::PASSWORD;
use crate::support::place::Place;

/// Clears a screen, and has marks of the writing direction, C1 and DEL, a tag, and ends of lines. It fits into every
/// column.
const HOSTILE: &str = "\u{1b}[2J\u{202e}a\u{9b}\u{7f}\u{e0041}\u{2028}\r\n";

/// The same as JSON escapes it.
const ESCAPED: &str = r#""\u001b[2J\u202ea\u009b\u007f\udb40\udc41\u2028\r\n""#;

/// Puts the hostile text into all columns of text that commands print as they are.
async fn spoil(place: &Place) {
    let database = place.connect().await;
    for (table, columns) in [
        (
            "audit_events",
            &[
                "action",
                "outcome",
                "reason",
                "actor",
                "service",
                "client_user_agent",
                "request_id",
                "fields",
            ][..],
        ),
        ("service_keys", &["name"]),
        ("users", &["locale"]),
    ] {
        for column in columns {
            let backend = database.get_database_backend();
            let placeholder = match backend {
                sea_orm::DbBackend::Postgres => "$1",
                _ => "?",
            };
            let sql = format!("UPDATE {table} SET {column} = {placeholder}");
            let statement = Statement::from_sql_and_values(backend, sql, [HOSTILE.into()]);
            database.execute_raw(statement).await.unwrap();
        }
    }
    database.close().await.unwrap();
}

/// Returns the lines of output of a command. None has a control character.
fn lines(output: &Output, separator: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for stream in [&output.stdout, &output.stderr] {
        let text = String::from_utf8(stream.clone()).unwrap();
        for line in text.split('\n').filter(|line| !line.is_empty()) {
            let cells = line.replace(separator, " ");
            assert!(!cells.contains(is_control_or_format), "{line:?}");
            lines.push(line.to_owned());
        }
    }
    lines
}

#[tokio::test]
async fn no_command_prints_characters_that_a_terminal_obeys() {
    let place = Place::new().await;
    let create = [
        "createsuperuser",
        "--phone-number",
        "+998901234567",
        "--password-stdin",
    ];
    assert!(place.run(&create, PASSWORD).await.status.success());
    let made = place
        .run(&["service-key", "create", "orders", "--allow", "all"], "")
        .await;
    let id = String::from_utf8(made.stderr)
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .to_owned();
    spoil(&place).await;
    // A table has the rest of the text, and JSON all of it.
    for (arguments, expected, rows) in [
        (vec!["audit"], "\u{fffd}[2J\u{fffd}a", 3),
        (vec!["audit", "--json"], ESCAPED, 2),
        (vec!["service-key", "list"], "\u{fffd}[2J\u{fffd}a", 2),
        (vec!["service-key", "list", "--json"], ESCAPED, 1),
        (vec!["users", "list"], "+998901234567", 2),
        (vec!["users", "list", "--json"], ESCAPED, 1),
        (vec!["users", "show", "+998901234567"], "+998901234567", 2),
        (vec!["users", "show", "+998901234567", "--json"], ESCAPED, 1),
        (vec!["service-key", "revoke", &id], "\u{fffd}[2J\u{fffd}a", 1),
        (vec!["users", "verify", "+998901234567"], "+998901234567", 2),
    ] {
        let output = place.run(&arguments, "").await;
        assert!(output.status.success(), "{arguments:?} {output:?}");
        let lines = lines(&output, " ");
        assert_eq!(lines.len(), rows, "{arguments:?} {lines:?}");
        assert!(
            lines.last().unwrap().contains(expected),
            "{arguments:?} {lines:?}"
        );
    }
    // An argument that an error repeats.
    for arguments in [
        &["users", "show", HOSTILE][..],
        &["changepassword", HOSTILE, "--password-stdin"],
        &["phone-check", HOSTILE],
        &["backup", HOSTILE],
        &["audit", "--service", HOSTILE],
        &["users", "list", "--prefix", HOSTILE],
        &["service-key", "create", HOSTILE, "--allow", HOSTILE],
        &["serve", "--listen", HOSTILE],
        &["migrate", "--database-url", HOSTILE],
    ] {
        let output = place.run(arguments, "").await;
        // `phone-check` writes tab-separated values.
        let lines = lines(&output, if arguments[0] == "phone-check" { "\t" } else { " " });
        assert!(lines.len() == 1, "{arguments:?} {lines:?}");
    }
}
