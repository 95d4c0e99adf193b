//! The reference of the command line, compared with the help of every command.

use std::process::Command;

use crate::help::Help;
use crate::server::BINARY;
use crate::tables::{Table, assert_generated};

#[test]
fn the_commands_are_those_of_the_help() {
    let mut commands = Vec::new();
    visit(&mut Vec::new(), &mut commands);
    let mut overview = Table::new(&["Command", "Meaning"]);
    let mut options = String::new();
    for (command, help) in &commands {
        let name = format!("`{command}`");
        overview.row(&name, &[&name], &help.about);
        let mut table = Table::new(&["Argument or option", "Default", "Meaning"]);
        let mut is_empty = true;
        for entry in help.section("Arguments").chain(help.section("Options")) {
            let name = format!("`{}`", entry.name.replace('|', "\\|"));
            let default = entry.default.as_deref().unwrap_or_default();
            table.row(&name, &[&name, default], &entry.meaning_and_values());
            is_empty = false;
        }
        if !is_empty {
            let table = table.finish();
            options.push_str(&format!("\n### {command}\n\n`{}`\n\n{table}", help.usage));
        }
    }
    let content = format!("{}\n## Options of the commands\n{options}", overview.finish());
    assert_generated("docs/reference/cli.md", "commands", &content);
}

/// Adds the help of all commands without subcommands below this one.
fn visit(path: &mut Vec<String>, commands: &mut Vec<(String, Help)>) {
    let output = Command::new(BINARY)
        .args(&*path)
        .arg("--help")
        .env_clear()
        .output()
        .unwrap();
    let help = Help::parse(&String::from_utf8(output.stdout).unwrap());
    for command in &help.commands {
        path.push(command.clone());
        visit(path, commands);
        path.pop();
    }
    if help.commands.is_empty() {
        commands.push((path.join(" "), help));
    }
}
