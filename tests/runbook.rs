//! Executable documentation: the commands of `docs/operations` run as they stand.
//!
//! The tests run each `sh` and `sql` block that needs no cluster, in the order of the page, on a service with SQLite.
//! They check the form of the other blocks: their syntax, the namespace and the names of `kubectl`, and that each log
//! line that a command searches for exists.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test"
)]

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use phone_identity::proto::v1::phone_identity_client::PhoneIdentityClient;
use phone_identity::proto::v1::phone_verification_client::PhoneVerificationClient;
use phone_identity::proto::v1::{AuthenticateRequest, ClientInfo, CodePurpose, SendCodeRequest};
use sea_orm::{ConnectionTrait as _, Database, DbBackend, Statement};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_phone-identity");
const PAGES: [&str; 3] = ["runbook.md", "sizing.md", "failover.md"];
const NUMBER: &str = "+998901234567";

/// Programs that no test can run here, with the reason.
const NOT_RUN: [(&str, &str); 5] = [
    ("kubectl", "a cluster"),
    ("psql", "a PostgreSQL server"),
    ("pg_dump", "a PostgreSQL server"),
    ("pg_restore", "a PostgreSQL server"),
    ("cargo", "a build, and minutes"),
];

/// SQL of one database server only.
const NOT_PORTABLE: [&str; 3] = ["pg_is_in_recovery", "pg_stat_activity", "@@read_only"];

/// A fenced code block.
struct Block {
    /// The page and the line of the opening fence.
    position: String,
    language: String,
    code: String,
}

