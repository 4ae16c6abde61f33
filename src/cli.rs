//! What can be typed. Exit codes: 0, 1 for a configuration or start-up fault and for a node that
//! does not answer or is not ready, 2 for wrong usage.

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::de::DeserializeOwned;
use serde_json::json;
use tidegate::admin::client::DEFAULT_URL;
use tidegate::admin::orders::Kind;
use tidegate::admin::{Client, Target, TargetError, tables};
use tidegate::base::file::open_typed;
use tidegate::base::{Endpoint, drain_signal};
use tidegate::cluster::keyring::KeyId;
use tidegate::net::tls::{CertificateFiles, Terminator};
use tidegate::node::backend_server::{self, Backend, Mode};
use tidegate::node::certs::{self, Wanted};
use tidegate::node::client::{self, Credentials};
use tidegate::node::{self, keys};

/// A container's health check must be done before its own timeout, often 3 s.
const HEALTH_PATIENCE: Duration = Duration::from_secs(2);

/// A load balancer that comes as a cluster.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: ConfigArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node (what happens when no command is given)
    Run(ConfigArgs),
    /// Check a configuration and show every fault
    Check(ConfigArgs),
    /// Three nodes and three backends on this machine, to try things
    Demo,
    /// The cluster's members as a node sees them
    Members(ViewArgs),
    /// Backends, their health and who voted how
    Backends(ViewArgs),
    /// Rate limits and what they admitted and refused
    Limits(ViewArgs),
    /// Rules and their traffic
    Rules(ViewArgs),
    /// One node: ready, configuration, gossip
    Status(ViewArgs),
    /// Refuse connections of a client, on every node
    Ban(BanArgs),
    /// Lift a ban, on every node
    Unban(UnbanArgs),
    /// Who is banned
    Bans(ViewArgs),
    /// Send a backend no new connections; live ones go on
    Drain(AboutArgs),
    /// Take a drained backend in again
    Undrain(AboutArgs),
    /// Change a rule's backends on every node, until a reload changes that very backend
    #[command(subcommand)]
    Backend(BackendCommand),
    /// Exit 0 when the node is alive and ready, 1 with the reason otherwise (for containers)
    Health(AdminArgs),
    /// Have a node leave its cluster, drain and stop
    Leave(NodeArgs),
    /// The cluster's keys, by which gossip is sealed
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Certificates to try things: an authority, a server, clients, and some that must be refused
    Certs(CertsArgs),
    /// A small named backend, to try things: prints every line that comes, and answers it
    BackendServer(BackendArgs),
    /// Send a line now and then and print what becomes of it; ends with a summary. Exits 1 when no
    /// reply came
    Client(ClientArgs),
}

/// To rotate: install a new key on every node, use it on every node, remove the old one on every
/// node. Running nodes see the changed file by themselves.
#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a new file with one key; never overwrites one
    Generate(KeysFile),
    /// Show the keys by name and fingerprint
    List(KeysFile),
    /// Add a new key, or those of another file, that opens and does not seal yet
    Install {
        #[command(flatten)]
        at: KeysFile,
        /// Take the keys of this file instead of making one
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Have a key seal
    Use(KeysChange),
    /// Remove a key that does not seal
    Remove(KeysChange),
}

#[derive(Args, Clone, Debug)]
struct KeysFile {
    /// The keys, as `cluster.keys_file` names them
    #[arg(long, value_name = "FILE", default_value = "cluster.keys")]
    file: PathBuf,
}

#[derive(Args, Clone, Debug)]
struct KeysChange {
    /// The key's name, from 1 to 255
    key: KeyId,
    #[command(flatten)]
    at: KeysFile,
}

#[derive(Args, Clone, Debug)]
struct ConfigArgs {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "lb.yaml")]
    config: PathBuf,
}

#[derive(Args, Clone, Debug)]
struct AdminArgs {
    /// The node's admin listener [env: TIDEGATE_ADMIN] [default: http://127.0.0.1:9900]
    #[arg(long, value_name = "URL")]
    admin: Option<Target>,
}

