//! `tidegate certs`: an authority of one's own with a server, some clients, and some that must be
//! refused. To try things: whoever has `ca.key` can be anybody.

use std::collections::HashSet;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::TryRng;
use rand::rngs::SysRng;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::DnsName;

use crate::base::time;

/// Where the set of the authority that nobody trusts lies.
const WRONG: &str = "wrong";

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where to.
    pub dir: PathBuf,
    /// How many clients: `client.a`, `client.b`, …, at most 26.
    pub clients: u8,
    /// Names and addresses of the server.
    pub server_names: Vec<String>,
    /// For how long they are good, from now on.
    pub days: u32,
    /// Also a second set, with the same names, of an authority that nobody trusts.
    pub wrong_ca: bool,
    /// Whether files may be overwritten.
    pub force: bool,
}

/// Why nothing was made, or not all.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A former set.
    #[error(
        "{} is there already, and nothing was overwritten; write `--force` to make all anew, or \
         choose another `--dir`", .0.display()
    )]
    There(PathBuf),
    /// What was asked.
    #[error(
        "`{}` is no name of a server; write a DNS name, `*.example.com` for one label more, or an \
         IP address", .0.escape_debug()
    )]
    Name(String),
    /// The disk.
    #[error("cannot write {}: {error}", .path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// What was asked.
    #[error("cannot make a certificate for {what}: {error}")]
    Make {
        /// Whose.
        what: String,
        /// What is wrong with it.
        error: rcgen::Error,
    },
    /// The system.
    #[error("the system gives no random numbers: {0}")]
    Random(rand::rngs::SysError),
}

/// Makes the set, and says what was written and what to try next.
///
/// # Errors
/// A file is there already, cannot be written, or a name cannot stand in a certificate. Before the
/// first is written all are made.
pub fn make(wanted: &Wanted) -> Result<String, CertsError> {
    let Wanted { dir, wrong_ca, force, .. } = wanted;
    let wrong = dir.join(WRONG);
    let mut said = String::new();
    let mut sets = vec![Set::make(wanted, dir)?];
    if *wrong_ca {
        let whole = ["ca.crt", "server.crt", "server.key"];
        if !force && whole.iter().all(|name| dir.join(name).exists()) {
            // Only the second set is missing.
            sets.clear();
            said += &format!("{} has certificates already, and they stay\n", dir.display());
        }
        sets.push(Set::make(wanted, &wrong)?);
    }
    let there = sets.iter().flat_map(Set::paths).find(|path| path.exists());
    if let Some(path) = there.filter(|_| !force) {
        return Err(CertsError::There(path));
    }
    for set in &sets {
        said += &set.write()?;
    }
    if *wrong_ca {
        said += &format!(
            "nobody trusts {}: clients that come with these must be refused\n",
            wrong.join("ca.crt").display()
        );
    }
    let shown = dir.display();
    let id = if wanted.clients > 0 { "--id client.a " } else { "" };
    Ok(said
        + &format!(
            "next, in a rule: tls: {{ cert: {shown}/server.crt, key: {shown}/server.key, client_ca: {shown}/ca.crt, \
             client_crl: {shown}/ca.crl }}\n\
             and then: tidegate client --certs {shown} {id}--connect 127.0.0.1:8443\n"
        ))
}

/// Clocks of other machines may go after this one's.
const FROM_YESTERDAY: i64 = -1;

/// A set that is made and not written yet.
struct Set<'a> {
    dir: &'a Path,
    issuer: Issuer<'static, KeyPair>,
    files: Vec<Made>,
    said: String,
}

/// A file of a set.
struct Made {
    name: String,
    pem: String,
    mode: u32,
}

impl<'a> Set<'a> {
    fn make(wanted: &Wanted, dir: &'a Path) -> Result<Self, CertsError> {
        let mut set = Set::begin(dir, wanted.days)?;
        set.server(&wanted.server_names, wanted.days)?;
        for letter in ('a'..='z').take(usize::from(wanted.clients)) {
            set.client(&format!("client.{letter}"), FROM_YESTERDAY, wanted.days.into())?;
        }
        let revoked = set.client("revoked", FROM_YESTERDAY, wanted.days.into())?;
        set.client("expired", -30, -1)?;
        set.revoke(revoked, wanted.days)?;
        Ok(set)
    }

