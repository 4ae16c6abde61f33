//! The examples in the documentation.

use std::fs;
use std::path::Path;

/// What keys of a file, or of a rule, are shown for.
const RULE: &str =
    "rules:\n  - name: example\n    listen: \"0.0.0.0:8080\"\n    backends: [\"127.0.0.1:8081\"]\n";

/// The configurations that a page shows: line, and the whole file.
pub(crate) fn examples(page: &Path) -> Vec<(usize, String)> {
    let of = |(line, kind, block): (usize, String, String)| Some((line, whole(&kind, &block)?));
    blocks(page).into_iter().filter_map(of).collect()
}

/// The fenced YAML blocks of a page: line, the word behind `yaml`, text.
fn blocks(page: &Path) -> Vec<(usize, String, String)> {
    let text = fs::read_to_string(page).unwrap_or_default();
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String, String)> = None;
    for (i, line) in text.lines().enumerate() {
        match &mut open {
            None => {
                if let Some(word) = line.strip_prefix("```yaml") {
                    open = Some((i + 1, word.trim().to_owned(), String::new()));
                }
            }
            Some(_) if line == "```" => blocks.extend(open.take()),
            Some((_, _, block)) => *block += &format!("{line}\n"),
        }
    }
    assert!(open.is_none(), "{}: a block is not closed", page.display());
    blocks
}

/// A whole file; `yaml top` shows keys of the file, `yaml rule` keys of a rule. `None`: it is other YAML,
/// of a compose file say.
fn whole(kind: &str, block: &str) -> Option<String> {
    match kind {
        "" => block.lines().any(|line| line.starts_with("rules:")).then(|| block.to_owned()),
        "top" => Some(format!("{RULE}{block}")),
        "rule" => {
            Some(block.lines().fold(RULE.to_owned(), |text, line| text + "    " + line + "\n"))
        }
        other => panic!("unknown kind of block: {other}"),
    }
}
