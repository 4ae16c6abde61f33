//! What every test stands on: whose turn it is, what the machine lacks, waiting for a state with a
//! deadline, and running a tool with one.

pub(crate) mod backend;
pub(crate) mod certs;
pub(crate) mod host;
pub(crate) mod line;
pub(crate) mod load;
pub(crate) mod node;
pub(crate) mod openssl;
pub(crate) mod server;
pub(crate) mod tls_client;
pub(crate) mod trio;

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The program under test, wherever it is started from.
pub(crate) fn binary() -> PathBuf {
    let named = std::env::var_os("TIDEGATE_BIN").map(PathBuf::from);
    let path = named.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_tidegate")));
    std::path::absolute(&path).unwrap_or(path)
}

/// The repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What a test may need besides the program.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// To make namespaces and to enter others'.
    Root,
    /// A program on the path, with the Debian package that has it.
    Tool(&'static str, &'static str),
    /// A docker daemon that answers.
    Docker,
    /// A program under test that runs in an image from scratch.
    StaticBinary,
}

impl Need {
    /// What to say when it is not there.
    fn lacking(self) -> Option<String> {
        match self {
            Need::Root => {
                // SAFETY: geteuid has no preconditions and cannot fail.
                let root = unsafe { libc::geteuid() } == 0;
                (!root).then(|| "root".into())
            }
            Need::Tool(tool, package) => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let found = std::env::split_paths(&path).any(|dir| dir.join(tool).is_file());
                (!found).then(|| format!("{tool} (apt install {package})"))
            }
            Need::Docker => {
                let answers = try_run(Command::new("docker").arg("info"), Duration::from_secs(20))
                    .is_some_and(|output| output.status.success());
                (!answers).then(|| "a docker daemon that answers `docker info`".into())
            }
            Need::StaticBinary => (!is_static(&binary())).then(|| {
                "a static binary in TIDEGATE_BIN (RUSTFLAGS=\"-C target-feature=+crt-static\" \
                 cargo build --release --target x86_64-unknown-linux-gnu)"
                    .into()
            }),
        }
    }
}

/// Whether an ELF file asks for no loader (has no PT_INTERP program header).
fn is_static(file: &Path) -> bool {
    let Ok(elf) = std::fs::read(file) else { return false };
    let number = |at: usize, bytes: usize| -> Option<usize> {
        let part = elf.get(at..at.checked_add(bytes)?)?;
        Some(part.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    };
    let headers = || {
        let (first, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        (0..count).map(|index| number(first + index * size, 4)).collect::<Option<Vec<_>>>()
    };
    elf.starts_with(b"\x7fELF\x02\x01") && headers().is_some_and(|kinds| !kinds.contains(&3))
}

/// Held while a test runs: they take turns.
pub(crate) struct Turn(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

/// Waits for the test's turn. `None`: something it needs is not here, which was said; with
/// `TIDEGATE_E2E_REQUIRE=1` that is a failure.
pub(crate) fn turn(needs: &[Need]) -> Option<Turn> {
    static TURNS: Mutex<()> = Mutex::new(());
    let turn = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    let lacking: Vec<String> = needs.iter().filter_map(|need| need.lacking()).collect();
    if lacking.is_empty() {
        return Some(Turn(turn));
    }
    let name = thread::current().name().unwrap_or("test").to_owned();
    let what = format!("{name}: needs {}", lacking.join(", "));
    assert!(std::env::var_os("TIDEGATE_E2E_REQUIRE").is_none(), "{what}");
    // Written past the capture of the test runner: a skipped test must not look like a passed one.
    let _ = writeln!(io::stdout(), "SKIPPED {what}");
    None
}

/// A line of what was measured, past the test runner's capture.
pub(crate) fn report(line: &str) {
    let _ = writeln!(io::stdout(), "    {line}");
}

/// Asks `state` every few milliseconds until it answers, and how long that took.
///
/// # Panics
/// When `limit` has passed, with `what`.
#[track_caller]
pub(crate) fn until<T>(
    what: &str,
    limit: Duration,
    mut state: impl FnMut() -> Option<T>,
) -> (T, Duration) {
    let start = Instant::now();
    loop {
        if let Some(reached) = state() {
            return (reached, start.elapsed());
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a tool to its end.
///
/// # Panics
/// When it cannot be started, fails or takes longer than `limit`, with all it said.
#[track_caller]
pub(crate) fn run(command: &mut Command, limit: Duration) -> String {
    let shown = format!("{command:?}");
    let output = try_run(command, limit).unwrap_or_else(|| panic!("not within {limit:?}: {shown}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{shown}: {}\n{said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

/// Runs a tool to its end; `None` when it cannot be started or took longer than `limit` and was killed.
pub(crate) fn try_run(command: &mut Command, limit: Duration) -> Option<Output> {
    try_run_on(command, Stdio::null(), limit)
}

/// The same, with something to read.
pub(crate) fn try_run_on(command: &mut Command, stdin: Stdio, limit: Duration) -> Option<Output> {
    let mut child =
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().ok()?;
    let pid = child.id();
    let (done, ended) = std::sync::mpsc::channel::<()>();
    // Kills it at the deadline, unless `done` is dropped first.
    let guard = thread::spawn(move || {
        let late = ended.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if late {
            signal(pid, libc::SIGKILL);
        }
        late
    });
    let stderr = child.stderr.take();
    let errors = thread::spawn(move || {
        let mut text = Vec::new();
        stderr.map(|mut pipe| io::Read::read_to_end(&mut pipe, &mut text));
        text
    });
    let mut stdout = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        let _ = io::Read::read_to_end(&mut pipe, &mut stdout);
    }
    // The child is reaped only after the guard is gone, so that its pid cannot be another's by then.
    let stderr = errors.join().unwrap_or_default();
    drop(done);
    let late = guard.join().unwrap_or(true);
    let status = child.wait().ok()?;
    (!late).then_some(Output { status, stdout, stderr })
}

/// Sends a signal; a process that is gone already is no fault.
pub(crate) fn signal(pid: u32, signal: i32) {
    // SAFETY: kill takes plain numbers; a pid that is gone gives an error, which is fine here.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// A port that is free on `ip` for TCP and UDP, below the range the kernel gives to clients, so that
/// no outgoing connection takes it before its owner binds it.
pub(crate) fn free_port(ip: IpAddr) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 18_000;
    // Where to begin differs between runs that overlap.
    let offset = (std::process::id() % 180) as u16 * 100;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let address = SocketAddr::new(ip, FIRST + (offset + step) % COUNT);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address.port();
        }
    }
    panic!("no free port on {ip}");
}
