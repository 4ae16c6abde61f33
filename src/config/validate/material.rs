//! Files of TLS where the configuration names them: what is wrong with one is said at its key, and
//! what soon will be is a warning, once for each file.

use std::path::Path;
use std::sync::Arc;

use super::{Findings, beside};
use crate::base::time;
use crate::cluster::keyring::file::open_to_others;
use crate::net::tls::{
    Certificate, CertificateFiles, Dated, DatedKind, MaterialError, Revoked, Roots, Which,
};

impl Findings<'_> {
    /// Reads the certificate whose files stand under `at`, which is shown to clients.
    pub(super) fn server_certificate(
        &mut self,
        at: &str,
        cert: &Path,
        key: &Path,
        ocsp: Option<&Path>,
    ) -> Option<Arc<Certificate>> {
        let certificate = self.certificate(at, cert, key, ocsp)?;
        if !certificate.facts.for_servers {
            let what = "the certificate is for no server, by its extended key usage";
            self.warn(&format!("{at}.cert"), what, "clients will refuse it: show one for servers");
        }
        Some(certificate)
    }

    /// Reads the certificate whose files stand under `at`, which is shown to backends.
    pub(super) fn client_certificate(
        &mut self,
        at: &str,
        cert: &Path,
        key: &Path,
    ) -> Option<Arc<Certificate>> {
        let certificate = self.certificate(at, cert, key, None)?;
        if !certificate.facts.for_clients {
            let what = "the certificate is for no client, by its extended key usage";
            self.warn(&format!("{at}.cert"), what, "backends will refuse it: show one for clients");
        }
        Some(certificate)
    }

    fn certificate(
        &mut self,
        at: &str,
        cert: &Path,
        key: &Path,
        ocsp: Option<&Path>,
    ) -> Option<Arc<Certificate>> {
        let [cert, key] = [cert, key].map(|path| beside(self.dir, path));
        let ocsp = ocsp.map(|path| beside(self.dir, path));
        let read = self.shelf.certificate(CertificateFiles { cert, key, ocsp });
        let certificate = self.or_fault(read, |which| match which {
            Which::Key => format!("{at}.key"),
            Which::Ocsp => format!("{at}.ocsp"),
            _ => format!("{at}.cert"),
        })?;
        let CertificateFiles { cert, key, .. } = &certificate.files;
        if self.told.insert(cert.clone()) {
            for dated in certificate.dated() {
                let key = if dated.kind == DatedKind::OcspResponse { "ocsp" } else { "cert" };
                self.judge_dates(&format!("{at}.{key}"), &dated);
            }
        }
        if self.told.insert(key.clone()) && open_to_others(key) {
            let what = format!("others than its owner may read {}", key.display());
            self.warn(&format!("{at}.key"), what, format!("chmod 600 {}", key.display()));
        }
        Some(certificate)
    }

    /// Reads the authorities that `field` names.
    pub(super) fn authorities(&mut self, field: &str, file: &Path) -> Option<Arc<Roots>> {
        let roots = self.roots(field, file)?;
        if self.told.insert(roots.file.clone()) {
            roots.dated().for_each(|dated| self.judge_dates(field, &dated));
        }
        Some(roots)
    }

    /// Reads the certificates that `field` names, of which no date counts.
    pub(super) fn roots(&mut self, field: &str, file: &Path) -> Option<Arc<Roots>> {
        let read = self.shelf.roots(beside(self.dir, file));
        self.or_fault(read, |_| field.to_owned())
    }

    /// Reads the revocation lists that `field` names.
    pub(super) fn revoked(&mut self, field: &str, file: &Path) -> Option<Arc<Revoked>> {
        let read = self.shelf.revoked(beside(self.dir, file));
        let revoked = self.or_fault(read, |_| field.to_owned())?;
        if self.told.insert(revoked.file.clone()) {
            revoked.dated().for_each(|dated| self.judge_dates(field, &dated));
        }
        Some(revoked)
    }

    /// How many certificate authorities this machine trusts.
    pub(super) fn system_roots(&mut self) -> usize {
        *self
            .system_roots
            .get_or_insert_with(|| rustls_native_certs::load_native_certs().certs.len())
    }

    fn or_fault<T>(
        &mut self,
        read: Result<Arc<T>, MaterialError>,
        field: impl FnOnce(Which) -> String,
    ) -> Option<Arc<T>> {
        read.map_err(|error| self.fault(&field(error.which), error.what, error.remedy)).ok()
    }

    fn judge_dates(&mut self, field: &str, dated: &Dated) {
        if let Some(trouble) = dated.trouble(time::unix_ms()) {
            self.warn(field, format!("{} {trouble}", dated.subject()), dated.remedy());
        }
    }
}
