//! Revocation lists as their file holds them.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;

use rustls::pki_types::CertificateRevocationListDer;
use x509_cert::certificate::Rfc5280;
use x509_cert::crl::CertificateList;
use x509_cert::der::{Decode as _, Encode as _, Error};
use x509_cert::time::Time;

use super::dates::{Dated, DatedKind};
use super::material::{MaterialError, Which, parse, read};
use super::names::short;

/// The object identifier of the extension that names an issuing distribution point.
const DISTRIBUTION_POINT: &str = "2.5.29.28";

/// Certificate revocation lists.
#[derive(Clone, PartialEq)]
pub struct Revoked {
    /// Where they were read.
    pub file: PathBuf,
    pub(super) lists: Vec<CertificateRevocationListDer<'static>>,
    /// What each of them says of itself.
    about: Vec<About>,
}

/// What a list says of itself.
#[derive(Clone, PartialEq)]
struct About {
    /// The issuer's name, DER.
    issuer: Vec<u8>,
    /// Of which part of its certificates it speaks (the issuing distribution point, DER); `None`: of all.
    part: Option<Vec<u8>>,
    /// To call it by.
    name: String,
    from_ms: u64,
    /// When a newer one is due.
    until_ms: Option<u64>,
}

impl Revoked {
    /// Reads revocation lists, PEM or a single one in DER. Where an issuer has several about the same, only
    /// the newest counts.
    ///
    /// # Errors
    /// The file cannot be read, holds no list, or one that is broken.
    pub fn read(file: PathBuf) -> Result<Revoked, MaterialError> {
        let bytes = read(Which::Crl, &file)?;
        let lists = if bytes.first() == Some(&0x30) {
            vec![CertificateRevocationListDer::from(bytes)]
        } else {
            parse(Which::Crl, &file, &bytes, "revocation list")?
        };
        let about =
            lists.iter().map(About::of).collect::<Result<Vec<_>, _>>().map_err(|error| {
                let what = format!("a revocation list of {} is broken: {error}", file.display());
                MaterialError::new(
                    Which::Crl,
                    what,
                    "have its authority issue it anew, in version 2",
                )
            })?;
        let mut all: Vec<_> = lists.into_iter().zip(about).collect();
        all.sort_by_key(|(_, about)| std::cmp::Reverse(about.from_ms));
        let mut seen = HashSet::new();
        all.retain(|(_, about)| seen.insert((about.issuer.clone(), about.part.clone())));
        let (lists, about) = all.into_iter().unzip();
        Ok(Revoked { file, lists, about })
    }

    /// The lists with their dates, where a newer one is due at all.
    pub fn dated(&self) -> impl Iterator<Item = Dated> {
        self.about.iter().filter_map(|about| {
            Some(Dated {
                kind: DatedKind::RevocationList,
                file: self.file.clone(),
                name: about.name.clone(),
                serial: String::new(),
                from_ms: about.from_ms,
                until_ms: about.until_ms?,
            })
        })
    }

    /// Whether one is of the issuer with this name, DER.
    pub(super) fn is_of(&self, issuer: &[u8]) -> bool {
        self.about.iter().any(|about| about.issuer == issuer)
    }

    /// The lists, DER.
    pub fn der(&self) -> impl Iterator<Item = &[u8]> {
        self.lists.iter().map(AsRef::as_ref)
    }
}

impl About {
    fn of(list: &CertificateRevocationListDer<'_>) -> Result<About, Error> {
        let CertificateList { tbs_cert_list: list, .. } =
            CertificateList::<Rfc5280>::from_der(list)?;
        let millis = |time: Time| time.to_unix_duration().as_millis() as u64;
        let part = list
            .crl_extensions
            .iter()
            .flatten()
            .find(|extension| extension.extn_id.to_string() == DISTRIBUTION_POINT);
        Ok(About {
            issuer: list.issuer.to_der()?,
            part: part.map(|part| part.extn_value.as_bytes().to_vec()),
            name: short(&list.issuer),
            from_ms: millis(list.this_update),
            until_ms: list.next_update.map(millis),
        })
    }
}

impl fmt::Debug for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Revoked").field(&self.file).finish()
    }
}
