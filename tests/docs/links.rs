//! The documents form one book: every link leads to a file and a heading that exist, and `SUMMARY.md` lists every page.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::{bless, is_blessing, read, root};

/// Adds all Markdown files below a folder.
fn add_documents(folder: &str, paths: &mut BTreeSet<String>) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().into_string().unwrap());
        if entry.path().is_dir() {
            add_documents(&path, paths);
        } else if path.ends_with(".md") {
            paths.insert(path);
        }
    }
}

/// Returns the lines outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_block = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_block ^= is_fence;
        !in_block && !is_fence
    })
}

/// Returns the targets of all links of a document that lead to files of the repository.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    // A link can continue on the next line.
    let text = prose(text).collect::<Vec<_>>().join(" ");
    let mut rest = text.as_str();
    while let Some((_, after)) = rest.split_once("](") {
        let (link, after) = after.split_once(')').unwrap();
        if !link.contains("://") {
            links.push(link.to_owned());
        }
        rest = after;
    }
    links
}

/// Returns the anchors of the headings, as GitHub and mdbook make them.
fn anchors(text: &str) -> HashSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let title = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// Returns the path without `.` and `..`.
fn normalised(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => assert!(normal.pop(), "{}", path.display()),
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut documents: BTreeSet<String> = fs::read_dir(root())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| name.ends_with(".md"))
        .collect();
    add_documents("docs", &mut documents);
    let (mut broken, mut count) = (Vec::new(), 0);
    for document in documents {
        let text = read(&document);
        for link in links(&text) {
            count += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => document.clone(),
                file => {
                    let folder = Path::new(&document).parent().unwrap();
                    normalised(&folder.join(file)).to_str().unwrap().to_owned()
                }
            };
            let exists = root().join(&target).exists();
            if !exists || (!anchor.is_empty() && !anchors(&read(&target)).contains(anchor)) {
                broken.push(format!("{document}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
    assert!(count > 100, "only {count} links were found");
}

/// The last part of the summary.
const DECISIONS: &str = "# Decisions\n\n";

#[test]
fn the_summary_lists_every_decision() {
    let mut pages = BTreeSet::new();
    add_documents("docs/decisions", &mut pages);
    let list: String = pages
        .iter()
        .map(|page| {
            let text = read(page);
            let title = text.lines().next().unwrap().trim_start_matches("# ");
            format!("- [{title}]({})\n", page.trim_start_matches("docs/"))
        })
        .collect();
    let replace = |text: &str| {
        let (before, _) = text.split_once(DECISIONS).unwrap();
        format!("{before}{DECISIONS}{list}")
    };
    if is_blessing() {
        return bless("docs/SUMMARY.md", replace);
    }
    let text = read("docs/SUMMARY.md");
    assert!(
        text == replace(&text),
        "docs/SUMMARY.md should end with this (DOCS_BLESS=1 writes it):\n{list}"
    );
}

#[test]
fn the_summary_lists_every_page() {
    let mut pages = BTreeSet::new();
    add_documents("docs", &mut pages);
    pages.remove("docs/SUMMARY.md");
    let listed: Vec<String> = links(&read("docs/SUMMARY.md"))
        .into_iter()
        .map(|link| format!("docs/{link}"))
        .collect();
    let set: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), set.len(), "SUMMARY.md lists a page twice");
    assert_eq!(set, pages);
}
