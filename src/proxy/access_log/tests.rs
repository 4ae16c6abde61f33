use std::fs;

use super::*;
use crate::base::{BackendAddr, ClientAddr, ListenAddr};
use crate::proxy::plan::AccessLogFormat;
use crate::proxy::{Outcome, Reason, Side};

fn record(reason: Reason, backend: Option<&str>) -> Record {
    Record {
        ended_ms: 1_795_233_600_123,
        rule: "we\"b".into(),
        client: ClientAddr("192.0.2.7:5000".parse().unwrap()),
        listener: ListenAddr("[::1]:8080".parse().unwrap()),
        backend: backend.map(|addr| BackendAddr(addr.parse().unwrap())),
        handshake: Duration::from_micros(2500),
        wait: Duration::ZERO,
        connect: Duration::from_micros(1_234),
        total: Duration::from_millis(90_000),
        up: 12,
        down: 3_456,
        attempts: 2,
        outcome: Outcome::new(reason, Side::Client),
        secured: None,
    }
}

fn denied() -> Record {
    let secured = Secured {
        version: Some("TLSv1.3"),
        server_name: Some("db.example.com".into()),
        identity: Some("client \"a\"".into()),
        denied_by: Some("client*-deny-10.0.0.1:81".into()),
        fault: None,
    };
    Record { secured: Some(Box::new(secured)), ..record(Reason::NotAuthorized, None) }
}

fn text(format: AccessLogFormat, record: &Record) -> String {
    let mut out = Vec::new();
    format::line(format, record, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_json_line_says_everything_and_is_json() {
    let told = text(AccessLogFormat::Json, &record(Reason::Ok, Some("10.0.0.1:81")));
    assert!(told.ends_with("}\n"));
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let wanted = serde_json::json!({
        "time": "2026-11-21T04:00:00.123Z", "rule": "we\"b", "client": "192.0.2.7:5000",
        "listener": "[::1]:8080", "backend": "10.0.0.1:81", "wait_ms": 0.0, "connect_ms": 1.234,
        "total_ms": 90000.0, "bytes_up": 12, "bytes_down": 3456, "attempts": 2, "reason": "ok",
        "side": "client", "tls": null, "server_name": null, "identity": null, "denied_by": null,
        "fault": null, "handshake_ms": 2.5,
    });
    assert_eq!(told, wanted);
    let none = text(AccessLogFormat::Json, &record(Reason::NoBackend, None));
    assert!(serde_json::from_str::<serde_json::Value>(&none).unwrap()["backend"].is_null());
}

#[test]
fn a_text_line_is_read_by_people_and_cut() {
    let told = text(AccessLogFormat::Text, &record(Reason::RateLimited, None));
    assert_eq!(
        told,
        "time=2026-11-21T04:00:00.123Z rule=\"we\\\"b\" client=192.0.2.7:5000 \
         listener=[::1]:8080 backend=- wait_ms=0.000 connect_ms=1.234 total_ms=90000.000 \
         bytes_up=12 bytes_down=3456 attempts=2 reason=rate_limited side=client tls=- server_name=- identity=- denied_by=- fault=- handshake_ms=2.500\n"
    );
}

#[test]
fn a_line_says_who_was_denied_what_and_by_which_rule() {
    let told = text(AccessLogFormat::Json, &denied());
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["tls"], "TLSv1.3");
    assert_eq!(told["server_name"], "db.example.com");
    assert_eq!(told["identity"], "client \"a\"");
    assert_eq!(told["denied_by"], "client*-deny-10.0.0.1:81");
    let told = text(AccessLogFormat::Text, &denied());
    let wanted = "tls=TLSv1.3 server_name=\"db.example.com\" identity=\"client \\\"a\\\"\" \
                  denied_by=\"client*-deny-10.0.0.1:81\" fault=- handshake_ms=2.500\n";
    assert!(told.ends_with(wanted), "{told}");
    let told = text(AccessLogFormat::Combined, &denied());
    assert!(told.contains(" - client__a_ [21/Nov/2026:04:00:00 +0000] "), "{told}");
    assert!(told.contains(" 403 "), "{told}");
}

#[test]
fn a_combined_line_is_read_by_web_log_tools() {
    let told = text(AccessLogFormat::Combined, &record(Reason::RateLimited, None));
    assert_eq!(
        told,
        "192.0.2.7 - - [21/Nov/2026:04:00:00 +0000] \"TCP [::1]:8080\" 429 3456 \"-\" \
         \"rate_limited\"\n"
    );
}

#[test]
fn dates_are_right_around_leap_days_and_years() {
    for (days, wanted) in [
        (0, "1970-01-01"),
        (11_016, "2000-02-29"),
        (11_017, "2000-03-01"),
        (19_722, "2023-12-31"),
        (19_723, "2024-01-01"),
        (19_782, "2024-02-29"),
    ] {
        let mut told = record(Reason::Ok, None);
        told.ended_ms = days * 86_400_000;
        let line = text(AccessLogFormat::Text, &told);
        assert!(line.starts_with(&format!("time={wanted}T00:00:00.000Z ")), "{line}");
    }
}

fn file_log(dir: &tempfile::TempDir) -> (Arc<AccessLog>, std::path::PathBuf) {
    let path = dir.path().join("access.log");
    let plan = AccessLogPlan {
        output: AccessLogOutput::File(path.clone()),
        format: AccessLogFormat::Text,
    };
    (AccessLog::open(&plan).unwrap(), path)
}

#[test]
fn closing_waits_until_everything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (log, path) = file_log(&dir);
    for _ in 0..1000 {
        log.tell(record(Reason::Ok, None));
    }
    drop(log);
    assert_eq!(fs::read_to_string(path).unwrap().lines().count(), 1000);
}

