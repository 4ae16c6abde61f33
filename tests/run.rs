//! A node as a process: what it takes from the system, and how it ends.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);

/// A node that runs until it ends, or is killed with its test.
struct Node(Child);

impl Node {
    /// Runs `file`, with at most `files` open files to begin with.
    fn start(file: &Path, files: u32) -> Node {
        let program = env!("CARGO_BIN_EXE_tidegate");
        let line = format!("ulimit -Sn {files}; exec {program} run --config {}", file.display());
        Node(Command::new("sh").args(["-c", &line]).spawn().unwrap())
    }

    fn told(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(done.unwrap().success());
    }

    fn ended_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let mut status = None;
        holds_within(patience, || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn holds_within(patience: Duration, mut what: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + patience;
    while !what() {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// A configuration of one rule that listens on `listen`, with `more` rules behind it.
fn write(file: &Path, listen: u16, backend: u16, more: &str) {
    let text = format!(
        "shutdown_timeout: 100ms
admin: {{ listen: \"127.0.0.1:0\" }}
rules:
  - {{ listen: \"127.0.0.1:{listen}\", backends: [\"127.0.0.1:{backend}\"] }}
{more}"
    );
    fs::File::create(file).unwrap().write_all(text.as_bytes()).unwrap();
}

/// A port that nobody else has just now.
fn free() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn serves(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Soft and hard limit of open files of process `id`.
fn open_files(id: u32) -> Option<(u64, u64)> {
    let limits = fs::read_to_string(format!("/proc/{id}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut words = line.split_whitespace().map(|word| word.parse().unwrap_or(u64::MAX));
    Some((words.next()?, words.next()?))
}

#[test]
fn a_node_takes_all_the_descriptors_that_it_may_have() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lb.yaml");
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = free();
    write(&file, listen, backend.local_addr().unwrap().port(), "");
    let node = Node::start(&file, 256);
    assert!(holds_within(SOON, || serves(listen)), "it does not come up");
    let (soft, hard) = open_files(node.0.id()).unwrap();
    assert_eq!(soft, hard);
}

/// `kill -9` leaves no time to write anything.
#[test]
fn what_was_ordered_outlives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lb.yaml");
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let (listen, admin) = (free(), free());
    let text = format!(
        "admin: {{ listen: \"127.0.0.1:{admin}\" }}
rules: [{{ name: web, listen: \"127.0.0.1:{listen}\", backends: [\"{}\"] }}]
cluster: {{ bind_addr: \"127.0.0.1:0\", state_dir: ./state }}
",
        backend.local_addr().unwrap()
    );
    fs::write(&file, text).unwrap();
    let tidegate = |words: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(words.split_whitespace()).env("TIDEGATE_ADMIN", format!("127.0.0.1:{admin}"));
        let output = command.output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let mut node = Node::start(&file, 256);
    assert!(holds_within(SOON, || serves(listen)), "it does not come up");
    assert_eq!(tidegate("ban 203.0.113.7 --for 1h"), "203.0.113.7 is banned for 1h\n");
    let state = dir.path().join("state/state.json");
    let kept = || fs::read_to_string(&state).is_ok_and(|text| text.contains("203.0.113.7"));
    assert!(holds_within(SOON, kept), "it is not kept");
    node.told("-KILL");
    node.ended_within(SOON).expect("it lives on");

    let _node = Node::start(&file, 256);
    assert!(holds_within(SOON, || tidegate("bans").contains("203.0.113.7")), "it is forgotten");
    // A second process on the same directory says what is wrong, and ends.
    let other = dir.path().join("other.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace(&admin.to_string(), &free().to_string());
    fs::write(&other, text.replace(&listen.to_string(), &free().to_string())).unwrap();
    let said = tidegate(&format!("run --config {}", other.display()));
    assert!(said.contains("give each node a directory of its own"), "{said}");
}

#[test]
fn an_end_does_not_wait_for_a_reload_that_waits_for_checks() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lb.yaml");
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let backend = backend.local_addr().unwrap().port();
    let listen = free();
    write(&file, listen, backend, "");
    let mut node = Node::start(&file, 256);
    assert!(holds_within(SOON, || serves(listen)), "it does not come up");

    // It takes the check's connection and never answers.
    let dumb = TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!(
        "  - {{ listen: \"127.0.0.1:{}\", backends: [\"{}\"], health_check: {{ type: http, timeout: 1h }} }}
",
        free(),
        dumb.local_addr().unwrap()
    );
    write(&file, listen, backend, &more);
    node.told("-HUP");
    let _asked = dumb.accept().unwrap();
    node.told("-TERM");
    let ended = node.ended_within(SOON);
    assert!(ended.expect("it still waits for the check").success());
}

#[test]
fn a_running_node_takes_over_changed_keys_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (file, keys) = (dir.path().join("lb.yaml"), dir.path().join("cluster.keys"));
    let tidegate = |words: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(words.split_whitespace()).arg("--file").arg(&keys);
        assert!(command.status().unwrap().success(), "{words}");
    };
    tidegate("keys generate");
    let (listen, admin) = (free(), free());
    let text = format!(
        "admin: {{ listen: \"127.0.0.1:{admin}\" }}
rules:
  - {{ listen: \"127.0.0.1:{listen}\", backends: [\"127.0.0.1:1\"], health_check: {{ type: none }} }}
cluster: {{ bind_addr: \"127.0.0.1:0\", keys_file: ./cluster.keys }}
"
    );
    fs::write(&file, text).unwrap();
    let node = Node::start(&file, 256);
    assert!(holds_within(SOON, || serves(listen)), "it does not come up");
    let has = |keys: &str| {
        let mut members = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        members.args(["members", "--admin", &format!("http://127.0.0.1:{admin}")]);
        let shown = members.output().unwrap().stdout;
        String::from_utf8_lossy(&shown).lines().any(|line| line.ends_with(keys))
    };
    assert!(holds_within(SOON, || has("  1")), "the first key is not seen");
    tidegate("keys install");
    assert!(holds_within(SOON, || has("  1 2")), "the new key is not seen");
    tidegate("keys use 2");
    // A signal as well reads them again.
    node.told("-HUP");
    assert!(holds_within(SOON, || has("  2 1")), "the key in use is not seen");
}

/// A certificate of its own making for `localhost`, and its key.
fn certificate() -> [String; 2] {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    [made.cert.pem(), made.signing_key.serialize_pem()]
}

/// What `tidegate status` says of the node whose admin listens on `port`.
fn status(port: u16) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("status").env("TIDEGATE_ADMIN", format!("127.0.0.1:{port}"));
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn changed_certificates_are_seen_by_a_running_node() {
    let dir = tempfile::tempdir().unwrap();
    let [file, cert, key] = ["lb.yaml", "a.crt", "a.key"].map(|name| dir.path().join(name));
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let (listen, admin) = (free(), free());
    let [first, its_key] = certificate();
    fs::write(&cert, first).unwrap();
    fs::write(&key, its_key).unwrap();
    let text = format!(
        "admin: {{ listen: \"127.0.0.1:{admin}\" }}
rules: [{{ listen: \"127.0.0.1:{listen}\", backends: [\"{}\"], tls: {{ cert: a.crt, key: a.key }} }}]
",
        backend.local_addr().unwrap()
    );
    fs::write(&file, text).unwrap();
    let _node = Node::start(&file, 256);
    assert!(holds_within(SOON, || serves(listen)), "it does not come up");
    let told = |what: &str| status(admin).contains(what);
    let good = || told("ready ") && !told("are of no use");
    let [second, its_key] = certificate();
    fs::write(&cert, second).unwrap();
    let unfit = || told("a.key is not the key of");
    assert!(holds_within(SOON, unfit), "the new certificate was not seen:\n{}", status(admin));
    fs::write(&key, &its_key).unwrap();
    assert!(holds_within(SOON, good), "its key was not seen:\n{}", status(admin));
    fs::remove_file(&key).unwrap();
    let gone = || told("a.key cannot be read");
    assert!(holds_within(SOON, gone), "nobody noticed that it is gone:\n{}", status(admin));
    fs::write(&key, its_key).unwrap();
    assert!(holds_within(SOON, good), "it is there again:\n{}", status(admin));
}

#[test]
fn a_refused_configuration_is_taken_when_a_file_that_it_names_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lb.yaml");
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let backend = backend.local_addr().unwrap();
    let (plain, tls, admin) = (free(), free(), free());
    let first = format!(
        "admin: {{ listen: \"127.0.0.1:{admin}\" }}
rules:
  - {{ listen: \"127.0.0.1:{plain}\", backends: [\"{backend}\"] }}
"
    );
    fs::write(&file, &first).unwrap();
    let _node = Node::start(&file, 256);
    assert!(holds_within(SOON, || serves(plain)), "it does not come up");
    let more = format!(
        "  - {{ listen: \"127.0.0.1:{tls}\", backends: [\"{backend}\"], tls: {{ cert: a.crt, key: a.key }} }}
"
    );
    fs::write(&file, first + &more).unwrap();
    let refused = || status(admin).contains("a.crt cannot be read");
    assert!(holds_within(SOON, refused), "not refused:\n{}", status(admin));
    let [cert, key] = certificate();
    fs::write(dir.path().join("a.crt"), cert).unwrap();
    let still = || status(admin).contains("a.key cannot be read") && !refused();
    assert!(holds_within(SOON, still), "the certificate was not seen:\n{}", status(admin));
    fs::write(dir.path().join("a.key"), key).unwrap();
    assert!(holds_within(SOON, || serves(tls)), "not taken:\n{}", status(admin));
}
