//! Parser of the fenced code blocks of a Markdown document.

/// The languages that a block can have. The tests run `console` and `sh`; the others are for reading.
const LANGUAGES: [&str; 9] = [
    "console",
    "sh",
    "python",
    "js",
    "json",
    "text",
    "dockerfile",
    "sql",
    "yaml",
];

/// A fenced code block.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) language: String,
    /// The text after `test: ` in an HTML comment directly above the block.
    pub(crate) marker: Option<String>,
    pub(crate) lines: Vec<String>,
    /// The index of the line after the opening fence.
    first_line: usize,
}

/// A command of a block and the output that the document shows.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) kind: Kind,
    pub(crate) command: String,
    pub(crate) output: Vec<String>,
    /// The index of the line of the document at which the output begins.
    first_line: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A command of a `console` block. Its output is compared.
    Compared,
    /// A command of a `sh` block. It succeeds; its output is not shown.
    Run,
    /// The command that serves, the only one of its block. It runs in the background until the session ends.
    Server,
    /// As [`Kind::Run`], after all servers have ended.
    Stopped,
}

/// Returns all code blocks of a document.
pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<(String, Block)> = None;
    let mut previous = "";
    for (number, line) in text.lines().enumerate() {
        if let Some((indent, mut block)) = open.take() {
            if line.trim() == "```" {
                blocks.push(block);
            } else {
                let line = line.strip_prefix(&indent).unwrap_or_else(|| line.trim_start());
                block.lines.push(line.to_owned());
                open = Some((indent, block));
            }
        } else if let Some((indent, language)) = line.split_once("```")
            && indent.trim().is_empty()
        {
            assert!(
                LANGUAGES.contains(&language),
                "line {}: a block of the language {language:?}",
                number + 1
            );
            let marker = previous.trim().strip_prefix("<!-- test: ");
            let block = Block {
                language: language.to_owned(),
                marker: marker.map(|rest| rest.trim_end_matches("-->").trim().to_owned()),
                lines: Vec::new(),
                first_line: number + 1,
            };
            open = Some((indent.to_owned(), block));
        }
        previous = line;
    }
    assert!(open.is_none(), "a block without an end");
    blocks
}

impl Block {
    /// Returns the reason why the block does not run.
    pub(crate) fn not_run(&self) -> Option<&str> {
        self.marker.as_deref()?.strip_prefix("not run: ")
    }

    /// Returns the commands of the block that run. In a `console` block a command begins with `$ `; a command continues
    /// after a `\` at the end of the line.
    fn steps(&self) -> Vec<Step> {
        if self.not_run().is_some() || !["console", "sh"].contains(&self.language.as_str()) {
            assert!(
                !self.lines.iter().any(|line| line.starts_with("$ ")) || self.language == "console",
                "a block with commands has to be a console block: {self:?}"
            );
            return Vec::new();
        }
        let kind = match (self.language.as_str(), self.marker.as_deref()) {
            ("console", None) => Kind::Compared,
            ("sh", None) => Kind::Run,
            ("sh", Some("server")) => Kind::Server,
            ("sh", Some("stopped")) => Kind::Stopped,
            (language, marker) => panic!("a {language} block cannot be marked {marker:?}"),
        };
        let mut steps: Vec<Step> = Vec::new();
        let mut in_command = false;
        for (number, line) in self.lines.iter().enumerate() {
            let first_line = self.first_line + number + 1;
            let command = match kind {
                Kind::Compared => line.strip_prefix("$ "),
                _ => Some(line.as_str()).filter(|line| !line.is_empty() && !line.starts_with('#')),
            };
            if in_command {
                let step = steps.last_mut().unwrap();
                step.command.push('\n');
                step.command.push_str(line);
                step.first_line = first_line;
                in_command = line.ends_with('\\');
            } else if let Some(command) = command {
                in_command = command.ends_with('\\');
                steps.push(Step {
                    kind,
                    command: command.to_owned(),
                    output: Vec::new(),
                    first_line,
                });
            } else if kind == Kind::Compared {
                let step = steps.last_mut().expect("a console block begins with `$ command`");
                step.output.push(line.trim_end().to_owned());
            }
        }
        let servers = usize::from(kind == Kind::Server);
        assert!(
            servers == 0 || steps.len() == 1,
            "more than one command: {self:?}"
        );
        steps
    }
}

/// Returns the commands of a document that run.
pub(crate) fn steps(text: &str) -> Vec<Step> {
    blocks(text).iter().flat_map(Block::steps).collect()
}

/// Returns the document with other outputs.
pub(crate) fn with_outputs(text: &str, steps: &[Step], outputs: &[Vec<String>]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (step, output) in steps.iter().zip(outputs).rev() {
        if step.kind == Kind::Compared {
            let shown = step.first_line..step.first_line + step.output.len();
            lines.splice(shown, output.iter().cloned());
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn a_document_has_steps_of_every_kind() {
    let text = "\
# Title

<!-- test: server -->
```sh
phone-identity serve
```

1. A list:

   ```sh
   # A comment.
   export A=1
   ```

<!-- test: not run: cluster -->
```sh
kubectl get pods
```

```console
$ echo a \\
    b
a b
$ true
```

<!-- test: stopped -->
```sh
rm file
```
";
    let steps = steps(text);
    let kinds: Vec<_> = steps.iter().map(|step| step.kind).collect();
    let expected = [
        Kind::Server,
        Kind::Run,
        Kind::Compared,
        Kind::Compared,
        Kind::Stopped,
    ];
    assert_eq!(kinds, expected);
    assert_eq!(steps[1].command, "export A=1");
    assert_eq!(steps[2].command, "echo a \\\n    b");
    assert_eq!(steps[2].output, ["a b"]);
    let other: Vec<Vec<String>> = [
        vec![],
        vec![],
        vec!["c".to_owned(), "d".to_owned()],
        vec![],
        vec![],
    ]
    .into();
    let changed = with_outputs(text, &steps, &other);
    assert_eq!(changed, text.replace("\na b\n", "\nc\nd\n"));
    assert_eq!(blocks(text)[2].not_run(), Some("cluster"));
}
