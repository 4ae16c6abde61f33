//! What tickets open, what they do not, and the attack that makes contexts necessary.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{
    ClientConfig, ClientConnection, Error, HandshakeKind, RootCertStore, ServerConfig,
    ServerConnection, SupportedProtocolVersion, version,
};

use super::*;
use crate::net::tls::provider;

fn secret(number: u8) -> TicketSecret {
    TicketSecret { id: [number; 16], epoch: number.into(), secret: [!number; 32] }
}

/// The first of `numbers` seals.
fn set(numbers: &[u8]) -> TicketSet {
    TicketSet {
        secrets: numbers.iter().map(|number| secret(*number)).collect(),
        sealing: numbers.first().map(|number| [*number; 16]),
        since_ms: 0,
        shared: true,
    }
}

fn keys(numbers: &[u8]) -> Arc<TicketKeys> {
    let keys = TicketKeys::new();
    keys.publish(set(numbers));
    keys
}

#[test]
fn a_ticket_opens_on_every_node_with_its_secret_in_its_context_alone() {
    let (here, there) = (keys(&[1]), keys(&[2, 1]));
    let ticket = here.ticketer(b"web").encrypt(b"a session").unwrap();
    assert!(!ticket.windows(9).any(|part| part == b"a session"));
    assert_eq!(there.ticketer(b"web").decrypt(&ticket).unwrap(), b"a session");
    assert_eq!(here.ticketer(b"admin").decrypt(&ticket), None);
    assert_eq!(here.ticketer(b"").decrypt(&ticket), None);
    assert_eq!(keys(&[2]).ticketer(b"web").decrypt(&ticket), None);
    // No two tickets are alike, or a client could be followed.
    assert_ne!(here.ticketer(b"web").encrypt(b"a session").unwrap(), ticket);
}

#[test]
fn a_ticketer_follows_what_is_published() {
    let keys = TicketKeys::new();
    let ticketer = keys.ticketer(b"web");
    assert!(!ticketer.enabled());
    assert_eq!(ticketer.encrypt(b"x"), None);
    keys.publish(set(&[1]));
    assert!(ticketer.enabled());
    let first = ticketer.encrypt(b"x").unwrap();
    keys.publish(set(&[2, 1]));
    let second = ticketer.encrypt(b"x").unwrap();
    assert_eq!((first[0], second[0]), (1, 2));
    assert!(ticketer.decrypt(&first).is_some() && ticketer.decrypt(&second).is_some());
    keys.publish(set(&[2]));
    assert_eq!(ticketer.decrypt(&first), None, "its secret has gone");
    assert!(ticketer.decrypt(&second).is_some());
    keys.publish(TicketSet::default());
    assert!(!ticketer.enabled());
    assert_eq!(ticketer.decrypt(&second), None);
}

#[test]
fn keys_are_made_once_per_set() {
    let keys = keys(&[1]);
    let made = ArcSwap::from_pointee(Made::new(keys.current(), b"web"));
    let ticketer = Ticketer { keys: Arc::clone(&keys), context: b"web".as_slice().into(), made };
    let before = ticketer.made();
    keys.publish(set(&[1]));
    assert!(Arc::ptr_eq(&before, &ticketer.made()), "an equal set is no news");
    keys.publish(set(&[1, 2]));
    let after = ticketer.made();
    assert!(!Arc::ptr_eq(&before, &after));
    assert!(Arc::ptr_eq(&after, &ticketer.made()));
}

#[test]
fn what_is_no_ticket_opens_nothing_and_harms_nothing() {
    let ticketer = keys(&[1]).ticketer(b"web");
    let good = ticketer.encrypt(&[7; 100]).unwrap();
    assert!(ticketer.decrypt(&good).is_some());
    for length in 0..good.len() {
        assert_eq!(ticketer.decrypt(&good[..length]), None, "cut to {length}");
    }
    for bit in 0..good.len() * 8 {
        let mut bent = good.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(ticketer.decrypt(&bent), None, "bit {bit}");
    }
    assert_eq!(ticketer.decrypt(&[good.clone(), vec![0]].concat()), None);
    assert_eq!(ticketer.decrypt(&[1; MOST_TICKET + 1]), None);
    assert_eq!(ticketer.encrypt(&[0; MOST_TICKET]), None);
    let largest = ticketer.encrypt(&[0; MOST_TICKET - 44]).unwrap();
    assert_eq!(largest.len(), MOST_TICKET);
    assert!(ticketer.decrypt(&largest).is_some());
}

