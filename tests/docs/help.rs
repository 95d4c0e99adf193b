//! Parser of what `--help` prints.

/// The help of a command.
pub(crate) struct Help {
    pub(crate) about: String,
    pub(crate) usage: String,
    /// The names of the subcommands.
    pub(crate) commands: Vec<String>,
    /// The entries by the title of their section.
    sections: Vec<(String, Vec<Entry>)>,
}

/// An argument, an option or a setting.
#[derive(Default)]
pub(crate) struct Entry {
    /// The flag or the argument with the name of its value.
    pub(crate) name: String,
    pub(crate) environment: String,
    /// The default as Markdown.
    pub(crate) default: Option<String>,
    /// The short help, and the further paragraphs of the long help.
    paragraphs: Vec<String>,
    values: Vec<String>,
}

impl Help {
    pub(crate) fn parse(text: &str) -> Self {
        let (about, rest) = text.split_once("\n\nUsage: ").expect(text);
        let (usage, rest) = rest.split_once('\n').unwrap();
        let mut help = Self {
            about: about.to_owned(),
            usage: usage.to_owned(),
            commands: Vec::new(),
            sections: Vec::new(),
        };
        let mut section = String::new();
        for line in rest.lines().filter(|line| !line.trim().is_empty()) {
            let indent = line.len() - line.trim_start().len();
            let line = line.trim();
            if indent == 0 {
                line.trim_end_matches(':').clone_into(&mut section);
                help.sections.push((section.clone(), Vec::new()));
            } else if section == "Commands" {
                help.commands.extend(line.split(' ').next().map(str::to_owned));
            } else {
                let entries = &mut help.sections.last_mut().expect(line).1;
                if indent < 10 {
                    let name = line.split_once(", ").map_or(line, |(_, long)| long);
                    entries.push(Entry {
                        name: name.to_owned(),
                        ..Entry::default()
                    });
                } else {
                    entries.last_mut().expect(line).add(line);
                }
            }
        }
        help.commands.retain(|command| command != "help");
        help
    }

    /// Returns the entries of a section, without those that every command has.
    pub(crate) fn section(&self, title: &str) -> impl Iterator<Item = &Entry> {
        let sections = self.sections.iter().filter(move |(name, _)| name == title);
        let entries = sections.flat_map(|(_, entries)| entries);
        entries.filter(|entry| !["--help", "--version"].contains(&entry.flag()))
    }
}

impl Entry {
    /// Adds a line below the name.
    fn add(&mut self, line: &str) {
        let inside = |prefix: &str| Some(line.strip_prefix(prefix)?.strip_suffix(']')?.to_owned());
        if let Some(environment) = inside("[env: ") {
            environment
                .trim_end_matches('=')
                .clone_into(&mut self.environment);
        } else if let Some(default) = inside("[default: ") {
            self.default = Some(format!("`{}`", default.replace(' ', ",")));
        } else if let Some(values) = inside("[possible values: ") {
            self.values
                .extend(values.split(", ").map(|value| format!("`{value}`")));
        } else if let Some((value, _)) = line.strip_prefix("- ").and_then(|line| line.split_once(':')) {
            self.values.push(format!("`{value}`"));
        } else if let Some((meaning, default)) = line.split_once(" [default: ") {
            self.add(meaning);
            let default = default.trim_end_matches(']');
            self.default = Some(match default.contains(' ') {
                true => default.to_owned(),
                false => format!("`{default}`"),
            });
        } else if line != "Possible values:" {
            self.paragraphs.push(line.trim_end_matches('.').to_owned());
        }
    }

    /// Returns the flag without the name of its value.
    pub(crate) fn flag(&self) -> &str {
        self.name.split([' ', '[']).next().unwrap_or_default()
    }

    /// Returns the meaning, with the possible values after its first paragraph.
    pub(crate) fn meaning_and_values(&self) -> String {
        let mut paragraphs = self.paragraphs.clone();
        if let Some(first) = paragraphs.first_mut().filter(|_| !self.values.is_empty()) {
            first.push_str(&format!(": {}", self.values.join(", ")));
        }
        paragraphs.join(". ")
    }
}