#[derive(Args, Clone, Debug)]
struct NodeArgs {
    #[command(flatten)]
    at: AdminArgs,
    /// The file with the admin token [env: TIDEGATE_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
struct ViewArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// For people, or the node's own JSON
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Args, Clone, Debug)]
struct BanArgs {
    /// An address or a network: 203.0.113.7, 203.0.113.0/24
    client: String,
    /// For how long, for example 10m [default: until it is lifted]
    #[arg(long = "for", value_name = "TIME")]
    length: Option<String>,
    /// End its live connections as well
    #[arg(long)]
    cut: bool,
    /// Yes, a network as wide as this one
    #[arg(long)]
    wide: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Args, Clone, Debug)]
struct UnbanArgs {
    /// An address or a network, as it was banned
    client: String,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Args, Clone, Debug)]
struct AboutArgs {
    /// As configured, or an address of a name: 10.0.0.7:8081
    backend: String,
    /// The rule [default: every rule that has the backend]
    #[arg(long)]
    rule: Option<String>,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, Subcommand)]
enum BackendCommand {
    /// One more backend, checked like any other before it is used
    Add {
        /// Where it is: 10.0.0.9:8081, or a name
        backend: String,
        /// Its share of the traffic
        #[arg(long)]
        weight: Option<u32>,
        /// The rule; need not be said when there is only one
        #[arg(long)]
        rule: Option<String>,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// One less; its live connections go on
    Remove {
        /// As configured or added
        backend: String,
        /// The rule; need not be said when only one has it
        #[arg(long)]
        rule: Option<String>,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Another share of the traffic; 0 takes none
    Weight {
        /// As configured or added
        backend: String,
        /// Its share
        weight: u32,
        /// The rule; need not be said when only one has it
        #[arg(long)]
        rule: Option<String>,
        #[command(flatten)]
        node: NodeArgs,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Args, Clone, Debug)]
struct CertsArgs {
    /// Where to write them
    #[arg(long, value_name = "DIRECTORY", default_value = "certs")]
    dir: PathBuf,
    /// How many clients: client.a, client.b, …
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..=26))]
    clients: u8,
    /// The server's names and addresses
    #[arg(long = "server-name", value_name = "NAME", num_args = 1..,
        default_values = ["localhost", "tidegate", "*.example.com", "127.0.0.1", "::1"])]
    server_names: Vec<String>,
    /// For how many days they are good
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// Also a second set in DIRECTORY/wrong, of an authority that nobody trusts
    #[arg(long)]
    wrong_ca: bool,
    /// Overwrite what is there
    #[arg(long)]
    force: bool,
}

#[derive(Args, Clone, Debug)]
struct BackendArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// How it calls itself [default: its address]
    #[arg(long)]
    name: Option<String>,
    /// Speak HTTP/1.1 instead of echoing: /, /healthz, /fail, /bytes/N, /delay/MS, /status/CODE
    #[arg(long)]
    http: bool,
    /// Echo byte for byte instead of answering line by line
    #[arg(long, conflicts_with = "http")]
    echo: bool,
    /// Say `Reply from upstream NAME` first, then echo byte for byte
    #[arg(long, conflicts_with = "http")]
    greet: bool,
    /// Speak TLS, and show this certificate
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The certificate's key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Take only clients with a certificate of this authority
    #[arg(long, value_name = "FILE", requires = "cert")]
    client_ca: Option<PathBuf>,
    /// Expect a PROXY header at the beginning of every connection
    #[arg(long)]
    proxy_protocol: bool,
}

#[derive(Args, Clone, Debug)]
struct ClientArgs {
    /// Whom to talk to: a rule, or a backend
    #[arg(long, value_name = "HOST:PORT")]
    connect: Endpoint,
    /// As whom to come: CERTS/ID.crt and ID.key, for example client.b [default: without a certificate];
    /// with --plain or --cert the name before its lines alone
    #[arg(long)]
    id: Option<String>,
    /// Where the certificates are, as `tidegate certs` writes them
    #[arg(long, value_name = "DIRECTORY", default_value = "certs")]
    certs: PathBuf,
    /// Whom to trust [default: CERTS/ca.crt]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The certificate to show, instead of that of ID
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The certificate's key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// The name that the server must prove [default: HOST]
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Without TLS
    #[arg(long, conflicts_with_all = ["ca", "cert", "key", "server_name"])]
    plain: bool,
    /// End after so many lines; a connection that comes to nothing counts as one
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Rest before the next line: one time, or from one to another
    #[arg(long, value_name = "TIMES", default_value = "200ms..1000ms", value_parser = times)]
    interval: Times,
}

