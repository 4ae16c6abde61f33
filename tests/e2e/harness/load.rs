//! Clients that ask again and again, and a record of every request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::host::Host;

/// How long a client waits for anything.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of one request.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Which of the load's targets was asked.
    pub(crate) target: usize,
    /// When it began.
    pub(crate) start: Instant,
    /// The backend that answered, or what went wrong.
    pub(crate) result: Result<String, String>,
}

/// Asks over a fresh connection; the answer is the backend's name.
pub(crate) fn ask(address: SocketAddr, path: &str) -> Result<String, String> {
    let wrong = |what: &str, error: std::io::Error| format!("{what}: {error}");
    let mut stream =
        TcpStream::connect_timeout(&address, PATIENCE).map_err(|e| wrong("connect", e))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|e| wrong("set", e))?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(|e| wrong("set", e))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|e| wrong("write", e))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|e| wrong("read", e))?;
    let answer = String::from_utf8_lossy(&answer);
    if answer.is_empty() {
        return Err("closed without an answer".into());
    }
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("half an answer")?;
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    };
    if !head.starts_with("HTTP/1.1 200") {
        return Err(head.lines().next().unwrap_or_default().to_owned());
    }
    if field("content-length").is_some_and(|length| length.parse() != Ok(body.len())) {
        return Err("half a body".into());
    }
    Ok(field("x-backend").ok_or("no backend's name")?.to_owned())
}

/// Clients at work until [`Load::stop`], or until dropped.
pub(crate) struct Load {
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Record>>>,
}

impl Load {
    /// `clients` for each target, each asking every `pace` (or as fast as answers come when they
    /// take longer).
    pub(crate) fn start(targets: &[(Host, SocketAddr)], clients: usize, pace: Duration) -> Load {
        let over = Arc::new(AtomicBool::new(false));
        let client = |target: usize, phase: Duration| {
            let ((host, address), over) = (targets[target].clone(), Arc::clone(&over));
            thread::spawn(move || {
                host.enter();
                let mut records = Vec::new();
                let mut next = Instant::now() + phase;
                while !over.load(Ordering::Relaxed) {
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                    let start = Instant::now();
                    let result = ask(address, "/");
                    records.push(Record { target, start, result });
                    next = (next + pace).max(Instant::now() - pace);
                }
                records
            })
        };
        let all = targets.len() * clients;
        let clients = (0..all)
            // Spread over one pace: a herd of clients would measure the herd.
            .map(|index| client(index % targets.len(), pace * index as u32 / all as u32))
            .collect();
        Load { over, clients }
    }

    /// Ends the load.
    pub(crate) fn stop(mut self) -> Records {
        self.end()
    }

    fn end(&mut self) -> Records {
        self.over.store(true, Ordering::Relaxed);
        let records =
            self.clients.drain(..).flat_map(|client| client.join().unwrap_or_default()).collect();
        Records(records)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

/// All requests of a load.
pub(crate) struct Records(Vec<Record>);

impl Records {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn answered(&self) -> usize {
        self.0.iter().filter(|record| record.result.is_ok()).count()
    }

    /// Good answers of one target.
    pub(crate) fn answered_by(&self, target: usize) -> usize {
        self.0.iter().filter(|record| record.target == target && record.result.is_ok()).count()
    }

    /// Those that began between two moments.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> impl Iterator<Item = &Record> {
        self.0.iter().filter(move |record| (from..to).contains(&record.start))
    }

    /// Requests that one target's clients began.
    pub(crate) fn of(&self, target: usize) -> usize {
        self.0.iter().filter(|record| record.target == target).count()
    }

    /// Failures: when after `since`, at which target, what.
    pub(crate) fn failures(&self, since: Instant) -> Vec<String> {
        let failed = self.0.iter().filter_map(|record| {
            let what = record.result.as_ref().err()?;
            let at = record.start.saturating_duration_since(since).as_secs_f64();
            Some(format!("{at:.3} s: target {}: {what}", record.target))
        });
        failed.collect()
    }

    /// Asserts that nobody saw a failure, and that there was load on every target at all.
    #[track_caller]
    pub(crate) fn assert_flawless(&self, since: Instant, targets: usize) {
        let failures = self.failures(since);
        assert!(
            failures.is_empty(),
            "{} of {} requests failed:\n{}",
            failures.len(),
            self.len(),
            failures.join("\n")
        );
        for target in 0..targets {
            assert!(self.of(target) > 10, "no load on target {target}: the test shows nothing");
        }
    }
}
