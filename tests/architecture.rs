//! Holds the floor plan of `docs/architecture.md`: imports only point down, rooms on one floor do
//! not know each other, the clock is read in one file, and `unsafe` stays in one room.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms by floor; a room sees only floors below its own.
const FLOORS: &[(&str, u8)] = &[
    ("base", 0),
    ("balance", 1),
    ("health", 1),
    ("traffic", 1),
    ("crdt", 1),
    ("net", 2),
    ("upstream", 3),
    ("cluster", 3),
    ("proxy", 4),
    ("config", 5),
    ("admin", 5),
    ("node", 6),
];

/// Wings that stand on different floors and still must not meet.
const NO_DOOR: &[(&str, &str)] = &[("proxy", "cluster")];

/// Rooms of pure decisions: no sockets, no runtime.
const PURE: &[&str] = &["balance", "health", "traffic", "crdt"];

#[test]
fn imports_only_point_down() {
    let floors: BTreeMap<&str, u8> = FLOORS.iter().copied().collect();
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(&own) = floors.get(source.room.as_str()) else { continue };
        for (line, other) in source.rooms_named() {
            let Some(&floor) = floors.get(other.as_str()) else { continue };
            let closed = NO_DOOR.contains(&(source.room.as_str(), other.as_str()));
            if other != source.room && (floor >= own || closed) {
                wrong
                    .push(format!("{}:{line}: {} must not know {other}", source.path, source.room));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that do not point down:\n{}", wrong.join("\n"));
}

#[test]
fn every_room_is_on_the_plan() {
    let known: Vec<&str> = FLOORS.iter().map(|(room, _)| *room).collect();
    for entry in fs::read_dir(src()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let file = ["lib.rs", "main.rs", "cli.rs"].contains(&name.as_str());
        assert!(file || known.contains(&name.as_str()), "src/{name} is on no floor");
    }
}

#[test]
fn pure_rooms_know_no_runtime_and_no_socket() {
    forbid(
        |source| PURE.contains(&source.room.as_str()),
        &["tokio::", "std::net::Tcp", "std::net::Udp", "std::thread::spawn", "std::fs"],
    );
}

#[test]
fn only_one_file_reads_a_clock() {
    forbid(
        |source| source.path != "src/base/time.rs",
        &["Instant::now()", "SystemTime::now()", "UNIX_EPOCH"],
    );
}

#[test]
fn unsafe_stays_in_one_room() {
    forbid(|source| source.room != "net", &["unsafe {", "unsafe fn", "unsafe impl"]);
}

/// Fails with every line outside tests that holds one of `words` in a file that `judged` names.
fn forbid(judged: impl Fn(&Source) -> bool, words: &[&str]) {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| judged(source)) {
        for (number, line) in source.code() {
            for word in words.iter().filter(|word| line.contains(*word)) {
                wrong.push(format!("{}:{number}: `{word}`", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "not here:\n{}", wrong.join("\n"));
}

struct Source {
    path: String,
    room: String,
    text: String,
}

impl Source {
    /// Numbered lines of code: no comments, nothing behind `#[cfg(test)]` at the end of a file.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line))
            .take_while(|(_, line)| *line != "#[cfg(test)]")
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Rooms that the code names, as `crate::room` or inside `crate::{room, …}`.
    fn rooms_named(&self) -> Vec<(usize, String)> {
        let mut named = Vec::new();
        let mut open_braces = None;
        for (number, line) in self.code() {
            let mut rest = line;
            while let Some(at) = rest.find("crate::") {
                rest = &rest[at + "crate::".len()..];
                if let Some(inner) = rest.strip_prefix('{') {
                    open_braces = Some(1);
                    rest = inner;
                    break;
                }
                named.push((number, word(rest).to_owned()));
            }
            // A braced list of rooms may run over several lines.
            if let Some(depth) = &mut open_braces {
                let mut start = true;
                for (at, byte) in rest.bytes().enumerate() {
                    match byte {
                        b'{' => *depth += 1,
                        b'}' => *depth -= 1,
                        b',' => start = *depth == 1,
                        b' ' => {}
                        _ if start && *depth == 1 => {
                            named.push((number, word(&rest[at..]).to_owned()));
                            start = false;
                        }
                        _ => {}
                    }
                }
                if *depth <= 0 {
                    open_braces = None;
                }
            }
        }
        named
    }
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut open = vec![src()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let inside = path.strip_prefix(src()).unwrap();
                // Files of tests may use whatever they need.
                if inside.file_name().is_some_and(|name| name == "tests.rs")
                    || inside.components().any(|part| part.as_os_str() == "tests")
                {
                    continue;
                }
                found.push(Source {
                    path: format!("src/{}", inside.display()),
                    room: inside.components().next().unwrap().as_os_str().to_string_lossy().into(),
                    text: fs::read_to_string(&path).unwrap(),
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 10, "the sources were not found");
    found
}

#[test]
fn a_list_of_rooms_is_read_whole() {
    let source = Source {
        path: "src/net/x.rs".into(),
        room: "net".into(),
        text:
            "use crate::{base::{Drain, View},\n    proxy, upstream::Pool};\nuse crate::node::Node;"
                .into(),
    };
    let rooms: Vec<String> = source.rooms_named().into_iter().map(|(_, room)| room).collect();
    assert_eq!(rooms, ["base", "proxy", "upstream", "node"]);
}
