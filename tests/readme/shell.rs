//! The `console` blocks of a Markdown text, and a shell that runs them.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::server::{BINARY, Server};

/// The address that the README shows.
const SHOWN_ADDRESS: &str = "127.0.0.1:50051";

/// The one of a service whose callers need a key.
const SHOWN_WITH_KEYS: &str = "127.0.0.1:50052";

/// Stands between the outputs of two commands.
const MARK: &str = "=-=-= end of a command =-=-=";

/// A command of a `console` block: `$ ` and the command, further lines of it after a `\` at the end, then what it
/// prints.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) command: String,
    pub(crate) output: Vec<String>,
    /// The line of the text where the output begins.
    first_line: usize,
}

/// The steps of all `console` blocks.
pub(crate) fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut in_block, mut in_command) = (false, false);
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            in_block = line == "```console";
        } else if in_block && in_command {
            let step = steps.last_mut().unwrap();
            step.command.push('\n');
            step.command.push_str(line);
            step.first_line = number + 1;
            in_command = line.ends_with('\\');
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| in_block) {
            in_command = command.ends_with('\\');
            steps.push(Step {
                command: command.to_owned(),
                first_line: number + 1,
                ..Step::default()
            });
        } else if in_block {
            let step = steps.last_mut().expect("a console block begins with `$ command`");
            step.output.push(line.trim_end().to_owned());
        }
    }
    steps
}

/// The text with other outputs.
pub(crate) fn with_outputs(text: &str, steps: &[Step], outputs: &[Vec<String>]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (step, output) in steps.iter().zip(outputs).rev() {
        let shown = step.first_line..step.first_line + step.output.len();
        lines.splice(shown, output.iter().cloned());
    }
    lines.join("\n") + "\n"
}

/// Runs the commands in one shell, in the folder of the server, and gives what each prints on either output. The folder
/// looks like the root of the project as far as the commands of the README see it.
pub(crate) fn run(steps: &[Step], server: &Server, with_keys: &Server, tools: &Path) -> Vec<Vec<String>> {
    for name in ["proto", "tests"] {
        symlink(crate::root().join(name), server.folder().join(name)).unwrap();
    }
    let mut script = "set -uo pipefail\nexec 2>&1 </dev/null\n".to_owned();
    for step in steps {
        let command = step.command.replace(SHOWN_ADDRESS, &server.address);
        script.push_str(&command.replace(SHOWN_WITH_KEYS, &with_keys.address));
        script.push_str(&format!("\nprintf '%s' '{MARK}'\n"));
    }
    let path = std::env::var("PATH").unwrap();
    let binary = Path::new(BINARY).parent().unwrap().display();
    let output = Command::new("bash")
        .args(["--noprofile", "--norc", "-c", &script])
        .current_dir(server.folder())
        .env_clear()
        .env("PATH", format!("{binary}:{}:{path}", tools.display()))
        .env("TMPDIR", server.folder())
        .env("LC_CTYPE", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let text = text
        .replace(&server.address, SHOWN_ADDRESS)
        .replace(&with_keys.address, SHOWN_WITH_KEYS);
    let mut outputs: Vec<&str> = text.split(MARK).collect();
    let rest = outputs.pop().unwrap();
    assert_eq!(
        (outputs.len(), rest),
        (steps.len(), ""),
        "the shell ended early: {text}"
    );
    let lines = |output: &str| output.lines().map(|line| line.trim_end().to_owned()).collect();
    outputs.into_iter().map(lines).collect()
}
