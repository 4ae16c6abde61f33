//! What a certificate says of itself: whose it is, and until when.

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Error, Tag, asn1};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use crate::base::Identity;

/// The common name's object identifier.
const COMMON_NAME: &str = "2.5.4.3";

/// What is read off a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its names.
    pub identity: Identity,
    /// From when on it is good, milliseconds since 1970.
    pub not_before_ms: u64,
    /// When it ends to be, milliseconds since 1970.
    pub not_after_ms: u64,
    /// The serial number, hex.
    pub serial: String,
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
                    GeneralName::DnsName(name) => identity.dns.push(name.as_str().to_owned()),
                    GeneralName::UniformResourceIdentifier(uri) => {
                        identity.uris.push(uri.as_str().to_owned());
                    }
                    _ => {}
                }
            }
        }
        let serial = certificate.serial_number().as_bytes();
        Ok(Facts {
            identity,
            not_before_ms: millis(&validity.not_before),
            not_after_ms: millis(&validity.not_after),
            serial: serial.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }
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
