//! Certificates for tests: the program's own, and what openssl makes of the same authority.

use std::fs;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::openssl::pem;
use super::server::text;
use super::{binary, run};

const QUICK: Duration = Duration::from_secs(20);

/// A directory of certificates, gone on drop.
pub(crate) struct Certs(TempDir);

impl Certs {
    /// By `tidegate certs`, with a set of a wrong authority in `wrong/`.
    pub(crate) fn make() -> Certs {
        let certs = Certs(tempfile::Builder::new().prefix("tidegate-e2e-").tempdir().unwrap());
        let mut command = Command::new(binary());
        command.args(["certs", "--wrong-ca", "--force", "--dir"]).arg(certs.0.path());
        run(&mut command, QUICK);
        certs
    }

    /// A file's whole path.
    pub(crate) fn path(&self, name: &str) -> String {
        text(&self.0.path().join(name))
    }

    /// `cert: …, key: …`, as a configuration has it.
    pub(crate) fn pair(&self, stem: &str) -> String {
        let file = |ending: &str| self.path(&format!("{stem}.{ending}"));
        format!("cert: \"{}\", key: \"{}\"", file("crt"), file("key"))
    }

    /// What a client shows: `-cert … -key …`, as openssl has it.
    pub(crate) fn shown(&self, stem: &str) -> [String; 4] {
        let file = |ending: &str| self.path(&format!("{stem}.{ending}"));
        ["-cert".into(), file("crt"), "-key".into(), file("key")]
    }

    /// Has openssl make a certificate, of a server or a client, whose common name is `stem`, with a
    /// key as `-newkey` takes it. Both files take the place of older ones in one step each.
    pub(crate) fn issue(&self, stem: &str, key: &[&str], names: &[&str]) {
        let alternative: Vec<String> = names.iter().map(|name| format!("DNS:{name}")).collect();
        let config = format!(
            "[req]\ndistinguished_name=dn\nx509_extensions=ext\nprompt=no\n[dn]\nCN={stem}\n[ext]\n\
             basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\nsubjectAltName={}\n",
            alternative.join(",")
        );
        let at = |name: &str| self.path(name);
        let (config_file, new) = (at("openssl.cnf"), [at("new.crt"), at("new.key")]);
        fs::write(&config_file, config).unwrap();
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-nodes", "-days", "365", "-config", &config_file]);
        command.args(["-CA", &at("ca.crt"), "-CAkey", &at("ca.key"), "-newkey"]).args(key);
        command.args(["-out", &new[0], "-keyout", &new[1]]);
        run(&mut command, QUICK);
        for (new, ending) in new.iter().zip(["crt", "key"]) {
            fs::rename(new, at(&format!("{stem}.{ending}"))).unwrap();
        }
    }

    /// The certificate in a file, PEM.
    pub(crate) fn certificate(&self, stem: &str) -> Option<String> {
        pem(&fs::read_to_string(self.path(&format!("{stem}.crt"))).unwrap_or_default())
    }

    /// Writes a key the way it was written before PKCS#8: PKCS#1 or SEC1.
    pub(crate) fn make_traditional(&self, stem: &str) {
        let (key, new) = (self.path(&format!("{stem}.key")), self.path("new.key"));
        let arguments = ["pkey", "-traditional", "-in", &key, "-out", &new];
        run(Command::new("openssl").args(arguments), QUICK);
        fs::rename(new, key).unwrap();
    }

    /// Certificate and key in one file, as HAProxy reads them.
    pub(crate) fn bundle(&self, stem: &str) -> String {
        let read = |ending: &str| fs::read(self.path(&format!("{stem}.{ending}"))).unwrap();
        let bundle = self.path(&format!("{stem}.pem"));
        fs::write(&bundle, [read("crt"), read("key")].concat()).unwrap();
        bundle
    }

    /// Has the authority say that a certificate is good: an OCSP response.
    pub(crate) fn staple(&self, stem: &str) -> String {
        let (cert, ca) = (self.path(&format!("{stem}.crt")), self.path("ca.crt"));
        let serial = self.serial(stem);
        let index = self.path("index.txt");
        fs::write(&index, format!("V\t491231235959Z\t\t{serial}\tunknown\t/CN={stem}\n")).unwrap();
        let staple = self.path(&format!("{stem}.der"));
        let mut command = Command::new("openssl");
        command.args(["ocsp", "-index", &index, "-CA", &ca, "-issuer", &ca, "-cert", &cert]);
        command.args(["-rsigner", &ca, "-rkey", &self.path("ca.key"), "-ndays", "7"]);
        command.args(["-respout", &staple]);
        run(&mut command, QUICK);
        staple
    }

    /// Has the authority revoke a certificate: it alone is on `ca.crl` from then on.
    pub(crate) fn revoke(&self, stem: &str) {
        let (serial, index) = (self.serial(stem), self.path("index.txt"));
        let line = format!("R\t491231235959Z\t250101000000Z\t{serial}\tunknown\t/CN={stem}\n");
        fs::write(&index, line).unwrap();
        let (number, config, new) =
            (self.path("number"), self.path("ca.cnf"), self.path("new.crl"));
        fs::write(&number, "02\n").unwrap();
        let text = format!(
            "[ca]\ndefault_ca=own\n[own]\ndatabase={index}\ncrlnumber={number}\ndefault_md=sha256\n\
             default_crl_days=7\ncrl_extensions=ext\n[ext]\nauthorityKeyIdentifier=keyid\n"
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("openssl");
        command.args(["ca", "-gencrl", "-config", &config, "-out", &new]);
        command.args(["-cert", &self.path("ca.crt"), "-keyfile", &self.path("ca.key")]);
        run(&mut command, QUICK);
        fs::rename(new, self.path("ca.crl")).unwrap();
    }

    fn serial(&self, stem: &str) -> String {
        let cert = self.path(&format!("{stem}.crt"));
        let told =
            run(Command::new("openssl").args(["x509", "-noout", "-serial", "-in", &cert]), QUICK);
        told.trim().trim_start_matches("serial=").to_owned()
    }
}
