//! The commands of an operator: createsuperuser, changepassword, phone-check, calibrate.

use std::process::Output;

use tonic::Code;

use crate::support::binary::{ServerProcess, at_a_terminal};
use crate::support::place::Place;
use crate::support::refusal::assert_refused;
use crate::support::{OTHER_PASSWORD, PASSWORD, connect, credentials, registration, validation};

/// The one line that a command fails with.
fn failure(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

async fn create(place: &Place, flag: &str, number: &str, password: &str) -> Output {
    place
        .run(
            &["createsuperuser", flag, number, "--password-stdin"],
            &format!("{password}\n"),
        )
        .await
}

#[tokio::test]
async fn the_version_names_the_commit() {
    let place = Place::new().await;
    let output = place.run(&["--version"], "").await;
    assert!(output.status.success(), "{output:?}");
    let commit = env!("PHONE_IDENTITY_COMMIT");
    let expected = format!("phone-identity {} ({commit})\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    // Sources of an archive are of no commit that git knows here.
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output();
        let output = output.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    if git(&["rev-parse", "--show-toplevel"]).as_deref() == Some(env!("CARGO_MANIFEST_DIR")) {
        assert_eq!(git(&["rev-parse", "--short=12", "HEAD"]).as_deref(), Some(commit));
    }
}

#[tokio::test]
async fn a_superuser_is_created_beside_a_running_server() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &[]).await;
    let made = create(&place, "--phone-number", "+998901234567", PASSWORD).await;
    assert!(made.status.success(), "{made:?}");
    let stdout = String::from_utf8(made.stdout).unwrap();
    assert!(
        stdout.starts_with("superuser ") && stdout.ends_with(" created: +998901234567\n"),
        "{stdout}"
    );
    let mut client = connect(server.address).await;
    let user = client
        .authenticate(credentials("+998901234567", PASSWORD))
        .await
        .unwrap()
        .into_inner()
        .user
        .unwrap();
    assert!(user.is_superuser && user.is_staff);

    // As Django spells it; the region of a national number is a setting.
    let made = place
        .run(
            &[
                "createsuperuser",
                "--phone_number",
                "90 123 45 68",
                "--password-stdin",
                "--default-region",
                "uz",
            ],
            PASSWORD,
        )
        .await;
    assert!(made.status.success(), "{made:?}");
    let taken = create(&place, "--phone-number", "+998901234567", OTHER_PASSWORD).await;
    assert!(failure(&taken, 1).contains("this phone number is taken"));
}

#[tokio::test]
async fn bad_arguments_are_one_clear_line_and_make_no_database() {
    let place = Place::new().await;
    for (number, password, expected) in [
        ("901234567", PASSWORD, "the phone number has no country"),
        (
            "+1201555O123",
            PASSWORD,
            "the phone number has a character that is not allowed",
        ),
        ("+18002345678", PASSWORD, "line type"),
        ("+998901234567", "", "the password must be given"),
        (
            "+998901234567",
            "zqvkxwj",
            "the password is shorter than 8 characters",
        ),
        ("+998901234567", "password", "the password is among"),
        ("+998901234567", "901234567", "the password is the phone number"),
    ] {
        let line = failure(&create(&place, "--phone-number", number, password).await, 2);
        assert!(line.contains(expected), "{line}");
    }
    let asked = place
        .run(&["createsuperuser", "--phone-number", "+998901234567"], PASSWORD)
        .await;
    assert!(failure(&asked, 2).contains("--password-stdin"));
    assert!(!place.path().join("phone-identity.db").exists());
}

#[tokio::test]
async fn changepassword_ends_all_sessions() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &[]).await;
    let mut client = connect(server.address).await;
    let token = client
        .register(registration("+998901234567", PASSWORD))
        .await
        .unwrap()
        .into_inner()
        .session_token;
    let changed = place
        .run(
            &["changepassword", "+998 90 123 45 67", "--password-stdin"],
            OTHER_PASSWORD,
        )
        .await;
    assert!(changed.status.success(), "{changed:?}");
    assert_refused(
        client.validate_session(validation(&token)).await,
        Code::Unauthenticated,
        "SESSION_INVALID",
    );
    let old = client.authenticate(credentials("+998901234567", PASSWORD)).await;
    assert_refused(old, Code::Unauthenticated, "INVALID_CREDENTIALS");
    client
        .authenticate(credentials("+998901234567", OTHER_PASSWORD))
        .await
        .unwrap();
    let unknown = place
        .run(
            &["changepassword", "+998901234568", "--password-stdin"],
            OTHER_PASSWORD,
        )
        .await;
    assert!(failure(&unknown, 1).contains("no user has this phone number"));
}

