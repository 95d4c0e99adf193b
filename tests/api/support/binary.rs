//! The real binary, as a process.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::place::Place;

/// How long anything that a process does may take in a test.
const PATIENCE: Duration = Duration::from_secs(30);

/// The command, in a folder of its own and with an environment without settings.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_phone-identity"));
    command.current_dir(folder).env_clear();
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Runs a command on a terminal of its own (`script` makes one), gives each answer when its question is asked, and says how the
/// command ended and what the terminal showed.
pub(crate) fn at_a_terminal(
    place: &Place,
    arguments: &str,
    dialogue: &[(&str, &str)],
) -> (Option<i32>, String) {
    let command = format!("{} {arguments}", env!("CARGO_BIN_EXE_phone-identity"));
    let mut child = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .current_dir(place.path())
        .env_clear()
        .envs(place.environment())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = String::new();
    for (question, answer) in dialogue {
        while !shown.ends_with(question) {
            let mut byte = [0];
            screen.read_exact(&mut byte).unwrap();
            shown.push(byte[0].into());
        }
        writeln!(keyboard, "{answer}").unwrap();
    }
    screen.read_to_string(&mut shown).unwrap();
    (child.wait().unwrap().code(), shown)
}

/// A serving process. It is killed when it is dropped.
pub(crate) struct ServerProcess {
    pub(crate) address: SocketAddr,
    /// Where its metrics are, with `--metrics-listen` and port 0.
    pub(crate) metrics: Option<SocketAddr>,
    child: Child,
    log: JoinHandle<String>,
    _stdout: BufReader<ChildStdout>,
}

impl ServerProcess {
    /// Starts the binary on a free port, and waits for it to print which. A flag takes the place of the one that the tests
    /// have in common.
    pub(crate) async fn start(place: &Place, flags: &[&str]) -> Self {
        let name = |flag: &str| flag.split('=').next().unwrap_or_default().to_owned();
        let common = super::TEST_FLAGS
            .into_iter()
            .filter(|common| !flags.iter().any(|flag| name(flag) == name(common)));
        let mut child = tokio::process::Command::from(place.command())
            .args(["serve", "--listen=127.0.0.1:0"])
            .args(common)
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        // Read all the time, so that the process never waits for a reader.
        let mut stderr = child.stderr.take().unwrap();
        let log = tokio::spawn(async move {
            let mut log = String::new();
            stderr.read_to_string(&mut log).await.unwrap();
            log
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let address = address(&mut stdout, "listening on ").await;
        let metrics = match flags.iter().any(|flag| flag.starts_with("--metrics-listen=")) {
            true => Some(self::address(&mut stdout, "metrics on ").await),
            false => None,
        };
        Self {
            address,
            metrics,
            child,
            log,
            _stdout: stdout,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(
            Command::new("kill")
                .args([&format!("-{name}"), &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the end, and gives the exit code and the whole log.
    pub(crate) async fn ended(mut self) -> (Option<i32>, String) {
        let ended = async { (self.child.wait().await.unwrap(), self.log.await.unwrap()) };
        let (status, log) = timeout(PATIENCE, ended).await.expect("the process did not end");
        (status.code(), log)
    }
}

/// Reads a line that ends with an address.
async fn address(stdout: &mut BufReader<ChildStdout>, before: &str) -> SocketAddr {
    let mut line = String::new();
    timeout(PATIENCE, stdout.read_line(&mut line))
        .await
        .unwrap()
        .unwrap();
    line.trim().strip_prefix(before).expect(&line).parse().unwrap()
}
