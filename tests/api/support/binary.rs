//! The real binary, as a process.

use std::io::Write as _;
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

/// A serving process. It is killed when it is dropped.
pub(crate) struct ServerProcess {
    pub(crate) address: SocketAddr,
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
        let mut line = String::new();
        timeout(PATIENCE, stdout.read_line(&mut line))
            .await
            .unwrap()
            .unwrap();
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .expect(&line)
            .parse()
            .unwrap();
        Self {
            address,
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
