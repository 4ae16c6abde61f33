//! Who a client is, by the certificate it has shown.

use std::fmt;

/// The names of a verified client certificate. At least one, or nobody is identified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The subject's common name.
    pub common_name: Option<String>,
    /// Subject alternative names: URIs (SPIFFE).
    pub uris: Vec<String>,
    /// Subject alternative names: DNS.
    pub dns: Vec<String>,
}

impl Identity {
    /// Every name: the common name, URIs, DNS names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let texts = self.uris.iter().chain(&self.dns).map(String::as_str);
        self.common_name.as_deref().into_iter().chain(texts)
    }

    /// The name for logs and limits: the common name, else the first URI, else the first DNS name.
    pub fn name(&self) -> &str {
        self.names().next().unwrap_or("")
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