impl Block {
    /// Returns what the block needs that a test does not have.
    fn missing(&self) -> Option<&'static str> {
        let is_word = |c: char| !(c.is_ascii_alphanumeric() || "-_/".contains(c));
        let mut words = self.code.split(is_word);
        let missing = words.find_map(|word| NOT_RUN.iter().find(|(program, _)| *program == word));
        missing.map(|(_, reason)| *reason)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns all code blocks of a page. A block of a list item loses the indentation of its fence.
fn blocks(page: &str) -> Vec<Block> {
    let text = fs::read_to_string(root().join("docs/operations").join(page)).unwrap();
    let mut blocks = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    for (number, line) in text.lines().enumerate() {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        match (open.take(), content.strip_prefix("```")) {
            (Some((_, block)), Some("")) => blocks.push(block),
            (Some((indent, mut block)), None) => {
                block.code.push_str(line.get(indent..).unwrap_or_default());
                block.code.push('\n');
                open = Some((indent, block));
            }
            (None, Some(language)) => {
                let position = format!("docs/operations/{page}:{}", number + 1);
                assert!(
                    ["sh", "sql", "promql"].contains(&language),
                    "{position}: a block of the language {language:?}"
                );
                let language = language.to_owned();
                open = Some((
                    indent,
                    Block {
                        position,
                        language,
                        code: String::new(),
                    },
                ));
            }
            (None, None) => {}
            (Some(_), Some(_)) => panic!("{page}:{}: a block in a block", number + 1),
        }
    }
    assert!(open.is_none(), "{page}: a block without an end");
    blocks
}

/// A folder with the database of the service and a server process.
struct Service {
    folder: TempDir,
    child: Option<Child>,
    address: String,
}

impl Service {
    fn new() -> Self {
        let mut service = Self {
            folder: tempfile::tempdir().unwrap(),
            child: None,
            address: String::new(),
        };
        let secret = service.path("secret");
        fs::write(&secret, "content").unwrap();
        fs::set_permissions(&secret, Permissions::from_mode(0o644)).unwrap();
        let peppers = service.path("peppers");
        fs::write(&peppers, "k1:AAECAwQFBgcICQoLDA0ODw==\n").unwrap();
        fs::set_permissions(&peppers, Permissions::from_mode(0o600)).unwrap();
        service.start();
        service
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let mut child = Command::new(BINARY)
            .args(["serve", "--listen=127.0.0.1:0", "--sms-providers=log"])
            .args(["--argon2-memory-kib=64", "--argon2-iterations=1"])
            .env_clear()
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        self.child = Some(child);
        let address = line.trim_end().strip_prefix("listening on ");
        let log = || fs::read_to_string(self.path("log")).unwrap();
        address
            .unwrap_or_else(|| panic!("{line:?}: {}", log()))
            .clone_into(&mut self.address);
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Leaves the events for which commands of the runbook search.
    async fn leave_events(&self) {
        let url = format!("http://{}", self.address);
        let client = Some(ClientInfo {
            ip_address: "192.0.2.7".to_owned(),
            ..ClientInfo::default()
        });
        let mut identity = PhoneIdentityClient::connect(url.clone()).await.unwrap();
        let wrong = AuthenticateRequest {
            phone_number: NUMBER.to_owned(),
            password: "not the password".to_owned(),
            client: client.clone(),
            ..AuthenticateRequest::default()
        };
        identity.authenticate(wrong).await.unwrap_err();
        let mut codes = PhoneVerificationClient::connect(url).await.unwrap();
        let request = SendCodeRequest {
            purpose: CodePurpose::SignIn.into(),
            phone_number: NUMBER.to_owned(),
            client,
            ..SendCodeRequest::default()
        };
        codes.send_code(request).await.unwrap();
    }

    /// Runs a script in the folder of the service.
    fn shell(&self, script: &str) -> Output {
        let binaries = Path::new(BINARY).parent().unwrap().display();
        Command::new("bash")
            .args(["--noprofile", "--norc", "-euo", "pipefail", "-c", script])
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", format!("{binaries}:{}", std::env::var("PATH").unwrap()))
            .env("ADDRESS", &self.address)
            .env("SECRET_FILE", self.path("secret"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs a script that has to succeed, and returns its standard output.
    fn succeeds(&self, script: &str, position: &str) -> String {
        let output = self.shell(script);
        let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(
            output.status.success(),
            "{position}: {}\n{stdout}{stderr}",
            output.status
        );
        stdout
    }

    /// Runs a statement on the database file.
    async fn sql(&self, statement: &str) {
        let url = format!("sqlite://{}", self.path("phone-identity.db").display());
        let database = Database::connect(url).await.unwrap();
        let statement = Statement::from_string(DbBackend::Sqlite, statement.to_owned());
        database.query_all_raw(statement).await.unwrap();
        database.close().await.unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

#[tokio::test]
async fn commands_of_the_runbook_run_as_they_stand() {
    let mut service = Service::new();
    service.leave_events().await;
    let (mut run, mut not_run) = (0, 0);
    for block in PAGES.iter().flat_map(|page| blocks(page)) {
        let (code, position) = (block.code.as_str(), block.position.as_str());
        match block.language.as_str() {
            "sql" if !NOT_PORTABLE.iter().any(|word| code.contains(word)) => service.sql(code).await,
            "sh" if block.missing().is_none() => {
                // The page tells operators to stop the service before they replace its file, and to start it after.
                if code.contains("phone-identity.db-wal") {
                    service.stop();
                } else if code.contains("$ADDRESS") && service.child.is_none() {
                    service.start();
                }
                if code.contains("$KEY_ID") {
                    let list = service.succeeds("phone-identity service-key list --json", position);
                    let (_, rest) = list.split_once(r#""keyId":""#).expect("a key");
                    let id = rest.split('"').next().unwrap();
                    service.succeeds(&format!("KEY_ID={id}\n{code}"), position);
                } else {
                    let output = service.succeeds(code, position);
                    let prints = !["chmod", "umask", "rm -f"]
                        .iter()
                        .any(|word| code.starts_with(word));
                    assert_eq!(!output.is_empty(), prints, "{position}: {output}");
                }
                if code.contains("peppers-in-use") {
                    for (peppers, number) in [
                        ("peppers-known", "+998901234568"),
                        ("peppers-in-use", "+998901234569"),
                    ] {
                        let create = format!(
                            "echo 'ferry lantern 42 quiet' | phone-identity createsuperuser --phone-number {number} \
                             --password-stdin --argon2-memory-kib=64 --peppers-file {peppers}"
                        );
                        service.succeeds(&create, position);
                    }
                }
            }
            _ => {
                not_run += 1;
                continue;
            }
        }
        run += 1;
    }
    let mode = fs::metadata(service.path("secret")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "chmod of the runbook");
    assert!(
        run >= 20 && not_run >= 20,
        "only {run} blocks were run, and {not_run} were not"
    );
}

#[test]
fn commands_for_a_cluster_are_complete() {
    let service = Service::new();
    let deployment = fs::read_to_string(root().join("deploy/kubernetes/base/deployment.yaml")).unwrap();
    let mut commands = 0;
    for block in PAGES.iter().flat_map(|page| blocks(page)) {
        let (code, position) = (block.code.as_str(), block.position.as_str());
        if block.language == "sh" {
            service.succeeds(&format!("bash -n <<'END_OF_BLOCK'\n{code}END_OF_BLOCK"), position);
        }
        for command in code.lines().filter(|line| line.starts_with("kubectl")) {
            commands += 1;
            assert!(
                command.starts_with("kubectl --namespace identity "),
                "{position}: no namespace: {command}"
            );
            if command.contains(" logs ") {
                // With a selector, kubectl returns the last ten lines of each Pod only.
                assert!(
                    command.contains(" --tail=-1"),
                    "{position}: no --tail=-1: {command}"
                );
            }
            for word in command.split(' ') {
                if let Some(name) = word.strip_prefix("deployment/") {
                    let name = format!("kind: Deployment\nmetadata:\n  name: {name}\n");
                    assert!(deployment.contains(&name), "{position}: {word}");
                } else if let Some((label, value)) = word.split_once("/name=") {
                    let label = format!("{label}/name: {value}\n");
                    assert!(deployment.contains(&label), "{position}: {word}");
                } else if word.starts_with("deploy/") {
                    assert!(root().join(word).is_dir(), "{position}: {word}");
                }
            }
        }
    }
    assert!(commands >= 10, "only {commands} commands were read");
}

/// Returns the text of all source files.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else {
            text.push_str(&fs::read_to_string(&path).unwrap_or_default());
        }
    }
}

/// Returns the text of a page outside of its code blocks.
fn prose(page: &str) -> String {
    let text = fs::read_to_string(root().join("docs/operations").join(page)).unwrap();
    text.split("```").step_by(2).collect()
}

/// Log messages of the runbook: the patterns that its commands search for, and code spans of several lower-case words.
#[test]
fn log_messages_of_the_runbook_exist() {
    let mut source = String::new();
    sources(&root().join("src"), &mut source);
    let logs = blocks("runbook.md")
        .into_iter()
        .filter(|block| block.code.contains(" logs "));
    let code: String = logs.map(|block| block.code).collect();
    let patterns = code.split('\'').skip(1).step_by(2);
    let prose = prose("runbook.md").replace("\n   ", " ").replace('\n', " ");
    let is_message = |span: &&str| {
        let is_text = span.chars().all(|c| c.is_ascii_lowercase() || c == ' ');
        is_text && span.contains(' ') && !span.starts_with("make ")
    };
    let spans = prose.split('`').skip(1).step_by(2).filter(is_message);
    let mut messages = 0;
    for message in patterns.chain(spans) {
        messages += 1;
        assert!(source.contains(message), "the service logs no {message:?}");
    }
    assert!(messages >= 10, "only {messages} messages were read");
}