#[test]
fn a_rotated_file_is_reopened_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let (log, path) = file_log(&dir);
    let moved = dir.path().join("access.log.1");
    fs::rename(&path, &moved).unwrap();
    log.reopen();
    log.tell(record(Reason::Ok, None));
    drop(log);
    assert_eq!(fs::read_to_string(path).unwrap().lines().count(), 1);
    assert_eq!(fs::read_to_string(moved).unwrap().lines().count(), 0);
}

#[test]
fn a_writer_that_cannot_keep_up_costs_lines_and_not_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    let (read, write) = io::pipe().unwrap();
    // A pipe that nobody reads stands for a disk that hangs.
    let plan = AccessLogPlan { output: AccessLogOutput::File(path), format: AccessLogFormat::Text };
    let desk = Arc::new(Desk::default());
    let output = File::from(std::os::fd::OwnedFd::from(write));
    let writer = Writer::start(&desk, &plan, output).unwrap();
    let log = AccessLog { plan, desk, writer: Mutex::new(Some(writer)) };
    const TOLD: u64 = 3 * MOST_WAITING as u64;
    for _ in 0..TOLD {
        log.tell(record(Reason::Ok, None));
    }
    let dropped = log.dropped();
    assert!(dropped >= TOLD - 2 * MOST_WAITING as u64 && dropped < TOLD, "{dropped} dropped");
    // The writer meets a broken pipe and ends.
    drop(read);
    drop(log);
}

#[test]
fn an_output_that_nobody_reads_holds_up_neither_start_nor_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let output = AccessLogOutput::File(path);
        let log = AccessLog::open(&AccessLogPlan { output, format: AccessLogFormat::Json });
        let log = log.unwrap();
        // More than a pipe holds.
        for _ in 0..10_000 {
            log.tell(record(Reason::Ok, None));
        }
        drop(log);
        tell.send(()).unwrap();
    });
    told.recv_timeout(PARTING * 10).unwrap();
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let plan = AccessLogPlan {
        output: AccessLogOutput::File("/nowhere/at/all.log".into()),
        format: AccessLogFormat::Json,
    };
    let error = AccessLog::open(&plan).unwrap_err().to_string();
    assert!(error.contains("/nowhere/at/all.log"), "{error}");
}
