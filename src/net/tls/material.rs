//! Certificates and keys as their files hold them, and how such files are read.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, SignatureAlgorithm};

use super::dates::{Dated, DatedKind};
use super::names::Facts;
use super::provider;
use super::staple::{self, Said, Verdict};
use crate::base::file;

/// Larger than any file of certificates that makes sense.
const LARGEST: u64 = 4 << 20;

/// A certificate chain, its key and what goes with them.
pub struct Certificate {
    /// Where it was read.
    pub files: CertificateFiles,
    /// What the certificate says of itself.
    pub facts: Facts,
    key: PrivateKeyDer<'static>,
    certified: Arc<CertifiedKey>,
    stapled: Option<Stapled>,
}

/// The same with an OCSP response, which is shown as long as it is good.
struct Stapled {
    certified: Arc<CertifiedKey>,
    said: Said,
}

/// Where a certificate lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, PEM, the certificate itself first.
    pub cert: PathBuf,
    /// Its key, PEM: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// An OCSP response, DER.
    pub ocsp: Option<PathBuf>,
}

/// Which of several files is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// A chain.
    Cert,
    /// A key.
    Key,
    /// An OCSP response.
    Ocsp,
    /// Authorities, or pinned certificates.
    Ca,
    /// Revocation lists.
    Crl,
}

/// Why a file is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct MaterialError {
    /// Which file.
    pub which: Which,
    /// What is wrong, with the file's path.
    pub what: String,
    /// How to mend it.
    pub remedy: String,
}

impl MaterialError {
    pub(super) fn new(which: Which, what: String, remedy: &str) -> Self {
        MaterialError { which, what, remedy: remedy.to_owned() }
    }
}

impl CertificateFiles {
    /// Each of them.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.cert), Some(&self.key), self.ocsp.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
    }
}

impl Certificate {
    /// Reads the files and holds them against each other.
    ///
    /// # Errors
    /// One cannot be read, holds nothing of its kind, or the key is not the certificate's.
    pub fn read(files: CertificateFiles) -> Result<Certificate, MaterialError> {
        let path = &files.cert;
        let chain: Vec<CertificateDer<'static>> = all(Which::Cert, path, "certificate")?;
        let facts = Facts::of(&chain[0]).map_err(|error| {
            let what = format!("the first certificate of {} is broken: {error}", path.display());
            MaterialError::new(Which::Cert, what, "have it issued anew")
        })?;
        let key = read_key(&files.key)?;
        let certified = CertifiedKey::from_der(chain, key.clone_key(), provider())
            .map_err(|error| unfit(&files, &error))?;
        let stapled = match &files.ocsp {
            Some(ocsp) => Some(Stapled::read(ocsp, &certified, &facts)?),
            None => None,
        };
        Ok(Certificate { files, facts, key, certified: Arc::new(certified), stapled })
    }

    /// It, and its OCSP response, with their dates.
    pub fn dated(&self) -> impl Iterator<Item = Dated> {
        let own = self.facts.dated(DatedKind::Certificate, &self.files.cert);
        let response = self.stapled.as_ref().zip(self.files.ocsp.as_ref()).and_then(
            |(Stapled { said, .. }, file)| {
                Some(Dated {
                    kind: DatedKind::OcspResponse,
                    file: file.clone(),
                    from_ms: said.from_ms,
                    until_ms: said.until_ms?,
                    ..own.clone()
                })
            },
        );
        [Some(own), response].into_iter().flatten()
    }

    /// The kind of its key, in words: a name may have a certificate of each.
    pub fn key_kind(&self) -> &'static str {
        match self.certified.key.algorithm() {
            SignatureAlgorithm::RSA => "RSA",
            SignatureAlgorithm::ECDSA => "ECDSA",
            SignatureAlgorithm::ED25519 => "Ed25519",
            _ => "other",
        }
    }

    /// To be shown to a backend, which asks for no OCSP response.
    pub(super) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// To be shown to a client at `now_ms`.
    pub(super) fn certified_at(&self, now_ms: u64) -> &Arc<CertifiedKey> {
        match &self.stapled {
            Some(Stapled { certified, said }) if said.is_good(now_ms) => certified,
            _ => &self.certified,
        }
    }

    fn ocsp(&self) -> Option<&[u8]> {
        self.stapled.as_ref()?.certified.ocsp.as_deref()
    }
}

