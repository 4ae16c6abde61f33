//! Nodes: `tidegate run` in processes of their own, each with a configuration in a directory of its
//! own, asked through its admin listener.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::host::Host;
use super::{binary, free_port, signal, until};

/// How long a node may take to be ready, or a test to wait for anything that has no promise of its own.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A running node, killed on drop; when a test fails, its log is shown.
pub(crate) struct Node {
    child: Child,
    pub(crate) host: Host,
    pub(crate) name: String,
    directory: TempDir,
    pub(crate) admin: SocketAddr,
    body: String,
}

impl Node {
    /// Starts a node with the given rules, cluster and whatever else (all but `admin`), and waits
    /// until it is ready.
    pub(crate) fn start(host: Host, name: &str, body: &str) -> Node {
        let node = Node::launch(host, name, body);
        node.wait_ready();
        node
    }

    /// Starts a node and does not wait.
    pub(crate) fn launch(host: Host, name: &str, body: &str) -> Node {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let admin = SocketAddr::new(ip, host.inside(|| free_port(ip)));
        let directory = tempfile::Builder::new().prefix("tidegate-e2e-").tempdir().unwrap();
        let config = directory.path().join("lb.yaml");
        fs::write(&config, with_admin(admin, body)).unwrap();
        let child = spawn(&host, &directory);
        Node { child, host, name: name.into(), directory, admin, body: body.into() }
    }

    /// The configuration's file.
    pub(crate) fn config(&self) -> PathBuf {
        self.directory.path().join("lb.yaml")
    }

    /// What it was last told, without `admin`.
    pub(crate) fn body(&self) -> &str {
        &self.body
    }

    /// Writes the configuration in place.
    pub(crate) fn rewrite(&mut self, body: &str) {
        self.body = body.into();
        fs::write(self.config(), with_admin(self.admin, body)).unwrap();
    }

    /// Puts a new file in the old one's place by rename, as editors do.
    pub(crate) fn replace(&mut self, body: &str) {
        self.body = body.into();
        let new = self.directory.path().join(".lb.yaml.new");
        fs::write(&new, with_admin(self.admin, body)).unwrap();
        fs::rename(new, self.config()).unwrap();
    }

    pub(crate) fn signal(&self, number: i32) {
        signal(self.child.id(), number);
    }

    /// As `kill -9`, and reaped.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again with the same configuration, and does not wait.
    pub(crate) fn relaunch(&mut self) {
        self.kill();
        self.child = spawn(&self.host, &self.directory);
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self, limit: Duration) -> (ExitStatus, Duration) {
        let what = format!("{} ends", self.name);
        let child = &mut self.child;
        until(&what, limit, || child.try_wait().unwrap())
    }

    #[track_caller]
    pub(crate) fn wait_ready(&self) -> Duration {
        let what = format!("{} is ready", self.name);
        until(&what, SOON, || (self.get("/readyz")?.0 == 200).then_some(())).1
    }

    /// Asks the admin listener: status and body; `None` when it does not answer.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        self.host.inside(|| get(self.admin, path))
    }

    /// A view of the admin listener; [`Value::Null`] when it does not answer.
    pub(crate) fn view(&self, name: &str) -> Value {
        view(&self.host, self.admin, name)
    }

    /// Every member's state by name, as this node sees it; empty when it does not answer.
    pub(crate) fn members(&self) -> BTreeMap<String, String> {
        members(&self.view("members"))
    }

    /// Whether this node sees exactly these members alive, whoever else it remembers.
    pub(crate) fn sees_alive(&self, names: &[&str]) -> bool {
        let members = self.members();
        members.values().filter(|state| *state == "alive").count() == names.len()
            && names.iter().all(|name| members.get(*name).is_some_and(|state| state == "alive"))
    }

    /// What it says of a member.
    pub(crate) fn sees(&self, name: &str) -> String {
        self.members().get(name).cloned().unwrap_or_default()
    }

    /// One metric's value: the sum of all its lines whose labels hold every given `key="value"`.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let (_, text) = self.get("/metrics")?;
        let values = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let ours = series.strip_prefix(name)?;
            let whole = ours.is_empty() || ours.starts_with('{');
            (whole && labels.iter().all(|label| ours.contains(label)))
                .then(|| value.parse().ok())?
        });
        let values: Vec<f64> = values.collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// What all its threads have used of processors since it started.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Behind the name in brackets: the 14th and 15th field, in ticks.
        let behind = stat.rsplit_once(')').unwrap().1;
        let fields: Vec<&str> = behind.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        // SAFETY: sysconf takes a plain number and has no other preconditions.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as u64;
        Duration::from_millis(ticks * 1000 / per_second)
    }

    /// How its threads of this name are scheduled: their nice value, once each.
    pub(crate) fn nice_of(&self, thread: &str) -> Vec<i32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let stats =
            tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
        let named = stats.filter_map(|stat| {
            let (name, behind) = stat.rsplit_once(')')?;
            let ours = name.split_once('(')?.1 == thread;
            ours.then(|| behind.split_whitespace().nth(16)?.parse().ok())?
        });
        named.collect()
    }

    /// Everything it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(30)..].join("\n");
            println!("--- {}, end of its log:\n{tail}", self.name);
        }
    }
}

fn with_admin(admin: SocketAddr, body: &str) -> String {
    format!("admin: {{ listen: \"{admin}\" }}\n{body}")
}

fn spawn(host: &Host, directory: &TempDir) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(directory.path().join("log"))
        .expect("the log can be written");
    host.inside(|| {
        Command::new(binary())
            .args(["run", "--config", "lb.yaml"])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", binary().display()))
    })
}

/// One view of a node that is asked from inside its host.
pub(crate) fn view(host: &Host, admin: SocketAddr, name: &str) -> Value {
    let answer = host.inside(|| get(admin, &format!("/api/v1/{name}")));
    let Some((200, body)) = answer else { return Value::Null };
    serde_json::from_str(&body).unwrap_or_default()
}

/// Every member's state by name.
pub(crate) fn members(view: &Value) -> BTreeMap<String, String> {
    let members = view["members"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    members.map(|member| (text(&member["name"]), text(&member["state"]))).collect()
}

/// Asks over HTTP: status and body.
fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    // A frozen node accepts and says nothing.
    let patience = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body.to_owned()))
}
