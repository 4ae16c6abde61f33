//! Authorities, or pinned certificates, as their file holds them.

use std::fmt;
use std::path::PathBuf;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::dates::{Dated, DatedKind};
use super::material::{MaterialError, Which, all};
use super::names::{Facts, subject};
use super::revoked::Revoked;

/// Certificates that vouch for others, or for themselves.
#[derive(Clone, PartialEq)]
pub struct Roots {
    /// Where they were read.
    pub file: PathBuf,
    pub(super) certificates: Vec<CertificateDer<'static>>,
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

    /// The authorities with their dates.
    pub fn dated(&self) -> impl Iterator<Item = Dated> {
        self.facts().map(|facts| facts.dated(DatedKind::Authority, &self.file))
    }

    fn facts(&self) -> impl Iterator<Item = Facts> {
        self.certificates.iter().filter_map(|certificate| Facts::of(certificate).ok())
    }

    /// Of these, who has no list in `revoked`: the names to call them by.
    pub fn without_list(&self, revoked: &Revoked) -> Vec<String> {
        let none = |certificate: &&CertificateDer<'_>| {
            subject(certificate).is_some_and(|subject| !revoked.is_of(&subject))
        };
        let named = |certificate| {
            let facts = Facts::of(certificate).ok()?;
            Some(facts.dated(DatedKind::Authority, &self.file).name)
        };
        self.certificates.iter().filter(none).filter_map(named).collect()
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