impl Stapled {
    fn read(
        path: &Path,
        certified: &CertifiedKey,
        facts: &Facts,
    ) -> Result<Stapled, MaterialError> {
        let bytes = read(Which::Ocsp, path)?;
        let shown = path.display();
        let said = staple::said_of(&bytes, &facts.serial).map_err(|fault| {
            let remedy = "fetch one for this certificate in DER: `openssl ocsp -respout FILE …`";
            MaterialError::new(Which::Ocsp, format!("{shown} {fault}"), remedy)
        })?;
        if said.verdict != Verdict::Good {
            let verdict = format!("{:?}", said.verdict).to_lowercase();
            let what = format!("{shown} says that the certificate is {verdict}");
            let remedy = "clients would refuse it: have a new certificate issued, or fetch again";
            return Err(MaterialError::new(Which::Ocsp, what, remedy));
        }
        let certified = CertifiedKey { ocsp: Some(bytes), ..certified.clone() };
        Ok(Stapled { certified: Arc::new(certified), said })
    }
}

fn unfit(files: &CertificateFiles, error: &Error) -> MaterialError {
    let (cert, key) = (files.cert.display(), files.key.display());
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => MaterialError::new(
            Which::Key,
            format!("{key} is not the key of {cert}"),
            "name the key that the certificate was made for; `openssl x509 -noout -pubkey` and \
             `openssl pkey -pubout` must say the same",
        ),
        Error::InvalidCertificate(error) => MaterialError::new(
            Which::Cert,
            format!("the first certificate of {cert} cannot be used: {error}"),
            "have it issued anew, in version 3 of X.509",
        ),
        _ => MaterialError::new(
            Which::Key,
            format!("{key} holds a key that is broken or of no kind that is spoken"),
            "use RSA of 2048 bits or more, ECDSA P-256, P-384 or P-521, or Ed25519",
        ),
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
            && self.key == other.key
            && self.certified.cert == other.certified.cert
            && self.ocsp() == other.ocsp()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("files", &self.files).finish_non_exhaustive()
    }
}

pub(super) fn read(which: Which, path: &Path) -> Result<Vec<u8>, MaterialError> {
    let mut bytes = Vec::new();
    let read = file::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    let shown = path.display();
    match read {
        Err(error) => Err(MaterialError::new(
            which,
            format!("{shown} cannot be read: {error}"),
            "write the path of a readable file",
        )),
        Ok(_) if bytes.len() as u64 > LARGEST => Err(MaterialError::new(
            which,
            format!("{shown} is larger than 4 MiB"),
            "write a smaller file",
        )),
        Ok(_) => Ok(bytes),
    }
}

/// At least one.
pub(super) fn all<T: PemObject>(
    which: Which,
    path: &Path,
    kind: &str,
) -> Result<Vec<T>, MaterialError> {
    parse(which, path, &read(which, path)?, kind)
}

pub(super) fn parse<T: PemObject>(
    which: Which,
    path: &Path,
    bytes: &[u8],
    kind: &str,
) -> Result<Vec<T>, MaterialError> {
    let shown = path.display();
    let found = T::pem_slice_iter(bytes).collect::<Result<Vec<T>, _>>().map_err(|error| {
        let why = match error {
            pem::Error::MissingSectionEnd { .. } => "a BEGIN line has no END".to_owned(),
            pem::Error::IllegalSectionStart { .. } => "a BEGIN line is broken".to_owned(),
            error => error.to_string(),
        };
        let what = format!("{shown} is no sound PEM file: {why}");
        MaterialError::new(which, what, "copy it again, whole")
    })?;
    if found.is_empty() {
        let what = format!("{shown} holds no {kind}");
        let remedy = "write the path of a PEM file (text with BEGIN and END lines)";
        return Err(MaterialError::new(which, what, remedy));
    }
    Ok(found)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, MaterialError> {
    let bytes = read(Which::Key, path)?;
    let shown = path.display();
    if bytes.windows(9).any(|text| text == b"ENCRYPTED") {
        let what = format!("the key {shown} is encrypted, and nobody could type its password here");
        let remedy = "decrypt it: `openssl pkey -in KEY -out NEW`, readable by tidegate alone";
        return Err(MaterialError::new(Which::Key, what, remedy));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        let what = format!("{shown} holds no key");
        let remedy = "write the path of a PEM file with a PKCS#8, PKCS#1 or SEC1 key";
        MaterialError::new(Which::Key, what, remedy)
    })
}
