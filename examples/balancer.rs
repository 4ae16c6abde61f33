//! A small balancer: clients are known by their certificates, or by their addresses, and short rules
//! say who may use what.
//!
//! ```sh
//! cargo run --example balancer -- 127.0.0.1:8000 127.0.0.1:9001 127.0.0.1:9002
//! cargo run -- certs --dir certs
//! cargo run --example balancer -- 127.0.0.1:8443 127.0.0.1:9001 127.0.0.1:9002 \
//!     --certs certs client.a-deny-127.0.0.1:9001
//! ```

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate::Balancer;
use tidegate::base::Identity;
use tidegate::net::Leg;
use tidegate::net::tls::{
    Certificate, CertificateFiles, ClientsPlan, Roots, ServedPlan, TerminatePlan, Terminator,
    TicketKeys, TlsVersion,
};
use tidegate::traffic::{Authorization, AuthorizationPlan, Permission, Way, parse_short};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A client that says nothing is not waited for.
const HANDSHAKE: Duration = Duration::from_secs(10);

type Fault = Box<dyn Error + Send + Sync>;

/// What all connections share.
struct Program {
    balancer: Balancer,
    backends: Vec<SocketAddr>,
    authorization: Authorization,
    terminator: Option<Terminator>,
}

#[tokio::main]
async fn main() -> Result<(), Fault> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().ok_or("usage: LISTEN BACKEND… [--certs DIR] [RULE…]")?;
    let (mut backends, mut rules, mut terminator) = (Vec::new(), Vec::new(), None);
    while let Some(argument) = arguments.next() {
        if argument == "--certs" {
            let dir = arguments.next().ok_or("--certs needs a directory")?;
            terminator = Some(mutual_tls(Path::new(&dir))?);
        } else if let Ok(backend) = argument.parse::<SocketAddr>() {
            backends.push(backend);
        } else {
            rules.push(parse_short(&argument)?);
        }
    }
    let program = Arc::new(Program {
        balancer: Balancer::builder().backends(backends.clone()).rate_limit(10.0, 20.0).start()?,
        backends,
        authorization: Authorization::new(&AuthorizationPlan { default: Permission::Allow, rules }),
        terminator,
    });
    let listener = TcpListener::bind(listen).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, from) = listener.accept().await?;
        let program = Arc::clone(&program);
        tokio::spawn(async move {
            match program.serve(stream, from).await {
                Ok(told) => println!("{from} {told}"),
                Err(fault) => println!("{from} was not served: {fault}"),
            }
        });
    }
}

impl Program {
    async fn serve(&self, mut stream: TcpStream, from: SocketAddr) -> Result<String, Fault> {
        let (client, identity): (Leg, _) = match &self.terminator {
            None => {
                let name = Some(from.ip().to_string());
                (stream.into(), Identity { common_name: name, ..Identity::default() })
            }
            Some(terminator) => {
                let shaking = terminator.accept(&mut stream, Vec::new());
                let (session, identity) = timeout(HANDSHAKE, shaking).await??;
                (Leg::sealed(stream, session), identity.ok_or("it has shown no certificate")?)
            }
        };
        let may = |backend: &&SocketAddr| {
            let name = (**backend).into();
            let judged = self
                .authorization
                .judge(Some(&identity), Way { name: &name, address: **backend, route: None });
            judged.permission == Permission::Allow
        };
        let allowed: Vec<_> = self.backends.iter().filter(may).copied().collect();
        let served = self.balancer.balance(client, identity.name(), &allowed).await?;
        let (backend, up, down) = (served.backend, served.bytes_up, served.bytes_down);
        let reason = served.outcome.reason.label();
        Ok(format!("{identity} was served by {backend}: {up} B up, {down} B down, {reason}"))
    }
}

/// TLS for clients with certificates, from the files that `tidegate certs` makes.
fn mutual_tls(dir: &Path) -> Result<Terminator, Fault> {
    let (cert, key) = (dir.join("server.crt"), dir.join("server.key"));
    let certificate = Arc::new(Certificate::read(CertificateFiles { cert, key, ocsp: None })?);
    let ca = Arc::new(Roots::read(dir.join("ca.crt"))?);
    let plan = TerminatePlan {
        certificates: vec![ServedPlan { server_name: None, certificate }],
        clients: Some(ClientsPlan { ca, required: true, crl: None }),
        min_version: TlsVersion::Tls12,
        alpn: Vec::new(),
    };
    // No secrets are published, so that sessions are not resumed.
    Ok(Terminator::new(&plan, TicketKeys::new().ticketer(b"example"))?)
}
