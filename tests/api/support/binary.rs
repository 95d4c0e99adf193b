//! The real binary, as a process.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout};
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

use super::place::Place;

/// Timeout of a process in a test.
const PATIENCE: Duration = Duration::from_secs(30);

/// The command, in a folder of its own and with an environment without settings.
pub(crate) fn command(folder: &Path) -> Command {
    command_of(Path::new(env!("CARGO_BIN_EXE_phone-identity")), folder)
}

/// The same of another program.
fn command_of(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_clear();
    command
}

/// Runs a command to its end, on another thread: a server in this process continues, since the command may wait for one
/// of its transactions.
pub(crate) async fn run(mut command: Command, input: &str) -> Output {
    let input = input.to_owned();
    let run = move || {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// Runs a command on a terminal of its own (created by `script`), and answers each prompt. Returns the exit status and
/// the output. It runs on another thread, as [`run`] does.
pub(crate) async fn at_a_terminal(
    place: &Place,
    arguments: &str,
    dialogue: &[(&'static str, &'static str)],
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
    let dialogue = dialogue.to_owned();
    let talk = move || {
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
    };
    tokio::task::spawn_blocking(talk).await.unwrap()
}

/// A serving process. It is killed when it is dropped.
pub(crate) struct ServerProcess {
    pub(crate) address: SocketAddr,
    /// The address of the health listener, if it has a free port.
    pub(crate) health_address: Option<SocketAddr>,
    /// The address of the metrics listener, with `--metrics-listen` and port 0.
    pub(crate) metrics: Option<SocketAddr>,
    child: Child,
    /// Returns the log up to now.
    log: Arc<Mutex<String>>,
    log_read: JoinHandle<()>,
    _stdout: BufReader<ChildStdout>,
}

impl ServerProcess {
    /// Starts the binary on a free port, and waits for it to print which. A flag takes the place of the one that the
    /// tests have in common.
    pub(crate) async fn start(place: &Place, flags: &[&str]) -> Self {
        Self::start_listening(place, &[&["--listen=127.0.0.1:0"], flags].concat()).await
    }

    /// The same, on a free port of an address that is among the flags.
    pub(crate) async fn start_listening(place: &Place, flags: &[&str]) -> Self {
        Self::spawn(place.command(), flags).await
    }

    /// The same with another program.
    pub(crate) async fn start_program(program: &Path, place: &Place, flags: &[&str]) -> Self {
        let mut command = command_of(program, place.path());
        command.envs(place.environment());
        Self::spawn(command, flags).await
    }

    /// The same by a command that executes what is appended to it.
    pub(crate) async fn spawn(command: Command, flags: &[&str]) -> Self {
        let name = |flag: &str| flag.split('=').next().unwrap_or_default().to_owned();
        let common = super::TEST_FLAGS
            .into_iter()
            .filter(|common| !flags.iter().any(|flag| name(flag) == name(common)));
        let mut child = tokio::process::Command::from(command)
            .arg("serve")
            .args(common)
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        // Read all the time, so that the process never waits for a reader.
        let stderr = child.stderr.take().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let logged = log.clone();
        let log_read = tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Some(line) = lines.next_line().await.unwrap() {
                let mut log = logged.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let address = address_after("listening on ", "", &mut stdout, &log).await;
        let health_address = match flags.contains(&"--health-listen=127.0.0.1:0") {
            true => Some(address_after("listening on ", " for health", &mut stdout, &log).await),
            false => None,
        };
        let metrics = match flags.iter().any(|flag| flag.starts_with("--metrics-listen=")) {
            true => Some(address_after("metrics on ", "", &mut stdout, &log).await),
            false => None,
        };
        Self {
            address,
            health_address,
            metrics,
            child,
            log,
            log_read,
            _stdout: stdout,
        }
    }

    /// Reads the log of a process that prints no address until a line contains this text. Returns the lines up to that
    /// one. Later lines are read and dropped, so that the process never waits for a reader.
    pub(crate) async fn logged_until(child: &mut Child, text: &str) -> String {
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut log = String::new();
        let logged = async {
            while !log.lines().last().is_some_and(|line| line.contains(text)) {
                let line = lines.next_line().await.unwrap();
                log.push_str(&line.unwrap_or_else(|| panic!("the process has ended:\n{log}")));
                log.push('\n');
            }
        };
        timeout(PATIENCE, logged).await.expect("was not logged");
        tokio::spawn(async move { while lines.next_line().await.is_ok_and(|line| line.is_some()) {} });
        log
    }

    /// Waits until so many lines of the log have this in them.
    pub(crate) async fn has_logged(&self, text: &str, times: usize) {
        let mut ticks = interval(Duration::from_millis(10));
        let logged = async {
            while self.log.lock().unwrap().matches(text).count() < times {
                ticks.tick().await;
            }
        };
        timeout(PATIENCE, logged).await.expect("was not logged");
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
        let ended = async {
            let status = self.child.wait().await.unwrap();
            self.log_read.await.unwrap();
            (status, self.log.lock().unwrap().clone())
        };
        let (status, log) = timeout(PATIENCE, ended).await.expect("the process did not end");
        (status.code(), log)
    }
}

/// The address in the next line that the process prints. `log`: what to show if it prints none.
async fn address_after(
    prefix: &str,
    suffix: &str,
    stdout: &mut BufReader<ChildStdout>,
    log: &Mutex<String>,
) -> SocketAddr {
    let mut line = String::new();
    timeout(PATIENCE, stdout.read_line(&mut line))
        .await
        .unwrap()
        .unwrap();
    let address = line
        .trim()
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_suffix(suffix));
    let Some(address) = address else {
        panic!("{line}{}", log.lock().unwrap())
    };
    address.parse().unwrap()
}
