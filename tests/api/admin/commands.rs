//! `phone-identity users`: administration at the command line, beside a running server.

use std::process::Output;

use tonic::Code;

use crate::support::binary::{ServerProcess, at_a_terminal};
use crate::support::place::Place;
use crate::support::refusal::assert_refused;
use crate::support::{PASSWORD, connect, credentials, registration, validation};

const FIRST: &str = "+998901234561";
const SECOND: &str = "+998901234562";
const SUPERUSER: &str = "+998931112233";

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one line that a command fails with.
fn failure(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

async fn users(place: &Place, arguments: &[&str]) -> Output {
    place.run(&[&["users"], arguments].concat(), "").await
}

/// Returns the `--json` output of a command about users.
async fn json(place: &Place, arguments: &[&str]) -> Vec<serde_json::Value> {
    let printed = stdout(&users(place, &[arguments, &["--json"]].concat()).await);
    let lines = printed.lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn numbers(people: &[serde_json::Value]) -> Vec<&str> {
    people
        .iter()
        .map(|person| person["phoneNumber"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn users_are_listed_and_shown_as_a_table_and_as_json() {
    let place = Place::new().await;
    let made = users(&place, &["create", FIRST, "--no-password"]).await;
    let table = stdout(&made);
    let lines: Vec<&str> = table.lines().collect();
    let [heading, row] = lines[..] else {
        panic!("{table}")
    };
    assert!(
        heading.starts_with("ID ") && heading.ends_with("  LAST LOGIN"),
        "{table}"
    );
    let columns: Vec<&str> = row.split_whitespace().collect();
    let [id, number, status, flags, verified, joined, last_login] = columns[..] else {
        panic!("{table}")
    };
    assert_eq!(
        (number, status, flags, verified, last_login),
        (FIRST, "active", "no-password", "-", "-")
    );
    assert_eq!(row.find(number), heading.find("NUMBER"));
    assert!(chrono::DateTime::parse_from_rfc3339(joined).is_ok(), "{joined}");

    let made = place
        .run(
            &["users", "create", SECOND, "--staff", "--password-stdin", "--json"],
            PASSWORD,
        )
        .await;
    let made: serde_json::Value = serde_json::from_str(&stdout(&made)).unwrap();
    assert_eq!(made["phoneNumber"], SECOND);
    assert_eq!(
        (
            made["isStaff"].as_bool(),
            made["isSuperuser"].as_bool(),
            made["hasPassword"].as_bool()
        ),
        (Some(true), Some(false), Some(true))
    );
    let names: Vec<&str> = made.as_object().unwrap().keys().map(String::as_str).collect();
    assert!(
        names.contains(&"etag") && names.contains(&"lastLoginAt"),
        "{names:?}"
    );

    // By id and by number, and in the region of the settings.
    for user in [id, FIRST, "90 123 45 61"] {
        let shown = json(&place, &["show", user, "--default-region=UZ"]).await;
        assert_eq!(shown[0]["userId"], id);
    }
    let shown = json(&place, &["show", SECOND, FIRST]).await;
    assert_eq!(numbers(&shown), [SECOND, FIRST]);
    let missing = users(&place, &["show", "+998901234569"]).await;
    assert!(failure(&missing, 1).contains("+998901234569: user not found"));
    let bad = users(&place, &["show", "somebody"]).await;
    assert!(failure(&bad, 2).contains("the phone number somebody "));

    assert_eq!(numbers(&json(&place, &["list"]).await), [FIRST, SECOND]);
    assert_eq!(
        numbers(&json(&place, &["list", "--descending"]).await),
        [SECOND, FIRST]
    );
    assert_eq!(
        numbers(&json(&place, &["list", "--staff", "true"]).await),
        [SECOND]
    );
    assert_eq!(
        numbers(&json(&place, &["list", "--staff=false", "--prefix", "+99890"]).await),
        [FIRST]
    );
    assert_eq!(json(&place, &["list", "--prefix", "+1"]).await.len(), 0);
    assert_eq!(
        json(&place, &["list", "--joined-before", "2020-01-01"])
            .await
            .len(),
        0
    );
    assert_eq!(
        numbers(
            &json(
                &place,
                &[
                    "list",
                    "--joined-from=2020-01-01T00:00:00+05:00",
                    "--order",
                    "joined"
                ]
            )
            .await
        ),
        [FIRST, SECOND]
    );
    assert_eq!(
        json(&place, &["list", "--last-login-from", "2020-01-01"])
            .await
            .len(),
        0
    );
    let empty = stdout(&users(&place, &["list", "--status", "deactivated"]).await);
    assert_eq!(empty.lines().count(), 1, "{empty}");
    let some = users(&place, &["list", "--limit", "1"]).await;
    assert_eq!(stdout(&some).lines().count(), 2);
    assert_eq!(
        String::from_utf8(some.stderr).unwrap(),
        "not all users are shown; raise --limit\n"
    );
    for (bad, expected) in [
        (
            ["list", "--prefix", "998"],
            "the prefix is not + and the first digits",
        ),
        (["list", "--joined-from", "yesterday"], "neither a day"),
        (["list", "--limit", "0"], "--limit"),
        (["list", "--order", "id"], "--order"),
    ] {
        assert!(
            failure(&users(&place, &bad).await, 2).contains(expected),
            "{bad:?}"
        );
    }
}

/// A list that needs several pages.
#[tokio::test]
async fn a_long_list_is_read_page_by_page() {
    let place = Place::new().await;
    assert!(place.run(&["migrate"], "").await.status.success());
    let database = place.connect().await;
    let at = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    let people: Vec<_> = (0..1201)
        .map(|number| crate::support::people::Someone::new(format!("+99890{number:07}"), at))
        .collect();
    crate::support::people::insert(&database, &people).await;
    let expected: Vec<&str> = people
        .iter()
        .map(|someone| someone.phone_number.as_str())
        .collect();
    for (limit, listed) in [("1201", 1201), ("2000", 1201), ("1000", 1000), ("501", 501)] {
        let found = json(&place, &["list", "--limit", limit]).await;
        assert_eq!(numbers(&found), expected[..listed], "{limit}");
    }
}

#[tokio::test]
async fn commands_are_effective_for_the_running_server() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &[]).await;
    let mut client = connect(server.address).await;
    let mut tokens = Vec::new();
    for number in [FIRST, SECOND] {
        let registered = client.register(registration(number, PASSWORD)).await.unwrap();
        tokens.push(registered.into_inner().session_token);
    }
    let verified = json(&place, &["verify", FIRST, SECOND]).await;
    assert!(
        verified
            .iter()
            .all(|person| person["phoneVerifiedAt"].is_string()),
        "{verified:?}"
    );
    let valid = client.validate_session(strong(&tokens[0])).await.unwrap();
    assert!(valid.into_inner().user.unwrap().phone_verified_at.is_some());

    let updated = json(&place, &["update", FIRST, "--staff", "true", "--superuser=true"]).await;
    assert_eq!(updated[0]["isSuperuser"], true);
    // The last superuser keeps the flag, for every caller.
    for arguments in [
        &["update", FIRST, "--superuser=false"][..],
        &["deactivate", FIRST],
        &["delete", FIRST, "--yes"],
    ] {
        let refused = users(&place, arguments).await;
        assert!(
            failure(&refused, 1).contains("the last active superuser"),
            "{arguments:?}"
        );
    }
    let made = place
        .run(
            &["createsuperuser", "--phone-number", SUPERUSER, "--password-stdin"],
            PASSWORD,
        )
        .await;
    assert!(made.status.success());

    let revoked = json(&place, &["revoke-sessions", FIRST]).await;
    assert_eq!(
        (&revoked[0]["phoneNumber"], &revoked[0]["revokedCount"]),
        (&FIRST.into(), &1.into())
    );
    let dead = client.validate_session(strong(&tokens[0])).await;
    assert_refused(dead, Code::Unauthenticated, "SESSION_INVALID");

    // One of two users does not exist: the command deletes the other one, and returns an error code.
    let some = users(&place, &["deactivate", "+998901234569", SECOND]).await;
    assert_eq!(some.status.code(), Some(1));
    let table = String::from_utf8(some.stdout).unwrap();
    assert!(
        table.contains(SECOND) && table.contains("deactivated by admin"),
        "{table}"
    );
    let dead = client.validate_session(strong(&tokens[1])).await;
    assert_refused(dead, Code::Unauthenticated, "SESSION_INVALID");
    let mut back = credentials(SECOND, PASSWORD);
    back.reactivate = true;
    let refused = client.authenticate(back).await;
    assert_refused(refused, Code::FailedPrecondition, "ACCOUNT_DEACTIVATED");
    assert_eq!(json(&place, &["reactivate", SECOND]).await[0]["status"], "active");
    client.authenticate(credentials(SECOND, PASSWORD)).await.unwrap();

    let asked = users(&place, &["delete", SECOND]).await;
    assert!(failure(&asked, 2).contains("--yes"));
    let deleted = json(&place, &["delete", SECOND, FIRST, "--yes"]).await;
    assert_eq!(numbers(&deleted), [SECOND, FIRST]);
    assert_eq!(numbers(&json(&place, &["list"]).await), [SUPERUSER]);
    let gone = client.authenticate(credentials(SECOND, PASSWORD)).await;
    assert_refused(gone, Code::Unauthenticated, "INVALID_CREDENTIALS");
    let taken = users(&place, &["create", SUPERUSER, "--no-password"]).await;
    assert!(failure(&taken, 1).contains("this phone number is taken"));
    let weak = place
        .run(&["users", "create", FIRST, "--password-stdin"], "password")
        .await;
    assert!(failure(&weak, 2).contains("the password is among"));
    let nothing = users(&place, &["update", SUPERUSER]).await;
    assert!(failure(&nothing, 2).contains("--staff"));
}

pub(crate) fn strong(token: &str) -> phone_identity::proto::v1::ValidateSessionRequest {
    phone_identity::proto::v1::ValidateSessionRequest {
        consistency: phone_identity::proto::v1::Consistency::Strong.into(),
        ..validation(token)
    }
}

#[tokio::test]
async fn deletion_asks_for_confirmation_at_a_terminal() {
    let place = Place::new().await;
    assert!(
        users(&place, &["create", FIRST, "--no-password"])
            .await
            .status
            .success()
    );
    let delete = async |answer: &'static str| {
        let (code, shown) =
            at_a_terminal(&place, &format!("users delete {FIRST}"), &[("[y/N] ", answer)]).await;
        assert!(shown.contains(&format!("Delete {FIRST} (")), "{shown}");
        (code, shown)
    };
    for no in ["", "n", "nay"] {
        let (code, shown) = delete(no).await;
        assert!(code == Some(1) && shown.contains("not deleted"), "{shown}");
        assert_eq!(json(&place, &["list"]).await.len(), 1);
    }
    let (code, shown) = delete("y").await;
    assert!(
        code == Some(0) && shown.contains(&format!("{FIRST}: deleted")),
        "{shown}"
    );
    assert_eq!(json(&place, &["list"]).await.len(), 0);
}