    /// Makes the authority.
    fn begin(dir: &'a Path, days: u32) -> Result<Self, CertsError> {
        let failed = |error| failed("the authority", error);
        let key = KeyPair::generate().map_err(failed)?;
        // Each has a name of its own: of two with the same one, who is asked to trust the other finds bad
        // signatures where there is a stranger.
        let own = random_serial()?.to_bytes();
        let own: String = own[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        let mut params = params(&format!("tidegate certs {own}"), FROM_YESTERDAY, days.into())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed)?;
        let (key_pem, said) = (key.serialize_pem(), String::new());
        let mut set = Set { dir, issuer: Issuer::new(params, key), files: Vec::new(), said };
        set.add("ca.crt", certificate.pem(), PUBLIC);
        set.add("ca.key", key_pem, PRIVATE);
        set.say("ca.crt  the authority; ca.key is its key");
        Ok(set)
    }

    fn server(&mut self, names: &[String], days: u32) -> Result<(), CertsError> {
        let mut params = params("tidegate", FROM_YESTERDAY, days.into())?;
        for name in names {
            params.subject_alt_names.push(server_name(name)?);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign("server", &params)?;
        self.say(&format!("server.crt  server.key  for {}", names.join(", ")));
        Ok(())
    }

    /// A client that is good from one day to the other, counted from now.
    fn client(&mut self, name: &str, from: i64, until: i64) -> Result<SerialNumber, CertsError> {
        let mut params = params(name, from, until)?;
        params.subject_alt_names = vec![
            SanType::DnsName(text(name)?),
            SanType::URI(text(&format!("spiffe://tidegate/{name}"))?),
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let serial = random_serial()?;
        params.serial_number = Some(serial.clone());
        self.sign(name, &params)?;
        let what = match name {
            "revoked" => "a client that is on ca.crl: to be refused where `client_crl` names it",
            "expired" => "a client whose time was over yesterday: to be refused",
            _ => "a client",
        };
        self.say(&format!("{name}.crt  {name}.key  {what}"));
        Ok(serial)
    }

    /// Writes the revocation list with one client on it.
    fn revoke(&mut self, serial: SerialNumber, days: u32) -> Result<(), CertsError> {
        let day = |day: i64| date_time_ymd(1970, 1, 1) + since_1970(day);
        let list = CertificateRevocationListParams {
            this_update: day(FROM_YESTERDAY),
            next_update: day(days.into()),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: serial,
                revocation_time: day(FROM_YESTERDAY),
                reason_code: Some(RevocationReason::KeyCompromise),
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let made = list.signed_by(&self.issuer).and_then(|list| list.pem());
        let pem = made.map_err(|error| failed("the revocation list", error))?;
        self.add("ca.crl", pem, PUBLIC);
        self.say("ca.crl  the revocation list");
        Ok(())
    }

    /// Makes `stem`.crt and `stem`.key.
    fn sign(&mut self, stem: &str, params: &CertificateParams) -> Result<(), CertsError> {
        let failed = |error| failed(stem, error);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        self.add(&format!("{stem}.key"), key.serialize_pem(), PRIVATE);
        self.add(&format!("{stem}.crt"), certificate.pem(), PUBLIC);
        Ok(())
    }

    fn add(&mut self, name: &str, pem: String, mode: u32) {
        self.files.push(Made { name: name.to_owned(), pem, mode });
    }

    fn say(&mut self, what: &str) {
        self.said += &format!("{}/{what}\n", self.dir.display());
    }

    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.files.iter().map(|file| self.dir.join(&file.name))
    }

    /// Writes all files, and says what is what.
    fn write(&self) -> Result<String, CertsError> {
        let made = fs::create_dir_all(self.dir);
        made.map_err(|error| CertsError::Write { path: self.dir.to_owned(), error })?;
        for (path, file) in self.paths().zip(&self.files) {
            write(&path, &file.pem, file.mode)?;
        }
        let made: HashSet<PathBuf> = self.paths().collect();
        let former = ('a'..='z')
            .map(|letter| self.dir.join(format!("client.{letter}.crt")))
            .filter(|path| !made.contains(path) && path.exists())
            .map(|path| {
                let path = path.display();
                format!("{path}  of a former authority, and refused by this one: delete it\n")
            });
        Ok(self.said.clone() + &former.collect::<String>())
    }
}

/// What a client may ask for to reach the server.
fn server_name(name: &str) -> Result<SanType, CertsError> {
    if let Ok(ip) = name.parse() {
        return Ok(SanType::IpAddress(ip));
    }
    match DnsName::try_from(name.strip_prefix("*.").unwrap_or(name)) {
        Ok(_) => text(name).map(SanType::DnsName),
        Err(_) => Err(CertsError::Name(name.to_owned())),
    }
}

fn failed(what: &str, error: rcgen::Error) -> CertsError {
    CertsError::Make { what: what.to_owned(), error }
}

/// Of whoever has `common_name`, from one day to the other, counted from now.
fn params(common_name: &str, from: i64, until: i64) -> Result<CertificateParams, CertsError> {
    let mut params = CertificateParams::new([]).map_err(|error| failed(common_name, error))?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(1970, 1, 1) + since_1970(from);
    params.not_after = date_time_ymd(1970, 1, 1) + since_1970(until);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn since_1970(day: i64) -> Duration {
    let now = Duration::from_millis(time::unix_ms());
    let days = Duration::from_secs(day.unsigned_abs() * 24 * 3600);
    if day < 0 { now.saturating_sub(days) } else { now + days }
}

/// A name as a certificate holds it: ASCII.
fn text<T>(name: &str) -> Result<T, CertsError>
where
    T: for<'a> TryFrom<&'a str, Error = rcgen::Error>,
{
    T::try_from(name).map_err(|error| failed(name, error))
}

fn random_serial() -> Result<SerialNumber, CertsError> {
    let mut bytes = [0; 16];
    SysRng.try_fill_bytes(&mut bytes).map_err(CertsError::Random)?;
    // A number above 0, whatever its first byte is.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

const PUBLIC: u32 = 0o644;
const PRIVATE: u32 = 0o600;

/// Writes a file in one step, so that a node that watches it never reads half of it.
fn write(path: &Path, pem: &str, mode: u32) -> Result<(), CertsError> {
    let mut new = path.to_owned().into_os_string();
    new.push(format!(".{}.new", std::process::id()));
    let new = PathBuf::from(new);
    let written = || -> io::Result<()> {
        // Nobody else has it open or has put a link there: it may hold a key.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        // Whatever the umask.
        let done = file
            .set_permissions(Permissions::from_mode(mode))
            .and_then(|()| file.write_all(pem.as_bytes()))
            .and_then(|()| fs::rename(&new, path));
        if done.is_err() {
            let _ = fs::remove_file(&new);
        }
        done
    };
    written().map_err(|error| CertsError::Write { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName,
    };
    use rustls::server::WebPkiClientVerifier;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

    use super::*;
    use crate::net::tls::{Certificate, CertificateFiles};

    fn wanted(dir: &Path) -> Wanted {
        Wanted {
            dir: dir.join("certs"),
            clients: 2,
            server_names: ["localhost", "*.example.com", "::1"].map(str::to_owned).into(),
            days: 20,
            wrong_ca: false,
            force: false,
        }
    }

    fn chain(dir: &Path, stem: &str) -> Vec<CertificateDer<'static>> {
        let file = dir.join(format!("{stem}.crt"));
        vec![CertificateDer::from_pem_file(file).unwrap()]
    }

    fn key(dir: &Path, stem: &str) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_file(dir.join(format!("{stem}.key"))).unwrap()
    }

    fn roots(dir: &Path) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(chain(dir, "ca").remove(0)).unwrap();
        roots
    }

    /// Whether a client with `client`'s certificate (and its own view of who is an authority) and a
    /// server of `dir` with its revocation list come to terms.
    fn shake(dir: &Path, client_dir: &Path, client: &str, name: &str) -> Result<(), String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let list = CertificateRevocationListDer::from_pem_file(dir.join("ca.crl")).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots(dir)), provider.clone())
                .with_crls([list])
                .build()
                .unwrap();
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain(dir, "server"), key(dir, "server"))
            .unwrap();
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots(client_dir))
            .with_client_auth_cert(chain(client_dir, client), key(client_dir, client))
            .unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        for _ in 0..10 {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut &*bytes).unwrap();
            server.process_new_packets().map_err(|error| format!("server: {error}"))?;
            bytes.clear();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut &*bytes).unwrap();
            client.process_new_packets().map_err(|error| format!("client: {error}"))?;
        }
        assert!(!server.is_handshaking() && !client.is_handshaking());
        Ok(())
    }

    #[test]
    fn a_set_is_whole_and_each_client_is_taken_or_refused_as_it_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = Wanted { wrong_ca: true, ..wanted(dir.path()) };
        let said = make(&wanted).unwrap();
        let certs = &wanted.dir;
        assert!(said.contains("tidegate client --certs"), "{said}");
        for (client, name) in
            [("client.a", "localhost"), ("client.b", "db.example.com"), ("client.b", "::1")]
        {
            shake(certs, certs, client, name).unwrap();
        }
        let refused = |client: &str| shake(certs, certs, client, "localhost").unwrap_err();
        assert!(refused("revoked").contains("Revoked"), "{}", refused("revoked"));
        assert!(refused("expired").contains("xpired"), "{}", refused("expired"));
        assert!(refused("server").contains("extended key usage"), "{}", refused("server"));
        let other = shake(certs, certs, "client.a", "example.org").unwrap_err();
        assert!(other.starts_with("client: ") && other.contains("not valid for name"), "{other}");

        let wrong = certs.join("wrong");
        shake(&wrong, &wrong, "client.a", "localhost").unwrap();
        assert!(shake(certs, &wrong, "client.a", "localhost").unwrap_err().starts_with("client: "));
        fs::copy(certs.join("ca.crt"), wrong.join("ca.crt")).unwrap();
        let imposter = shake(certs, &wrong, "client.a", "localhost").unwrap_err();
        assert!(
            imposter.starts_with("server: ") && imposter.contains("UnknownIssuer"),
            "{imposter}"
        );
    }

    #[test]
    fn clients_have_names_and_keys_are_their_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = wanted(dir.path());
        make(&wanted).unwrap();
        let files = |stem: &str| CertificateFiles {
            cert: wanted.dir.join(format!("{stem}.crt")),
            key: wanted.dir.join(format!("{stem}.key")),
            ocsp: None,
        };
        let facts = Certificate::read(files("client.b")).unwrap().facts;
        assert_eq!(facts.identity.common_name.as_deref(), Some("client.b"));
        assert_eq!(facts.identity.uris, ["spiffe://tidegate/client.b"]);
        assert_eq!(facts.identity.dns, ["client.b"]);
        let left = (facts.not_after_ms - time::unix_ms()) / 3_600_000;
        assert!((20 * 24 - 1..=20 * 24).contains(&left), "{left} hours");
        assert!(!wanted.dir.join("client.c.crt").exists());
        for entry in fs::read_dir(&wanted.dir).unwrap() {
            let path = entry.unwrap().path();
            let mode = path.metadata().unwrap().permissions().mode() & 0o777;
            let private = path.extension().is_some_and(|ending| ending == "key");
            assert_eq!(mode, if private { 0o600 } else { 0o644 }, "{}", path.display());
        }
    }

    #[test]
    fn nothing_is_overwritten_unless_it_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = wanted(dir.path());
        make(&wanted).unwrap();
        let ca = || fs::read_to_string(wanted.dir.join("ca.crt")).unwrap();
        let before = ca();
        let refused = make(&wanted).unwrap_err().to_string();
        assert!(refused.contains("--force") && refused.contains("ca.crt"), "{refused}");
        assert_eq!(ca(), before);
        // A second set beside the first one is no overwriting.
        let beside = Wanted { wrong_ca: true, ..wanted.clone() };
        assert!(make(&beside).unwrap().contains("they stay"));
        assert_eq!(ca(), before);
        assert!(make(&beside).is_err(), "now both are there");
        let anew = Wanted { force: true, ..wanted.clone() };
        make(&anew).unwrap();
        assert_ne!(ca(), before);
    }

    #[test]
    fn each_file_of_a_former_set_is_kept_and_those_that_outlive_it_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = Wanted { wrong_ca: true, ..wanted(dir.path()) };
        for name in ["ca.key", "server.key", "client.b.key", "ca.crl", "wrong/ca.key"] {
            let path = wanted.dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "mine").unwrap();
            let refused = make(&wanted).unwrap_err().to_string();
            assert!(refused.contains(&format!("{name} is there already")), "{refused}");
            let there = fs::read_dir(path.parent().unwrap()).unwrap();
            let files = there.filter(|entry| entry.as_ref().unwrap().path().is_file());
            assert_eq!((fs::read_to_string(&path).unwrap().as_str(), files.count()), ("mine", 1));
            fs::remove_file(&path).unwrap();
        }
        let said = make(&wanted).unwrap();
        assert!(!said.contains("former"), "{said}");
        let said = make(&Wanted { force: true, clients: 0, ..wanted }).unwrap();
        for name in ["client.a", "client.b"] {
            assert!(said.contains(&format!("{name}.crt  of a former authority")), "{said}");
        }
    }

    #[test]
    fn what_no_client_would_ask_for_is_no_name_of_a_server() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["bücher.example", "", "a b", "https://a.example", "a.example:8443", "*", "a.*"]
        {
            let wanted = Wanted { server_names: vec![name.to_owned()], ..wanted(dir.path()) };
            let refused = make(&wanted).unwrap_err().to_string();
            assert!(refused.contains(&format!("`{name}` is no name of a server")), "{refused}");
            assert!(!wanted.dir.exists(), "something was written");
        }
    }
}
