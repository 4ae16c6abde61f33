//! The commands as they are typed: what they print and how they exit, against a listener that
//! plays a node's admin side.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

const MEMBERS: &str = r#"{"self":"n1","members":[{"name":"n1","address":"10.0.0.1:9090","state":"alive","self":true,"config_digest":"ab12cd34ef","node_id":"1","boot_id":"2","version":"0.1.0","since_s":61.5}]}
"#;

/// Answers every request with `status` and `body`; tells the first request it got.
fn node(status: &'static str, body: String) -> (SocketAddr, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = Vec::new();
            let mut some = [0; 1024];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut some) {
                    Ok(read) if read > 0 => request.extend_from_slice(&some[..read]),
                    _ => break,
                }
            }
            // And the body that the head promises.
            let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
            let promised = text.split("content-length: ").nth(1);
            let promised = promised.and_then(|rest| rest.split("\r\n").next()?.parse().ok());
            let head = text.find("\r\n\r\n").map_or(0, |end| end + 4);
            while request.len() < head + promised.unwrap_or(0usize) {
                match stream.read(&mut some) {
                    Ok(read) if read > 0 => request.extend_from_slice(&some[..read]),
                    _ => break,
                }
            }
            let _ = tell.send(String::from_utf8(request).unwrap());
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    (address, heard)
}

fn tidegate(words: &str, address: SocketAddr) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(words.split_whitespace());
    command.env("TIDEGATE_ADMIN", format!("http://{address}")).env_remove("TIDEGATE_TOKEN_FILE");
    command
}

