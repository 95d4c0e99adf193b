//! Runs the commands of one document in one shell, in a temporary folder.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::document::{Kind, Step};
use crate::server::BINARY;

/// The address that the documents show.
const SHOWN_ADDRESS: &str = "127.0.0.1";

/// The address of all interfaces. The session replaces it, too: sessions use the same ports at the same time.
const ANY_ADDRESS: &str = "0.0.0.0";

/// Separates the outputs of two commands; the exit code follows.
const MARK: &str = "=-=-= end of a command, exit code ";

/// The functions that the script calls.
///
/// `wait_for_server` waits until the last process in the background serves, for 30 seconds at most, and prints its log
/// if it does not.
const PRELUDE: &str = r#"
set -uo pipefail
trap 'kill -KILL $(jobs -p) 2>/dev/null' EXIT
exec 2>&1 </dev/null
wait_for_server() {
  for _ in {1..600}; do
    grep -qs '"message":"serving"' server.log && return
    kill -0 "$!" 2>/dev/null || break
    sleep 0.05
  done
  cat server.log
  return 1
}
stop_servers() {
  kill $(jobs -p) 2>/dev/null
  wait
}
"#;

/// The outcome of a command.
pub(crate) struct Output {
    pub(crate) lines: Vec<String>,
    pub(crate) exit_code: String,
}

/// Runs the commands of a document and returns the output of each. `index` is the position of the document in the list.
///
/// Each session has a loopback address of its own, made of `index` and the process id, so that sessions that run at the
/// same time can all use the ports that the documents show.
pub(crate) fn run(steps: &[Step], index: usize, tools: &Path) -> Vec<Output> {
    let folder = tempfile::tempdir().unwrap();
    // The folder has what the commands use of the repository.
    for name in ["proto", "tests"] {
        symlink(crate::root().join(name), folder.path().join(name)).unwrap();
    }
    let process = std::process::id();
    let address = format!("127.{}.{}.{}", index + 1, (process >> 8) & 0xff, process & 0xff);

    let mut script = PRELUDE.to_owned();
    for step in steps {
        let command = step
            .command
            .replace(SHOWN_ADDRESS, &address)
            .replace(ANY_ADDRESS, &address);
        let command = match step.kind {
            Kind::Compared | Kind::Run => command,
            Kind::Server => {
                let is_server =
                    command.starts_with("phone-identity serve") && command.ends_with(" 2> server.log");
                assert!(is_server, "{command}");
                format!("rm -f server.log\n(exec {command}) >/dev/null &\nwait_for_server")
            }
            Kind::Stopped => format!("stop_servers\n{command}"),
        };
        script.push_str(&command);
        script.push_str(&format!("\nprintf '%s%s\\n' '{MARK}' \"$?\"\n"));
    }
    let path = std::env::var("PATH").unwrap();
    let binary = Path::new(BINARY).parent().unwrap().display();
    let output = Command::new("bash")
        .args(["--noprofile", "--norc", "-c", &script])
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", format!("{binary}:{}:{path}", tools.display()))
        .env("HOME", folder.path())
        .env("TMPDIR", folder.path())
        .env("LC_CTYPE", "C.UTF-8")
        .env("PHONE_IDENTITY_LISTEN", format!("{address}:50051"))
        .env("PHONE_IDENTITY_SHUTDOWN_DELAY", "0s")
        // Hashes that take no time: no document shows one.
        .env("PHONE_IDENTITY_ARGON2_MEMORY_KIB", "64")
        .env("PHONE_IDENTITY_ARGON2_ITERATIONS", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let outputs = outputs(&text.replace(&address, SHOWN_ADDRESS));
    assert_eq!(
        outputs.len(),
        steps.len(),
        "the shell ended early: {text}\n{}",
        fs::read_to_string(folder.path().join("server.log")).unwrap_or_default()
    );
    outputs
}

/// Splits what the script printed.
fn outputs(text: &str) -> Vec<Output> {
    let mut outputs = Vec::new();
    let mut rest = text;
    while let Some((printed, after)) = rest.split_once(MARK) {
        let (exit_code, after) = after.split_once('\n').unwrap();
        outputs.push(Output {
            lines: printed.lines().map(|line| line.trim_end().to_owned()).collect(),
            exit_code: exit_code.to_owned(),
        });
        rest = after;
    }
    outputs
}
