//! No input makes loading panic, run away, or accept what it should not.

use std::time::Instant;

use proptest::prelude::*;

use super::*;

const PAGE: &str = include_str!("../../../docs/configuration.md");

/// The longest example of the page: the contract's, without what comes later; it shows every key.
pub(super) fn reference() -> String {
    let blocks = PAGE.split("```yaml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    blocks.max_by_key(|block| block.len()).unwrap().to_owned() + "\n"
}

fn finishes(text: &str) {
    // Faults or none: only that it ends, and that what it says can be printed.
    if let Err(faults) = read_text(text) {
        assert!(!faults.is_empty() && !faults.to_string().is_empty());
    }
}

#[test]
fn huge_and_deep_files_are_refused_in_a_moment() {
    let began = Instant::now();
    for text in [
        "[".repeat(1 << 20),
        "{a: ".repeat(1 << 18),
        "- ".repeat(1 << 19),
        "a: [".repeat(1 << 18),
        "x,".repeat(1 << 19),
        format!("rules: [{}]", "a,".repeat(1 << 18)),
        format!("rules:\n{}", "  - {}\n".repeat(1 << 16)),
        (0..1 << 16).map(|i| format!("key{i}: {i}\n")).collect(),
        format!("a: {}\n", "&a ".repeat(1 << 10)),
        format!("name: \"{}\"\n", "\\x41".repeat(1 << 17)),
        "? ".repeat(1 << 18),
        "\n".repeat(1 << 20),
        "\t".repeat(1 << 20),
        "#".repeat(1 << 20),
        "'".repeat(1 << 19),
        "a:\n ".repeat(1 << 17),
        "!".repeat(1 << 19),
        "%YAML 1.2\n".repeat(1 << 14),
        "|\n".repeat(1 << 18),
    ] {
        bad(&text);
    }
    // Slow machines and debug builds included; without the bounds it is minutes.
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}|[-a-z0-9:{}\\[\\],&*!|>'\"%@`#?~\n\t ]{0,200}") {
        finishes(&text);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lb.yaml");
        std::fs::write(&file, bytes).unwrap();
        prop_assert!(load(&file).is_err());
    }

    #[test]
    fn no_change_to_a_good_file_makes_it_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..40, EDIT), 1..6),
    ) {
        let mut text: Vec<char> = reference().chars().collect();
        for (at, cut, put) in edits {
            let at = at.index(text.len());
            let end = (at + cut).min(text.len());
            text.splice(at..end, put.chars());
        }
        finishes(&text.iter().collect::<String>());
    }

    #[test]
    fn any_value_under_any_key_is_judged_not_crashed_on(
        key in prop::sample::select(keys(schema::FILE, &mut Vec::new())),
        value in "\\PC{0,20}|-?[0-9]{1,25}(\\.[0-9]{1,5})?(ms|s|m|h|KiB|GiB|%)?|\\[[a-z0-9,]{0,9}\\]|\\{[a-z]{0,5}: [0-9]{1,3}\\}",
    ) {
        // The key's line of the reference, with another value.
        let text: String = reference()
            .lines()
            .map(|line| match line.split_once(&format!("{key}: ")) {
                Some((before, _)) if before.trim().is_empty() => format!("{before}{key}: {value}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        finishes(&text);
    }
}

const EDIT: &str = "\\PC{0,6}|[-:{}\\[\\],&*!|>'\"%#?\n\t ]{0,4}|: |\n  - |null|[0-9]{1,22}";

/// Every key of this version under `section`.
pub(super) fn keys(
    section: &'static [schema::Key],
    found: &mut Vec<&'static str>,
) -> Vec<&'static str> {
    fn below(kind: &'static schema::Kind, found: &mut Vec<&'static str>) {
        match kind {
            schema::Kind::List(item) | schema::Kind::OneOrMore(item) => below(item, found),
            schema::Kind::Section(section)
            | schema::Kind::Short(section)
            | schema::Kind::TextOr(_, section) => {
                keys(section, found);
            }
            _ => {}
        }
    }
    for key in section {
        if let schema::Is::Optional(kind) | schema::Is::Required(kind) | schema::Is::Listed(kind) =
            &key.is
        {
            found.push(key.name);
            below(kind, found);
        }
    }
    found.clone()
}
