//! From the file as written to the plan as meant: what the values mean together. Each check says
//! its fault at the field that should be mended.

mod authorization;
mod cluster;
mod limits;
mod listeners;
mod material;
mod originate;
mod rule;
mod tls;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::digest::digest;
use super::fault::{Fault, Wrong};
use super::file::{self, File, values};
use super::judge::Places;
use super::material::Shelf;
use super::plan::{AdminPlan, LogFormat, LogPlan, Plan};
use super::watches::Seen;
use crate::net::{Keepalive, TcpOptions};
use crate::proxy::{AccessLogFormat, AccessLogOutput, AccessLogPlan, RulePlan};

/// Where faults and warnings are put while the plan is made, and what was read for it.
pub(super) struct Findings<'a> {
    places: &'a Places,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
    /// Where relative paths begin.
    dir: &'a Path,
    shelf: Shelf,
    /// Files of which all that is to be warned of has been said.
    told: HashSet<PathBuf>,
    system_roots: Option<usize>,
}

impl Findings<'_> {
    fn fault(&mut self, field: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.faults.push(self.places.fault(field, Wrong::new(what, remedy)));
    }

    /// Only when none of `keys` was written: one that was refused has been said.
    fn fault_if_whole(&mut self, field: &str, keys: &[&str], what: &str, remedy: &str) {
        if !keys.iter().any(|key| self.places.has(&format!("{field}.{key}"))) {
            self.fault(field, what, remedy);
        }
    }

    /// Whether a certificate under `at` has its key, or there is neither.
    fn both_or_none(&mut self, at: &str, cert: bool, key: bool) -> bool {
        match (cert, key) {
            (true, false) => self.fault_if_whole(at, &["key"], "`cert` has no `key`", "add `key:`"),
            (false, true) => {
                self.fault_if_whole(at, &["cert"], "`key` has no `cert`", "add `cert:`");
            }
            _ => {}
        }
        cert == key
    }

    fn warn(&mut self, field: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.warnings.push(self.places.fault(field, Wrong::new(what, remedy)));
    }
}

/// What came of it.
pub(super) struct Outcome {
    /// It only counts when there are no faults.
    pub(super) plan: Plan,
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Fault>,
    /// Files that were read for it, or were to be.
    pub(super) seen: Seen,
}

/// Makes the plan. Relative paths are relative to `dir`, the directory of the file.
pub(super) fn plan(file: &File, places: &Places, dir: &Path) -> Outcome {
    let mut found = Findings {
        places,
        faults: Vec::new(),
        warnings: Vec::new(),
        dir,
        shelf: Shelf::default(),
        told: HashSet::new(),
        system_roots: None,
    };
    let tcp = tcp(&file.tcp);
    let cluster = file.cluster.as_ref().map(|cluster| cluster::plan(cluster, dir, &mut found));
    let trusted = values(&file.trusted_proxies);
    let rules = rule::plans(&file.rules, cluster.is_some(), tcp, &trusted, &mut found);
    let admin = admin(&file.admin, dir, &mut found);
    let sync = cluster.as_ref().map(|cluster| ("cluster.sync_addr", cluster.sync));
    let ours: Vec<_> = [("admin.listen", admin.listen)].into_iter().chain(sync).collect();
    listeners::check(&rules, &ours, &mut found);
    if !trusted.is_empty() && rules.iter().all(|(_, rule)| rule.proxy_from.is_none()) {
        let what = "nothing asks for it: no rule reads a PROXY header";
        let remedy = "write `proxy_protocol: { accept: true }` in a rule, or take it out";
        found.warn("trusted_proxies", what, remedy);
    }
    let plan = Plan {
        workers: file.workers.map_or_else(cores, |workers| workers as usize),
        shutdown_timeout: file.shutdown_timeout.0,
        drain_delay: file.drain_delay.0,
        log: LogPlan {
            level: file.log.level.clone(),
            format: match file.log.format {
                file::LogFormat::Text => LogFormat::Text,
                file::LogFormat::Json => LogFormat::Json,
            },
        },
        access_log: file.access_log.as_ref().and_then(|log| access_log(log, dir, &mut found)),
        admin,
        trusted_proxies: trusted,
        tcp,
        rules: rules.into_iter().map(|(_, rule)| in_binding_order(rule)).collect(),
        cluster,
        digest: digest(file),
    };
    let Findings { faults, warnings, shelf, .. } = found;
    Outcome { plan, faults, warnings, seen: shelf.seen }
}

