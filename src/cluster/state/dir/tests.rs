use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::base::{Actor, BootId};
use crate::cluster::acts::Stamp;

fn saved() -> Saved {
    let peers = [("10.0.0.2:9090".parse().unwrap(), 4_000_000_000_000)].into();
    Saved {
        node: NodeId(7),
        state: State { generation: 1_800_000_000_000, peers },
        acts: Vec::new(),
    }
}

fn files(path: &Path) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(path).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn what_was_kept_is_read_again_and_is_for_its_owner_alone() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("made/for/it");
    let dir = Dir::open(&path).unwrap();
    assert_eq!(dir.read(), None);
    dir.write(&saved()).unwrap();
    dir.write(&saved()).unwrap();
    assert_eq!(dir.read(), Some(saved()));
    assert_eq!(files(&path), ["lock", "state.json"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path.join(FILE)), mode(&path.join(LOCK))), (0o600, 0o600));
    let text = fs::read_to_string(path.join(FILE)).unwrap();
    assert!(text.contains("\"node_id\": \"0000000000000007\""), "{text}");
}

#[test]
fn a_directory_serves_one_node_at_a_time() {
    let home = tempfile::tempdir().unwrap();
    let first = Dir::open(home.path()).unwrap();
    let refused = Dir::open(home.path()).unwrap_err().to_string();
    assert!(refused.contains("used by another running node"), "{refused}");
    drop(first);
    Dir::open(home.path()).unwrap();
}

#[test]
fn a_damaged_file_is_set_aside_and_the_node_begins_without_it() {
    let whole = String::from_utf8(encode(&saved()).unwrap()).unwrap();
    for bad in [
        "".to_owned(),
        "{".to_owned(),
        whole[..whole.len() / 2].to_owned(),
        whole.replace("\"version\": 1", "\"version\": 2"),
        whole.replace("0000000000000007", "seven"),
        whole.replace("0000000000000007", "0000000000000000"),
        whole.replace("10.0.0.2:9090", "nowhere"),
        "\0".repeat(4096),
    ] {
        let home = tempfile::tempdir().unwrap();
        let dir = Dir::open(home.path()).unwrap();
        fs::write(home.path().join(FILE), &bad).unwrap();
        assert_eq!(dir.read(), None, "{bad}");
        let files = files(home.path());
        assert_eq!(files.len(), 2, "{files:?}");
        assert!(files[1].starts_with("state.json.damaged-"), "{files:?}");
        assert_eq!(fs::read_to_string(home.path().join(&files[1])).unwrap(), bad);
        dir.write(&saved()).unwrap();
        assert_eq!(dir.read(), Some(saved()));
    }
}

#[test]
fn what_a_later_version_added_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let dir = Dir::open(home.path()).unwrap();
    let text = String::from_utf8(encode(&saved()).unwrap()).unwrap();
    fs::write(home.path().join(FILE), text.replace("\"peers\"", "\"later\": [1], \"peers\""))
        .unwrap();
    assert_eq!(dir.read(), Some(saved()));
}

#[test]
fn a_write_that_was_cut_short_leaves_the_old_file() {
    let home = tempfile::tempdir().unwrap();
    let dir = Dir::open(home.path()).unwrap();
    dir.write(&saved()).unwrap();
    fs::write(home.path().join(BESIDE), "{ half").unwrap();
    assert_eq!(dir.read(), Some(saved()));
    dir.write(&saved()).unwrap();
    assert_eq!(files(home.path()), ["lock", "state.json"]);
}

fn ban(left_ms: Option<u64>) -> Row {
    let writer = Actor { node: NodeId(3), boot: BootId::new(0) };
    let (by, keep_ms) = ("n1".to_owned(), left_ms.map(|left| left + 1000));
    let stamp = Stamp { version: 5, writer, by, left_ms, keep_ms };
    Row::Ban(BanRow { client: "203.0.113.7/32".to_owned(), cut: Some(false), stamp })
}

/// The file as it would be had it been written `ago_ms` earlier.
fn aged(path: &Path, ago_ms: u64) {
    let text = fs::read_to_string(path.join(FILE)).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let saved = value["saved_ms"].as_u64().unwrap();
    value["saved_ms"] = (saved - ago_ms).into();
    fs::write(path.join(FILE), value.to_string()).unwrap();
}

#[test]
fn a_bans_time_goes_on_while_the_node_is_down_and_not_when_the_clock_is_set_back() {
    const HOUR: u64 = 3_600_000;
    let home = tempfile::tempdir().unwrap();
    let dir = Dir::open(home.path()).unwrap();
    let kept = |row: Row, ago_ms: u64| {
        dir.write(&Saved { acts: vec![row], ..saved() }).unwrap();
        aged(home.path(), ago_ms);
        dir.read().unwrap().acts
    };
    let left = kept(ban(Some(HOUR)), HOUR / 3)[0].stamp().left_ms.unwrap();
    assert!((HOUR * 2 / 3 - 20_000..=HOUR * 2 / 3).contains(&left), "{left}");
    assert_eq!(kept(ban(Some(HOUR)), 2 * HOUR)[0].stamp().left_ms, Some(0));
    assert_eq!(kept(ban(None), 2 * HOUR)[0].stamp().left_ms, None);
    // Written in the future: the clock was set back.
    dir.write(&Saved { acts: vec![ban(Some(HOUR))], ..saved() }).unwrap();
    let text = fs::read_to_string(home.path().join(FILE)).unwrap();
    let text = text.replace("\"saved_ms\": 1", "\"saved_ms\": 9");
    fs::write(home.path().join(FILE), text).unwrap();
    assert_eq!(dir.read().unwrap().acts[0].stamp().left_ms, Some(HOUR));
}

#[test]
fn acts_that_were_kept_for_longer_than_lifted_ones_are_remembered_are_not_brought_back() {
    let home = tempfile::tempdir().unwrap();
    let dir = Dir::open(home.path()).unwrap();
    dir.write(&Saved { acts: vec![ban(None)], ..saved() }).unwrap();
    aged(home.path(), MEMORY.as_millis() as u64 + 1000);
    let found = dir.read().unwrap();
    assert_eq!((found.acts.len(), found.node), (0, NodeId(7)));
}