fn run(words: &str, address: SocketAddr) -> Output {
    tidegate(words, address).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_view_is_a_table_or_the_very_json_of_the_node() {
    let (address, _heard) = node("200 OK", MEMBERS.to_owned());
    let table = run("members", address);
    assert!(table.status.success());
    let want = [
        "   NAME  ADDRESS        STATE   FOR  VERSION  CONFIG",
        "*  n1    10.0.0.1:9090  alive  1m1s  0.1.0    ab12cd34",
        "",
    ];
    assert_eq!(text(&table.stdout), want.join("\n"));
    let json = run("members --format json", address);
    assert!(json.status.success());
    assert_eq!(text(&json.stdout), MEMBERS);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_fault() {
    // More than a pipe holds, so that the write meets the closed end.
    let body = MEMBERS.trim_end().to_owned() + &" ".repeat(1 << 20) + "\n";
    let (address, _heard) = node("200 OK", body);
    let mut child = tidegate("members --format json", address)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(said, "");
}

#[test]
fn the_token_is_read_from_its_file_and_sent() {
    let (address, heard) = node("202 Accepted", "{\"leaving\":true}\n".to_owned());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    let output = tidegate("leave", address).env("TIDEGATE_TOKEN_FILE", &file).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let request = heard.recv().unwrap().to_ascii_lowercase();
    assert!(request.starts_with("post /api/v1/leave http/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: bearer s3cret\r\n"), "{request}");
    assert!(request.contains(&format!("host: {address}\r\n")), "{request}");
}

#[test]
fn an_order_is_sent_as_it_is_typed_and_its_answer_is_said() {
    for (words, path, body) in [
        (
            "ban 203.0.113.7 --for 10m --cut",
            "/api/v1/bans",
            r#"{"client":"203.0.113.7","cut":true,"for":"10m","wide":false}"#,
        ),
        ("unban 203.0.113.0/24", "/api/v1/bans/lift", r#"{"client":"203.0.113.0/24"}"#),
        ("drain 10.0.0.7:80", "/api/v1/backends/drain", r#"{"backend":"10.0.0.7:80","rule":null}"#),
        (
            "undrain app.internal:80 --rule web",
            "/api/v1/backends/undrain",
            r#"{"backend":"app.internal:80","rule":"web"}"#,
        ),
        (
            "backend add --rule web 10.0.0.9:80 --weight 2",
            "/api/v1/backends/add",
            r#"{"backend":"10.0.0.9:80","rule":"web","weight":2}"#,
        ),
        (
            "backend remove 10.0.0.9:80",
            "/api/v1/backends/remove",
            r#"{"backend":"10.0.0.9:80","rule":null}"#,
        ),
        (
            "backend weight --rule web 10.0.0.9:80 3",
            "/api/v1/backends/weight",
            r#"{"backend":"10.0.0.9:80","rule":"web","weight":3}"#,
        ),
    ] {
        let (address, heard) = node("200 OK", "{\"done\":\"it is done\"}\n".to_owned());
        let output = run(words, address);
        assert!(output.status.success(), "{words}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "it is done\n", "{words}");
        let request = heard.recv().unwrap();
        assert!(request.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{words}: {request}");
        assert!(request.ends_with(body), "{words}: {request}");
    }
}

#[test]
fn an_order_that_is_denied_exits_1_with_the_nodes_words() {
    let denied = r#"{"error":"no backend 10.0.0.7:80 here; there are: 10.0.0.8:80 (web)"}"#;
    let (address, _heard) = node("404 Not Found", denied.to_owned());
    let output = run("drain 10.0.0.7:80", address);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("there are: 10.0.0.8:80 (web)"));
    assert!(output.stdout.is_empty());
}

#[test]
fn health_exits_as_the_node_feels() {
    let (ready, _heard) = node("200 OK", r#"{"ready":true,"reasons":[]}"#.to_owned());
    // A token that cannot be read is no reason: probes never need it.
    let health = tidegate("health", ready).env("TIDEGATE_TOKEN_FILE", "/nowhere").output().unwrap();
    assert!(health.status.success(), "{}", text(&health.stderr));
    let body = r#"{"ready":false,"reasons":["draining"]}"#.to_owned();
    let (draining, _heard) = node("503 Service Unavailable", body);
    let health = run("health", draining);
    assert_eq!(health.status.code(), Some(1));
    assert!(text(&health.stderr).contains("is not ready: draining"));
}

#[test]
fn what_cannot_be_done_is_told_with_its_exit_code() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (words, code, told) in [
        ("members", 1, "start one with `tidegate run`"),
        ("health", 1, "start one with `tidegate run`"),
        ("status --token-file /nowhere", 1, "cannot read the token /nowhere"),
        ("status --admin https://node1", 2, "write `http://host:port`"),
        ("members --format yaml", 2, "[possible values: table, json]"),
        ("fly", 2, "unrecognized subcommand"),
    ] {
        let output = run(words, free);
        assert_eq!(output.status.code(), Some(code), "{words}");
        let said = text(&output.stderr);
        assert!(said.contains(told), "{words}: {said}");
        assert!(output.stdout.is_empty(), "{words}");
    }
}

#[test]
fn keys_are_made_changed_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cluster.keys");
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let keys = |words: &str| {
        let line = format!("keys {words} --file {}", file.display());
        let done = run(&line, nobody);
        (done.status.code(), text(&done.stdout).to_owned() + text(&done.stderr))
    };
    let (code, said) = keys("list");
    assert!(code == Some(1) && said.contains("cannot be read"), "{said}");
    let (code, said) = keys("generate");
    assert!(code == Some(0) && said.contains("key 1 ("), "{said}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let before = std::fs::read_to_string(&file).unwrap();
    let (code, said) = keys("generate");
    assert!(code == Some(1) && said.contains("not overwritten"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);

    assert_eq!(keys("install").0, Some(0));
    let (code, said) = keys("remove 1");
    assert!(code == Some(1) && said.contains("seals"), "{said}");
    let (code, said) = keys("use 9");
    assert!(code == Some(1) && said.contains("no key 9"), "{said}");
    assert_eq!((keys("use 0").0, keys("use").0), (Some(2), Some(2)));
    let (code, said) = keys("use 2");
    assert!(code == Some(0) && said.contains("tidegate keys remove 1"), "{said}");
    let (code, listed) = keys("list");
    assert!(code == Some(0) && listed.contains("seals and opens"), "{listed}");
    assert_eq!(listed.lines().count(), 3);
    let ring = std::fs::read_to_string(&file).unwrap();
    for secret in ring.lines().filter_map(|line| line.strip_prefix("key ")?.split(' ').nth(1)) {
        assert!(!listed.contains(&secret[..8]) && secret.len() == 64);
    }
    assert_eq!(keys("remove 1").0, Some(0));
    let salt = |text: &str| text.lines().find(|line| line.starts_with("salt")).map(str::to_owned);
    let after = std::fs::read_to_string(&file).unwrap();
    assert_eq!(salt(&after), salt(&before));

    // Another machine takes the new key over from a copy.
    let other = dir.path().join("other.keys");
    std::fs::write(&other, &before).unwrap();
    let line = format!("keys install --file {} --from {}", other.display(), file.display());
    let done = run(&line, nobody);
    assert!(done.status.success() && text(&done.stdout).contains("key 2 ("));
}

#[test]
fn a_machine_without_authorities_is_pointed_out_where_they_would_be_asked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lb.yaml");
    let rule = "rules: [{ listen: \"127.0.0.1:80\", backends: [\"app:443\"], backend_tls: {} }]\n";
    std::fs::write(&file, rule).unwrap();
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let check = || tidegate(&format!("check --config {}", file.display()), nobody);
    let done =
        check().env("SSL_CERT_FILE", "/nowhere").env_remove("SSL_CERT_DIR").output().unwrap();
    let said = text(&done.stdout);
    assert!(done.status.success(), "{said}");
    assert!(said.contains("rules[0].backend_tls: this machine has no certificate auth"), "{said}");
    assert!(said.contains("name one in `ca:`"), "{said}");
    assert!(said.contains("1 backend; TLS to the backends\n"), "{said}");
}

/// What `tidegate check` of `file` says, and whether it is content, when `input` comes on a pipe; it must end.
fn checked(file: &str, input: &str) -> (bool, String) {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut check = tidegate("check --config", nobody);
    let mut child = check.arg(file).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // Dropped with the statement: the pipe ends.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        if std::time::Instant::now() > until {
            child.kill().unwrap();
            panic!("the check of {file} does not end");
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    (output.status.success(), text(&output.stdout).to_owned())
}

#[test]
fn what_is_no_file_is_a_fault_and_holds_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let (fine, said) = checked(fifo.to_str().unwrap(), "");
    assert!(!fine && said.contains("cannot be read: it is a FIFO, not a regular file"), "{said}");

    let good = "rules: [{ listen: \"127.0.0.1:80\", backends: [\"app:80\"] }]\n";
    let (fine, said) = checked("/dev/stdin", good);
    assert!(fine, "a pipe of the shell is read: {said}");

    let bad = "admin: { token_file: fifo }
cluster: { keys_file: fifo }
rules:
  - { listen: \"127.0.0.1:80\", backends: [\"app:80\"], backend_tls: { ca: fifo },
      tls: { cert: /dev/null, key: fifo, client_ca: ., client_crl: fifo } }
  - { listen: \"127.0.0.1:81\", backends: [\"app:80\"], backend_tls: { pinned_cert: fifo } }
";
    let file = dir.path().join("lb.yaml");
    std::fs::write(&file, bad).unwrap();
    let (fine, said) = checked(file.to_str().unwrap(), "");
    assert!(!fine);
    for (place, kind) in [
        ("admin.token_file", "FIFO"),
        ("cluster.keys_file", "FIFO"),
        ("rules[0].backend_tls.ca", "FIFO"),
        ("rules[0].tls.cert", "device"),
        ("rules[0].tls.client_ca", "directory"),
        ("rules[0].tls.client_crl", "FIFO"),
        ("rules[1].backend_tls.pinned_cert", "FIFO"),
    ] {
        let fault = said.lines().find(|line| line.contains(&format!(" {place}: ")));
        let words = format!("it is a {kind}, not a regular file; write the path of a ");
        assert!(fault.is_some_and(|line| line.contains(&words)), "{place}: {said}");
    }
}

#[test]
fn certificates_are_made_and_never_overwritten_and_a_configuration_takes_them() {
    let dir = tempfile::tempdir().unwrap();
    let certs = |words: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.arg("certs").args(words.split_whitespace()).current_dir(dir.path());
        let done = command.output().unwrap();
        (done.status.code(), text(&done.stdout).to_owned() + text(&done.stderr))
    };
    let (code, said) = certs("--clients 2 --server-name localhost db.example.com --days 30");
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("certs/server.crt  server.key  for localhost, db.example.com\n"),
        "{said}"
    );
    assert!(said.contains("certs/client.b.crt"), "{said}");
    assert!(!said.contains("client.c"), "{said}");
    let before = std::fs::read(dir.path().join("certs/ca.key")).unwrap();
    let (code, said) = certs("");
    assert!(code == Some(1) && said.contains("nothing was overwritten"), "{said}");
    assert_eq!(certs("--wrong-ca").0, Some(0));
    assert!(dir.path().join("certs/wrong/client.a.crt").exists());
    assert_eq!(std::fs::read(dir.path().join("certs/ca.key")).unwrap(), before);

    let file = dir.path().join("lb.yaml");
    let rule = "rules: [{ name: web, listen: \"127.0.0.1:8443\", backends: [\"127.0.0.1:1\"], tls: { \
        cert: certs/server.crt, key: certs/server.key, client_ca: certs/ca.crt, client_crl: certs/ca.crl } }]";
    std::fs::write(&file, rule).unwrap();
    let check =
        run(&format!("check --config {}", file.display()), SocketAddr::from(([127, 0, 0, 1], 1)));
    let said = text(&check.stdout);
    assert!(said.contains("TLS ends here (1 certificate, clients must show theirs)"), "{said}");
    assert!(said.contains("0 warnings"), "{said}");

    let (code, said) = certs("--dir bare --clients 0");
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("tidegate client --certs bare --connect "),
        "who is there to come as? {said}"
    );
}

/// A running `tidegate backend-server`, and what it says.
struct Backend {
    child: Child,
    said: BufReader<ChildStdout>,
    address: String,
}

impl Backend {
    fn start() -> Backend {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["backend-server", "--listen", "127.0.0.1:0", "--name", "b"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        said.read_line(&mut first).unwrap();
        let address = first.trim_start_matches("backend b listens on ");
        let address = address.split(' ').next().unwrap().to_owned();
        Backend { child, said, address }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_client_and_a_backend_say_what_passes_between_them_and_the_client_sums_up() {
    let mut backend = Backend::start();
    let words =
        format!("client --plain --id me --connect {} --count 3 --interval 1ms", backend.address);
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(words.split_whitespace())
        .output()
        .unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    for number in 1..=3 {
        let reply = format!("Reply from upstream b: hello {number} from me\n");
        assert!(said.contains(&reply), "{said}");
    }
    assert!(said.contains("  sent        3\n  replies     3\n    3 from b\n"), "{said}");
    assert!(said.contains("  refusals    0\n"), "{said}");
    let mut told = String::new();
    while !told.contains("closed after 3 lines") {
        assert!(backend.said.read_line(&mut told).unwrap() > 0, "{told}");
    }
    assert!(told.contains(" says: hello 2 from me\n"), "{told}");
}

#[test]
fn a_client_and_a_backend_that_cannot_begin_say_why_with_an_exit_code() {
    let taken = Backend::start();
    let dir = tempfile::tempdir().unwrap();
    let listening = format!("backend-server --listen {}", taken.address);
    let refused: [(&str, i32, &str); 9] = [
        ("client --plain --count 1 --connect 127.0.0.1:1", 1, "no reply came"),
        (
            "client --certs nope --connect localhost:1",
            1,
            "there is no nope/ca.crt; `tidegate certs --dir nope` makes it",
        ),
        ("client --connect localhost", 2, "`localhost` has no port"),
        ("client --connect localhost:1 --interval 3s..1s", 2, "the second time is the shorter one"),
        ("client --connect localhost:1 --cert a.crt", 2, "--key <FILE>"),
        (&listening, 1, "cannot listen on 127.0.0.1:"),
        ("backend-server --cert nope.crt --key nope.key", 1, "nope.crt cannot be read: "),
        ("backend-server --cert nope.crt", 2, "--key <FILE>"),
        ("backend-server --http --echo", 2, "cannot be used with"),
    ];
    for (words, code, what) in refused {
        let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(words.split_whitespace())
            .current_dir(dir.path())
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words}: {said}");
        assert!(said.contains(what), "{words}: {said}");
    }
}