/// From one time to another, in milliseconds.
type Times = std::ops::RangeInclusive<u64>;

fn times(text: &str) -> Result<Times, String> {
    let ms = |text: &str| match humantime::parse_duration(text) {
        Ok(time) => u64::try_from(time.as_millis()).map_err(|error| error.to_string()),
        Err(error) => Err(format!("{error}; write `500ms` or `200ms..1s`")),
    };
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let times = ms(from)?..=ms(to)?;
    if times.is_empty() {
        return Err("the second time is the shorter one; write `200ms..1s`".to_owned());
    }
    Ok(times)
}

/// Why a command failed.
#[derive(Debug)]
enum Fault {
    /// Wrong usage: exit code 2.
    Usage(String),
    /// Everything else: exit code 1.
    Failed(String),
}

/// Reads the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(args) => return node::run(&args.config),
        Command::Check(args) => return node::check(&args.config),
        Command::Demo => return node::demo(),
        Command::Members(args) => view(&args, "/api/v1/members", tables::members),
        Command::Backends(args) => view(&args, "/api/v1/backends", tables::backends),
        Command::Limits(args) => view(&args, "/api/v1/limits", tables::limits),
        Command::Rules(args) => view(&args, "/api/v1/rules", tables::rules),
        Command::Status(args) => view(&args, "/api/v1/status", tables::status),
        Command::Ban(args) => ban(&args),
        Command::Unban(args) => order(&args.node, Kind::Unban, &json!({ "client": args.client })),
        Command::Bans(args) => view(&args, Kind::Ban.path(), tables::bans),
        Command::Drain(args) => about(&args, Kind::Drain),
        Command::Undrain(args) => about(&args, Kind::Undrain),
        Command::Backend(command) => change_backend(&command),
        Command::Health(args) => health(&args),
        Command::Leave(args) => leave(&args),
        Command::Keys(command) => keys_of(command),
        Command::Certs(args) => make_certs(args),
        Command::BackendServer(args) => backend(&args),
        Command::Client(args) => talk(args),
    };
    let (fault, code) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Fault::Usage(fault)) => (fault, 2),
        Err(Fault::Failed(fault)) => (fault, 1),
    };
    // Nobody is left to be told when this fails.
    let _ = writeln!(io::stderr(), "tidegate: {fault}");
    ExitCode::from(code)
}

fn view<T: DeserializeOwned>(
    args: &ViewArgs,
    path: &str,
    table: fn(&T) -> String,
) -> Result<(), Fault> {
    let client = client(&args.node)?;
    let (json, shape) = wait(client.view::<T>(path))?.map_err(failed)?;
    say(&if args.format == Format::Json { json } else { table(&shape) })
}

fn health(args: &AdminArgs) -> Result<(), Fault> {
    // Probes need no token, so none is read.
    let client = Client::new(target(args)?, None).with_patience(HEALTH_PATIENCE);
    wait(client.ready())?.map_err(failed)
}

fn leave(args: &NodeArgs) -> Result<(), Fault> {
    let client = client(args)?;
    wait(client.leave())?.map_err(failed)?;
    say("the node leaves its cluster, drains and stops\n")
}

fn ban(args: &BanArgs) -> Result<(), Fault> {
    let BanArgs { client, length, cut, wide, node } = args;
    let body = json!({ "client": client, "for": length, "cut": cut, "wide": wide });
    order(node, Kind::Ban, &body)
}

fn about(AboutArgs { backend, rule, node }: &AboutArgs, kind: Kind) -> Result<(), Fault> {
    order(node, kind, &json!({ "backend": backend, "rule": rule }))
}

