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
    facts: Vec<Facts>,
}

impl Roots {
    /// Reads certificates, PEM.
    ///
    /// # Errors
    /// The file cannot be read, holds no certificate, or one that is broken.
    pub fn read(file: PathBuf) -> Result<Roots, MaterialError> {
        let certificates = all(Which::Ca, &file, "certificate")?;
        let facts =
            certificates.iter().map(Facts::of).collect::<Result<_, _>>().map_err(|error| {
                let what = format!("a certificate of {} is broken: {error}", file.display());
                MaterialError::new(Which::Ca, what, "take it out, or have it issued anew")
            })?;
        Ok(Roots { file, certificates, facts })
    }

    /// The authorities with their dates.
    pub fn dated(&self) -> impl Iterator<Item = Dated> {
        self.facts.iter().map(|facts| facts.dated(DatedKind::Authority, &self.file))
    }

    /// Of these, who has no list in `revoked`: the names to call them by.
    pub fn without_list(&self, revoked: &Revoked) -> Vec<&str> {
        let none = |certificate: &CertificateDer<'_>| {
            subject(certificate).is_some_and(|subject| !revoked.is_of(&subject))
        };
        let all = self.certificates.iter().zip(&self.facts);
        all.filter(|(certificate, _)| none(certificate)).map(|(_, facts)| facts.name()).collect()
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
