//! Whom the client trusts, and as whom it comes: files as `tidegate certs` writes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::net::tls::{Certificate, CertificateFiles, MaterialError, OriginatePlan, Roots, Trust};

/// Which files.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Where they lie.
    pub dir: PathBuf,
    /// As whom to come: `dir`/`id`.crt and .key; `None`: without a certificate.
    pub id: Option<String>,
    /// Instead of `dir`/ca.crt.
    pub ca: Option<PathBuf>,
    /// Instead of those of `id`: the certificate and its key.
    pub pair: Option<(PathBuf, PathBuf)>,
    /// The name that the server must prove; `None`: that which we connect to.
    pub server_name: Option<String>,
}

/// Why the client cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// No file of such a client.
    #[error("{} has no certificate of `{id}`; {}", .dir.display(), remedy(.there))]
    Nobody {
        /// Who was asked for.
        id: String,
        /// Where it was looked for.
        dir: PathBuf,
        /// Who is there.
        there: Vec<String>,
    },
    /// No directory.
    #[error(
        "there is no {}; `tidegate certs --dir {}` makes it, `--certs` names another, `--plain` does \
         without TLS",
        .0.display(), .1.display()
    )]
    NoFiles(PathBuf, PathBuf),
    /// A file.
    #[error(transparent)]
    File(#[from] MaterialError),
    /// The name, say.
    #[error("TLS cannot be set up: {0}; choose another `--server-name`")]
    Setup(String),
}

impl Credentials {
    /// Reads them.
    ///
    /// # Errors
    /// A file is not there, or holds something else.
    pub fn read(self) -> Result<OriginatePlan, CredentialsError> {
        let ca = match self.ca {
            Some(ca) => ca,
            None => {
                let ca = self.dir.join("ca.crt");
                if !ca.exists() {
                    return Err(CredentialsError::NoFiles(ca, self.dir));
                }
                ca
            }
        };
        let files = match (self.pair, self.id) {
            (Some(pair), _) => Some(pair),
            (None, None) => None,
            (None, Some(id)) => {
                let file = |ending| self.dir.join(format!("{id}.{ending}"));
                if !file("crt").exists() {
                    let there = clients_in(&self.dir);
                    return Err(CredentialsError::Nobody { id, dir: self.dir, there });
                }
                Some((file("crt"), file("key")))
            }
        };
        let read = |(cert, key)| Certificate::read(CertificateFiles { cert, key, ocsp: None });
        Ok(OriginatePlan {
            trust: Trust::Roots(Arc::new(Roots::read(ca)?)),
            server_name: self.server_name,
            certificate: files.map(read).transpose()?.map(Arc::new),
        })
    }
}

/// Whose certificates lie in `dir`.
fn clients_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let name = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_suffix(".crt").map(str::to_owned)
    };
    let own = |name: &String| !["ca", "server"].contains(&name.as_str());
    let mut names: Vec<_> = entries.filter_map(name).filter(own).collect();
    names.sort();
    names
}

fn remedy(there: &[String]) -> String {
    match there {
        [] => "`tidegate certs` makes some; `--certs` names another directory".to_owned(),
        there => format!("there are: {}", there.join(", ")),
    }
}
