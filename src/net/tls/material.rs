//! Certificates, keys, authorities and revocation lists as their files hold them.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore, SignatureAlgorithm};

use super::names::Facts;
use super::provider;

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

/// Certificates that vouch for others, or for themselves.
#[derive(Clone, PartialEq)]
pub struct Roots {
    /// Where they were read.
    pub file: PathBuf,
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

/// Certificate revocation lists.
#[derive(Clone, PartialEq)]
pub struct Revoked {
    /// Where they were read.
    pub file: PathBuf,
    pub(super) lists: Vec<CertificateRevocationListDer<'static>>,
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
    fn new(which: Which, what: String, remedy: &str) -> Self {
        MaterialError { which, what, remedy: remedy.to_owned() }
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
        let mut certified = CertifiedKey::from_der(chain, key.clone_key(), provider())
            .map_err(|error| unfit(&files, &error))?;
        certified.ocsp = files.ocsp.as_deref().map(read_ocsp).transpose()?;
        Ok(Certificate { files, facts, key, certified: Arc::new(certified) })
    }

    /// All files it was read from.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let CertificateFiles { cert, key, ocsp } = &self.files;
        [Some(cert), Some(key), ocsp.as_ref()].into_iter().flatten().map(PathBuf::as_path)
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

    pub(super) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
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
        error => MaterialError::new(
            Which::Key,
            format!("{key} holds a key that cannot be used: {error}"),
            "use RSA of 2048 bits or more, ECDSA P-256, P-384 or P-521, or Ed25519",
        ),
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
            && self.key == other.key
            && self.certified.cert == other.certified.cert
            && self.certified.ocsp == other.certified.ocsp
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Roots {
    /// Reads certificates, PEM.
    ///
    /// # Errors
    /// The file cannot be read, holds no certificate, or one that is broken.
    pub fn read(file: PathBuf) -> Result<Roots, MaterialError> {
        let certificates = all(Which::Ca, &file, "certificate")?;
        let roots = Roots { file, certificates };
        for certificate in &roots.certificates {
            Facts::of(certificate).map_err(|error| {
                let what = format!("a certificate of {} is broken: {error}", roots.file.display());
                MaterialError::new(Which::Ca, what, "take it out, or have it issued anew")
            })?;
        }
        Ok(roots)
    }

    /// What the certificates say of themselves.
    pub fn facts(&self) -> impl Iterator<Item = Facts> {
        self.certificates.iter().filter_map(|certificate| Facts::of(certificate).ok())
    }

    /// The certificates, DER.
    pub fn der(&self) -> impl Iterator<Item = &[u8]> {
        self.certificates.iter().map(AsRef::as_ref)
    }

    pub(super) fn store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        // Each was looked at when it was read; one that webpki does not take vouches for nobody.
        store.add_parsable_certificates(self.certificates.iter().cloned());
        store
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Roots").field(&self.file).finish()
    }
}

impl Revoked {
    /// Reads revocation lists, PEM or a single one in DER.
    ///
    /// # Errors
    /// The file cannot be read or holds no list.
    pub fn read(file: PathBuf) -> Result<Revoked, MaterialError> {
        let bytes = read(Which::Crl, &file)?;
        let lists = if bytes.first() == Some(&0x30) {
            vec![CertificateRevocationListDer::from(bytes)]
        } else {
            parse(Which::Crl, &file, &bytes, "revocation list")?
        };
        Ok(Revoked { file, lists })
    }

    /// The lists, DER.
    pub fn der(&self) -> impl Iterator<Item = &[u8]> {
        self.lists.iter().map(AsRef::as_ref)
    }
}

impl fmt::Debug for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Revoked").field(&self.file).finish()
    }
}

fn read(which: Which, path: &Path) -> Result<Vec<u8>, MaterialError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
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
fn all<T: PemObject>(which: Which, path: &Path, kind: &str) -> Result<Vec<T>, MaterialError> {
    parse(which, path, &read(which, path)?, kind)
}

fn parse<T: PemObject>(
    which: Which,
    path: &Path,
    bytes: &[u8],
    kind: &str,
) -> Result<Vec<T>, MaterialError> {
    let shown = path.display();
    let found = T::pem_slice_iter(bytes).collect::<Result<Vec<T>, _>>().map_err(|error| {
        let what = format!("{shown} is no sound PEM file: {error}");
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

fn read_ocsp(path: &Path) -> Result<Vec<u8>, MaterialError> {
    let bytes = read(Which::Ocsp, path)?;
    // OCSPResponse is a SEQUENCE that begins with an ENUMERATED status, 0: successful.
    let header = match bytes.get(1) {
        Some(length) if *length < 0x80 => 2,
        Some(length) => 2 + usize::from(length & 0x7f),
        None => 0,
    };
    if bytes.first() == Some(&0x30) && bytes.get(header..header + 3) == Some(&[0x0a, 1, 0]) {
        return Ok(bytes);
    }
    let what = format!("{} is no successful OCSP response", path.display());
    let remedy = "fetch one in DER: `openssl ocsp -respout FILE …`";
    Err(MaterialError::new(Which::Ocsp, what, remedy))
}