/// IPv4 first: beside a `[::]` that hears both families, an IPv4 address can only be bound before.
fn in_binding_order(mut rule: RulePlan) -> RulePlan {
    rule.listen.sort_by_key(SocketAddr::is_ipv6);
    rule
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn tcp(tcp: &file::Tcp) -> TcpOptions {
    TcpOptions {
        nodelay: tcp.nodelay,
        keepalive: Keepalive {
            idle: tcp.keepalive.idle.0,
            interval: tcp.keepalive.interval.0,
            count: tcp.keepalive.count,
        },
        backlog: tcp.backlog,
        max_handshakes: tcp.max_handshakes,
    }
}

fn access_log(
    log: &file::AccessLog,
    dir: &Path,
    found: &mut Findings<'_>,
) -> Option<AccessLogPlan> {
    let output = match log.output.as_deref() {
        Some("stdout") => AccessLogOutput::Stdout,
        Some("off") => return None,
        Some(path) => AccessLogOutput::File(beside(dir, Path::new(path))),
        None => {
            let what = "is off, for it has no `output`";
            found.warn("access_log", what, "write `output: stdout` or a path");
            return None;
        }
    };
    let format = match log.format {
        file::AccessLogFormat::Json => AccessLogFormat::Json,
        file::AccessLogFormat::Text => AccessLogFormat::Text,
        file::AccessLogFormat::Combined => AccessLogFormat::Combined,
    };
    Some(AccessLogPlan { output, format })
}

fn admin(admin: &file::Admin, dir: &Path, found: &mut Findings<'_>) -> AdminPlan {
    let listen = admin.listen.0;
    let token = match &admin.token_file {
        Some(path) => {
            let path = beside(dir, path);
            found.shelf.seen.note(&path);
            let fault = |wrong: Wrong| found.fault("admin.token_file", wrong.what, wrong.remedy);
            token(&path).map_err(fault).ok()
        }
        None => None,
    };
    if admin.token_file.is_none() && !listen.ip().to_canonical().is_loopback() {
        let what = format!("{listen} can be reached from elsewhere and has no token");
        let remedy = format!("add `token_file:`, or listen on `127.0.0.1:{}`", listen.port());
        found.fault("admin.listen", what, remedy);
    }
    AdminPlan { listen, token }
}

/// Reads a token: one line, as it goes into an `Authorization` field.
fn token(path: &Path) -> Result<String, Wrong> {
    const LONGEST: u64 = 4096;
    let read = || -> std::io::Result<String> {
        use std::io::Read as _;
        let mut text = String::new();
        crate::base::file::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error| {
        let what = format!("{} cannot be read: {error}", path.display());
        Wrong::new(what, "write the path of a readable file, relative to this file")
    })?;
    let token = text.trim();
    if token.is_empty() {
        let what = format!("{} is empty", path.display());
        return Err(Wrong::new(
            what,
            "put a secret into it, for example of `openssl rand -hex 32`",
        ));
    }
    if text.len() as u64 > LONGEST || !token.bytes().all(|b| b.is_ascii_graphic()) {
        let what = format!("{} does not hold a token", path.display());
        let remedy = "put one line of at most 4096 printable ASCII characters without spaces there";
        return Err(Wrong::new(what, remedy));
    }
    Ok(token.to_owned())
}

fn beside(dir: &Path, path: &Path) -> PathBuf {
    // `join` keeps an absolute path as it is.
    dir.join(path.strip_prefix("./").unwrap_or(path))
}