fn change_backend(command: &BackendCommand) -> Result<(), Fault> {
    match command {
        BackendCommand::Add { backend, weight, rule, node } => {
            let body = json!({ "backend": backend, "weight": weight, "rule": rule });
            order(node, Kind::Add, &body)
        }
        BackendCommand::Remove { backend, rule, node } => {
            order(node, Kind::Remove, &json!({ "backend": backend, "rule": rule }))
        }
        BackendCommand::Weight { backend, weight, rule, node } => {
            let body = json!({ "backend": backend, "weight": weight, "rule": rule });
            order(node, Kind::Weigh, &body)
        }
    }
}

/// Orders something on every node, and says what was done.
fn order(node: &NodeArgs, kind: Kind, body: &serde_json::Value) -> Result<(), Fault> {
    let client = client(node)?;
    let done = wait(client.order(kind, body))?.map_err(failed)?;
    say(&format!("{done}\n"))
}

fn client(args: &NodeArgs) -> Result<Client, Fault> {
    let target = target(&args.at)?;
    let file = args.token_file.clone().or_else(|| from_env("TIDEGATE_TOKEN_FILE").map(Into::into));
    let token = file.map(|file| token(&file)).transpose()?;
    Ok(Client::new(target, token))
}

/// The node that is meant: by option, else by environment, else the usual one.
fn target(args: &AdminArgs) -> Result<Target, Fault> {
    match (&args.admin, from_env("TIDEGATE_ADMIN")) {
        (Some(target), _) => Ok(target.clone()),
        (None, Some(text)) => text
            .parse()
            .map_err(|error: TargetError| Fault::Usage(format!("TIDEGATE_ADMIN: {error}"))),
        (None, None) => DEFAULT_URL.parse().map_err(failed),
    }
}

fn from_env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn token(file: &Path) -> Result<String, Fault> {
    let mut text = String::new();
    let read = open_typed(file).and_then(|mut file| file.read_to_string(&mut text));
    read.map_err(|error| {
        Fault::Failed(format!("cannot read the token {}: {error}", file.display()))
    })?;
    let token = text.trim();
    if token.is_empty() {
        return Err(Fault::Failed(format!("the token file {} is empty", file.display())));
    }
    Ok(token.to_owned())
}

fn keys_of(command: KeysCommand) -> Result<(), Fault> {
    let done = match command {
        KeysCommand::Generate(at) => keys::generate(&at.file),
        KeysCommand::List(at) => keys::list(&at.file),
        KeysCommand::Install { at, from } => keys::install(&at.file, from.as_deref()),
        KeysCommand::Use(change) => keys::put_first(&change.at.file, change.key),
        KeysCommand::Remove(change) => keys::remove(&change.at.file, change.key),
    };
    say(&done.map_err(failed)?)
}

fn make_certs(args: CertsArgs) -> Result<(), Fault> {
    let CertsArgs { dir, clients, server_names, days, wrong_ca, force } = args;
    let wanted = Wanted { dir, clients, server_names, days, wrong_ca, force };
    say(&certs::make(&wanted).map_err(failed)?)
}

fn backend(args: &BackendArgs) -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(failed)?.block_on(async {
        let tls = backend_tls(args)?;
        let bind = |error| {
            let remedy = "choose another `--listen`";
            Fault::Failed(format!("cannot listen on {}: {error}; {remedy}", args.listen))
        };
        let listener = tokio::net::TcpListener::bind(args.listen).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let name = args.name.clone().unwrap_or_else(|| address.to_string());
        let (mode, what) = match (args.http, args.echo || args.greet) {
            (true, _) => (Mode::Http, "http"),
            (_, true) => (Mode::Echo { greet: args.greet }, "echo"),
            (false, false) => (Mode::Lines, "answers every line"),
        };
        let over = match (&tls, &args.client_ca) {
            (None, _) => "",
            (Some(_), None) => ", over TLS",
            (Some(_), Some(_)) => ", over TLS, clients must show certificates",
        };
        let stopped = stop_signal().map_err(failed)?;
        say(&format!("backend {name} listens on {address} ({what}{over})\n"))?;
        let proxy_protocol = args.proxy_protocol;
        // Whether anybody still reads it makes no difference to the clients.
        let tell = Box::new(|line: &str| drop(say(&format!("{line}\n"))));
        let backend = Backend { name, mode, tls, proxy_protocol, tell };
        let (_signal, drain) = drain_signal();
        tokio::select! {
            () = backend.serve(listener, drain) => {}
            () = stopped => {}
        }
        Ok(())
    })
}