#[test]
fn a_name_is_its_secrets_alone() {
    let id = |epoch, secret| TicketSecret::new(epoch, [secret; 32]).id;
    assert_eq!(id(1, 1), id(1, 1));
    assert!(id(1, 1) != id(1, 2) && id(1, 1) != id(2, 1));
    assert_ne!(id(1, 0), [0; 16]);
}

#[test]
fn no_secret_is_ever_shown() {
    // Its bytes are 171, ab in hex.
    let keys = keys(&[84]);
    let shown = format!("{:?} {keys:?} {:?}", secret(84), keys.ticketer(b"web"));
    assert!(!shown.contains("171") && !shown.contains("ab"), "{shown}");
    assert!(shown.contains("TicketSecret(54545454, epoch 84)"), "{shown}");
}

/// A server's certificate, and who vouches for it and for clients.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        roots
    }

    fn issue(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    fn server(
        &self,
        spoken: &'static SupportedProtocolVersion,
        demanding: bool,
        ticketer: Arc<dyn ProducesTickets>,
    ) -> Arc<ServerConfig> {
        let provider = Arc::clone(provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let config = config.with_protocol_versions(&[spoken]).unwrap();
        let config = if demanding {
            let roots = Arc::new(self.roots());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            config.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            config.with_no_client_auth()
        };
        let (chain, key) = self.issue("x.test");
        let mut config = config.with_single_cert(chain, key).unwrap();
        config.ticketer = ticketer;
        // A memory of its own would resume as well, and hide what tickets do.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Arc::new(config)
    }

    /// Without a certificate of its own; it remembers tickets.
    fn client(&self, spoken: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(Arc::clone(provider()));
        let config = config.with_protocol_versions(&[spoken]).unwrap();
        let mut config = config.with_root_certificates(self.roots()).with_no_client_auth();
        config.resumption = Resumption::in_memory_sessions(8);
        Arc::new(config)
    }
}

/// A whole handshake, and what the server says of it.
fn meet(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Result<HandshakeKind, Error> {
    let name = ServerName::try_from("x.test").unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            server.read_tls(&mut wire).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            client.read_tls(&mut wire).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(server.handshake_kind().unwrap())
}

const SPOKEN: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

#[test]
fn a_session_begun_on_one_node_resumes_on_another() {
    let authority = Authority::new();
    for spoken in SPOKEN {
        let (here, there) = (keys(&[1]), keys(&[2, 1]));
        let client = authority.client(spoken);
        let one = authority.server(spoken, false, here.ticketer(b"web"));
        let other = authority.server(spoken, false, there.ticketer(b"web"));
        assert_eq!(meet(&client, &one), Ok(HandshakeKind::Full));
        assert_eq!(meet(&client, &other), Ok(HandshakeKind::Resumed), "{spoken:?}");
    }
}

/// The attack: a session begun where anybody may come, offered where a certificate is demanded.
#[test]
fn a_session_begun_on_an_open_rule_does_not_resume_where_a_certificate_is_demanded() {
    let authority = Authority::new();
    for spoken in SPOKEN {
        let keys = keys(&[1]);
        // With one context for both it works, without any certificate: the defence is the context.
        let shared = keys.ticketer(b"one for all");
        let client = authority.client(spoken);
        let open = authority.server(spoken, false, Arc::clone(&shared));
        let demanding = authority.server(spoken, true, shared);
        assert_eq!(meet(&client, &open), Ok(HandshakeKind::Full));
        assert_eq!(meet(&client, &demanding), Ok(HandshakeKind::Resumed), "{spoken:?}");

        let client = authority.client(spoken);
        let open = authority.server(spoken, false, keys.ticketer(b"open"));
        let demanding = authority.server(spoken, true, keys.ticketer(b"demanding"));
        assert_eq!(meet(&client, &open), Ok(HandshakeKind::Full));
        assert_eq!(meet(&client, &open), Ok(HandshakeKind::Resumed), "it has a good ticket");
        assert_eq!(meet(&client, &demanding), Err(Error::NoCertificatesPresented), "{spoken:?}");
    }
}
