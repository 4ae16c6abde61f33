//! Certificates for the tests of this room: nothing verifies them, they are only read.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm, date_time_ymd,
};

use crate::base::time;
pub(super) use crate::net::tls::ocsp;

const DAY: u64 = 24 * 3600;
/// Of all certificates, if nothing else is said.
const SERIAL: [u8; 2] = [0x0a, 1];
const NAME: &str = "test";

/// How a certificate is to be.
pub(super) struct Made<'a> {
    pub(super) names: &'a [&'a str],
    /// From today on, and until then.
    pub(super) from_day: i64,
    pub(super) until_day: i64,
    pub(super) algorithm: &'static SignatureAlgorithm,
    pub(super) serial: &'a [u8],
    /// What it is for; nothing: everything.
    pub(super) purposes: &'a [ExtendedKeyUsagePurpose],
}

impl Default for Made<'_> {
    fn default() -> Self {
        let algorithm = &PKCS_ECDSA_P256_SHA256;
        Made { names: &[], from_day: -1, until_day: 300, algorithm, serial: &SERIAL, purposes: &[] }
    }
}

/// Another kind of key.
pub(super) static OTHER_KIND: &SignatureAlgorithm = &PKCS_ED25519;

impl Made<'_> {
    /// Writes `stem`.crt and `stem`.key.
    pub(super) fn write(self, stem: &Path) {
        let key = KeyPair::generate_for(self.algorithm).unwrap();
        let names: Vec<String> = self.names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, NAME);
        params.serial_number = Some(self.serial.to_vec().into());
        params.extended_key_usages = self.purposes.to_vec();
        let today = (time::unix_ms() / 1000 / DAY) as i64;
        let day = |day: i64| {
            let since = std::time::Duration::from_secs((today + day) as u64 * DAY);
            date_time_ymd(1970, 1, 1) + since
        };
        (params.not_before, params.not_after) = (day(self.from_day), day(self.until_day));
        let certificate = params.self_signed(&key).unwrap();
        fs::write(stem.with_added_extension("crt"), certificate.pem()).unwrap();
        let file = stem.with_added_extension("key");
        fs::write(&file, key.serialize_pem()).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// Writes `stem`.crt and `stem`.key.
pub(super) fn write(stem: &Path, names: &[&str]) {
    Made { names, ..Made::default() }.write(stem);
}

/// Writes an empty revocation list, of the issuer that all certificates here name.
pub(super) fn write_crl(file: &Path) {
    write_list(file, NAME, 2120);
}

/// Writes an empty revocation list of an issuer, which holds until that year.
pub(super) fn write_list(file: &Path, issuer: &str, until: i32) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, issuer);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::CrlSign];
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(until, 1, 1),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&Issuer::new(params, key)).unwrap();
    fs::write(file, list.pem().unwrap()).unwrap();
}

/// Writes an OCSP response about every certificate that [`write()`] made.
pub(super) fn write_ocsp(file: &Path) {
    write_response(file, ocsp::GOOD, None);
}

/// Writes an OCSP response that says so, and until when.
pub(super) fn write_response(file: &Path, status: &[u8], next_update: Option<&str>) {
    fs::write(file, ocsp::response(&SERIAL, status, next_update)).unwrap();
}

/// Writes every file of TLS that `text` names, under `dir`.
pub(super) fn write_all_of(text: &str, dir: &Path) {
    let words = text.split(|c: char| c.is_whitespace() || "{}[],\"".contains(c));
    for file in words.map(|word| dir.join(word.trim_start_matches("./"))) {
        fs::create_dir_all(file.parent().unwrap_or(dir)).unwrap();
        match file.extension().and_then(|ending| ending.to_str()) {
            Some("crt") if !file.exists() => {
                let names = ["localhost", "*.example.com", "www.example.com"];
                write(&file.with_extension(""), &names);
            }
            Some("crl") => write_crl(&file),
            Some("der") => write_ocsp(&file),
            _ => {}
        }
    }
}