fn backend_tls(args: &BackendArgs) -> Result<Option<Terminator>, Fault> {
    let (Some(cert), Some(key)) = (args.cert.clone(), args.key.clone()) else { return Ok(None) };
    let files = CertificateFiles { cert, key, ocsp: None };
    backend_server::terminator(files, args.client_ca.clone()).map(Some).map_err(failed)
}

fn talk(args: ClientArgs) -> Result<(), Fault> {
    let ClientArgs { connect, id, certs, ca, server_name, plain, count, interval, .. } = args;
    let name = id.clone().unwrap_or_else(|| "client".to_owned());
    let pair = args.cert.zip(args.key);
    let credentials = Credentials { dir: certs, id, ca, pair, server_name };
    let tls = (!plain).then(|| credentials.read()).transpose().map_err(failed)?;
    let wanted = client::Wanted { connect, name, tls, count, interval };
    let summary = wait(async {
        let stopped = stop_signal().map_err(failed)?;
        // Whether anybody still reads it makes no difference to the server.
        let tell = |line: &str| drop(say(&format!("{line}\n")));
        client::run(&wanted, stopped, &tell).await.map_err(failed)
    })??;
    say(&summary.to_string())?;
    match summary.replies() {
        0 => Err(Fault::Failed("no reply came".to_owned())),
        _ => Ok(()),
    }
}

/// Resolves at SIGINT or SIGTERM.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Runs one exchange with a node to its end.
fn wait<T>(exchange: impl Future<Output = T>) -> Result<T, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(failed)?.block_on(exchange))
}

/// Writes to standard output. A reader that has seen enough (`| head -1`) is no fault.
fn say(text: &str) -> Result<(), Fault> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Fault::Failed(format!("cannot write the answer: {error}")))
        }
        _ => Ok(()),
    }
}

fn failed(error: impl std::fmt::Display) -> Fault {
    Fault::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    fn config(line: &str) -> PathBuf {
        let cli = parse(line).unwrap();
        match cli.command.unwrap_or(Command::Run(cli.run)) {
            Command::Run(args) | Command::Check(args) => args.config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_is_what_happens_without_a_command() {
        assert_eq!(config("tidegate"), Path::new("lb.yaml"));
        assert_eq!(config("tidegate -c a.yaml"), Path::new("a.yaml"));
        assert_eq!(config("tidegate run --config a.yaml"), Path::new("a.yaml"));
        assert_eq!(config("tidegate check -c a.yaml"), Path::new("a.yaml"));
    }

    #[test]
    fn wrong_usage_is_exit_code_2_and_help_is_not() {
        for line in [
            "tidegate fly",
            "tidegate run --confg a.yaml",
            "tidegate members --format yaml",
            "tidegate members --admin https://node1",
            "tidegate backend-server --listen here",
            "tidegate backend-server --http --greet",
            "tidegate backend-server --http --echo",
            "tidegate backend-server --cert a.crt",
            "tidegate backend-server --client-ca ca.crt",
            "tidegate client",
            "tidegate client --connect here",
            "tidegate client --connect 127.0.0.1:1 --count 0",
            "tidegate client --connect 127.0.0.1:1 --interval 3",
            "tidegate client --connect 127.0.0.1:1 --interval 2s..1s",
            "tidegate client --connect 127.0.0.1:1 --plain --ca ca.crt",
            "tidegate demo now",
            "tidegate certs --clients 27",
            "tidegate certs --days 0",
            "tidegate ban",
            "tidegate ban 10.0.0.1 10.0.0.2",
            "tidegate drain",
            "tidegate backend",
            "tidegate backend add",
            "tidegate backend weight 10.0.0.1:80",
            "tidegate backend weight 10.0.0.1:80 -1",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
        let version = parse("tidegate --version").unwrap_err();
        assert_eq!((version.kind(), version.exit_code()), (ErrorKind::DisplayVersion, 0));
    }
}