#[tokio::test]
async fn phone_check_writes_a_line_for_each_number() {
    let place = Place::new().await;
    let arguments = [
        "phone-check",
        "--region",
        "UZ",
        "90 123 45 67",
        "+18002345678",
        "-",
        "+7 495 1234567",
    ];
    let checked = place.run(&arguments, "").await;
    assert_eq!(
        String::from_utf8(checked.stdout).unwrap(),
        "90 123 45 67\t+998901234567\tmobile\tUZ\tok\n\
         +18002345678\t+18002345678\ttoll_free\tUS\tline_type_not_allowed\n\
         -\t-\t-\t-\tnot_a_number\n\
         +7 495 1234567\t+74951234567\tfixed_line\tRU\tok\n"
    );
    let checked = place
        .run(
            &["phone-check"],
            "901234567\tUZ\n901234567\n\n+1201555O123\n1\tXX\n",
        )
        .await;
    assert!(checked.status.success());
    assert_eq!(
        String::from_utf8(checked.stdout).unwrap(),
        "901234567\t+998901234567\tmobile\tUZ\tok\n\
         901234567\t-\t-\t-\tregion_required\n\
         \t-\t-\t-\tempty\n\
         +1201555O123\t-\t-\t-\tcharacter_not_allowed\n\
         1\t-\t-\t-\tregion_unknown\n"
    );
    assert!(!place.path().join("phone-identity.db").exists());
}

/// Runs createsuperuser at a terminal. Returns whether it succeeded, and its output.
async fn create_at_a_terminal(place: &Place, [first, second]: [&'static str; 2]) -> (bool, String) {
    let create = "createsuperuser --phone-number +998901234567";
    let dialogue = [("Password: ", first), ("Password (again): ", second)];
    let (code, shown) = at_a_terminal(place, create, &dialogue).await;
    (code == Some(0), shown)
}

#[tokio::test]
async fn at_a_terminal_the_password_is_asked_for_twice() {
    let place = Place::new().await;
    let (made, shown) = create_at_a_terminal(&place, [PASSWORD, OTHER_PASSWORD]).await;
    assert!(
        !made && shown.contains("error: the two passwords are not the same"),
        "{shown}"
    );
    let (made, shown) = create_at_a_terminal(&place, [PASSWORD, PASSWORD]).await;
    assert!(made && shown.contains(" created: +998901234567"), "{shown}");
}

/// The proposal depends on the machine, but follows the rules. The target is short, so that the test is short, too.
#[tokio::test]
async fn calibrate_proposes_lines_for_dotenv_that_are_no_weaker_than_owasp_recommends() {
    let place = Place::new().await;
    for arguments in [
        vec!["calibrate", "--target=20ms"],
        vec!["calibrate", "--target", "1ms", "--hash-engine=portable"],
    ] {
        let output = place.run(&arguments, "").await;
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let (comments, settings) = lines.split_at(lines.len() - 2);
        assert!(comments.iter().all(|line| line.starts_with("# ")), "{text}");
        let rows: Vec<Vec<f64>> = comments
            .iter()
            .map(|line| line.split_whitespace().skip(1).flat_map(str::parse).collect())
            .filter(|row: &Vec<f64>| row.len() == 5)
            .collect();
        assert_eq!(rows.len(), 4, "{text}");
        let least = [46.0, 19.0, 12.0, 9.0];
        for (row, (iterations, least)) in rows.iter().zip([1.0, 2.0, 3.0, 4.0].into_iter().zip(least)) {
            assert!(row[0] >= least && row[1] == iterations, "{text}");
        }
        let value = |line: &str, name: &str| -> f64 {
            let value = line.strip_prefix(name).and_then(|line| line.strip_prefix('='));
            value.expect(&text).parse().unwrap()
        };
        let memory = value(settings[0], "PHONE_IDENTITY_ARGON2_MEMORY_KIB");
        let iterations = value(settings[1], "PHONE_IDENTITY_ARGON2_ITERATIONS");
        let is_proposed = |row: &Vec<f64>| row[0] * 1024.0 == memory && row[1] == iterations;
        assert!(rows.iter().any(is_proposed), "{text}");
    }
    for target in ["soon", "0s", "1h"] {
        let refused = place.run(&["calibrate", "--target", target], "").await;
        assert!(failure(&refused, 2).contains("--target"));
    }
    assert!(!place.path().join("phone-identity.db").exists());
}

#[tokio::test]
async fn settings_are_taken_before_and_after_the_command_and_a_flag_wins_over_the_environment() {
    let place = Place::new().await;
    let check = |arguments: &[&str], environment: Option<&str>| {
        let mut command = place.command();
        command
            .args(arguments)
            .envs(environment.map(|region| ("PHONE_IDENTITY_DEFAULT_REGION", region)));
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let in_uzbekistan = "901234567\t+998901234567\tmobile\tUZ\tok\n";
    for arguments in [
        ["--default-region=UZ", "phone-check", "901234567"],
        ["phone-check", "--default-region=UZ", "901234567"],
    ] {
        assert_eq!(check(&arguments, None), in_uzbekistan);
        assert_eq!(check(&arguments, Some("US")), in_uzbekistan);
    }
    assert_eq!(check(&["phone-check", "901234567"], Some("UZ")), in_uzbekistan);
    assert_eq!(
        check(&["phone-check", "901234567"], Some("")),
        "901234567\t-\t-\t-\tregion_required\n"
    );
}
