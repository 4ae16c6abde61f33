//! What a certificate says of itself: whose it is, and until when.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode as _, Encode as _, Error, Tag, asn1};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectAltName};
use x509_cert::name::Name;

use super::dates::{Dated, DatedKind};
use crate::base::{Identity, hex};

/// The common name's object identifier.
const COMMON_NAME: &str = "2.5.4.3";
/// What an extended key usage may name (RFC 5280, 4.2.1.12).
const SERVERS: &str = "1.3.6.1.5.5.7.3.1";
const CLIENTS: &str = "1.3.6.1.5.5.7.3.2";
const ANYTHING: &str = "2.5.29.37.0";

/// What is read off a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its names.
    pub identity: Identity,
    /// The whole subject, as RFC 4514 writes it.
    pub subject: String,
    /// From when on it is good, milliseconds since 1970.
    pub not_before_ms: u64,
    /// When it ends to be, milliseconds since 1970.
    pub not_after_ms: u64,
    /// The serial number, hex.
    pub serial: String,
    /// Whether a server may show it. Without an extended key usage it is for everything.
    pub for_servers: bool,
    /// Whether a client may.
    pub for_clients: bool,
}

impl Facts {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// It is not one.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Facts, Error> {
        let certificate = Certificate::from_der(certificate)?;
        let certificate = certificate.tbs_certificate();
        let validity = certificate.validity();
        let millis = |time: &x509_cert::time::Time| time.to_unix_duration().as_millis() as u64;
        let mut identity =
            Identity { common_name: common_name(certificate.subject()), ..Identity::default() };
        if let Some((_, names)) = certificate.get_extension::<SubjectAltName>()? {
            for name in names.0 {
                match name {
                    // Upper or lower case is all the same (RFC 4343), so nobody need mind it below.
                    GeneralName::DnsName(name) => {
                        identity.dns.push(name.as_str().to_ascii_lowercase());
                    }
                    GeneralName::UniformResourceIdentifier(uri) => {
                        identity.uris.push(uri.as_str().to_owned());
                    }
                    _ => {}
                }
            }
        }
        let usage = certificate.get_extension::<ExtendedKeyUsage>()?;
        let is_for = |purpose: &str| {
            let named = |one: &ObjectIdentifier| [purpose, ANYTHING].contains(&&*one.to_string());
            usage.as_ref().is_none_or(|(_, usage)| usage.0.iter().any(named))
        };
        let serial = certificate.serial_number().as_bytes();
        Ok(Facts {
            identity,
            subject: certificate.subject().to_string(),
            not_before_ms: millis(&validity.not_before),
            not_after_ms: millis(&validity.not_after),
            serial: hex(serial),
            for_servers: is_for(SERVERS),
            for_clients: is_for(CLIENTS),
        })
    }

    /// To call it by.
    pub(super) fn name(&self) -> &str {
        match self.identity.name() {
            "" => &self.subject,
            name => name,
        }
    }

    /// The certificate in `file` among what has dates.
    pub(super) fn dated(&self, kind: DatedKind, file: &Path) -> Dated {
        Dated {
            kind,
            file: file.to_owned(),
            name: self.name().to_owned(),
            serial: self.serial.clone(),
            from_ms: self.not_before_ms,
            until_ms: self.not_after_ms,
        }
    }
}

/// The subject of a certificate in DER, itself in DER: what links an issuer to what it issued.
pub(super) fn subject(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    Certificate::from_der(certificate).ok()?.tbs_certificate().subject().to_der().ok()
}

/// To call an issuer by.
pub(super) fn short(name: &Name) -> String {
    common_name(name).unwrap_or_else(|| name.to_string())
}

/// The last of them, which is the most specific.
fn common_name(subject: &Name) -> Option<String> {
    subject.iter().filter(|part| part.oid.to_string() == COMMON_NAME).last().and_then(|part| {
        use x509_cert::der::Tagged as _;
        let value = &part.value;
        match value.tag() {
            Tag::Utf8String => value
                .decode_as::<asn1::Utf8StringRef<'_>>()
                .ok()
                .map(|text| text.as_str().to_owned()),
            Tag::PrintableString => value
                .decode_as::<asn1::PrintableStringRef<'_>>()
                .ok()
                .map(|text| text.as_str().to_owned()),
            Tag::Ia5String => value
                .decode_as::<asn1::Ia5StringRef<'_>>()
                .ok()
                .map(|text| text.as_str().to_owned()),
            Tag::TeletexString => value
                .decode_as::<asn1::TeletexStringRef<'_>>()
                .ok()
                .map(|text| text.as_str().to_owned()),
            _ => None,
        }
    })
}
