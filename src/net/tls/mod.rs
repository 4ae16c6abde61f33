//! TLS: what is shown and believed (`plan`, `material`, `roots`, `revoked`, `names`, `dates`), and the
//! sessions themselves.

mod clients;
mod dates;
mod fault;
mod machine;
mod material;
mod names;
#[cfg(test)]
#[path = "../../../tests/support/ocsp.rs"]
pub(crate) mod ocsp;
mod originate;
pub mod plan;
mod remembered;
mod revoked;
mod roots;
pub mod route;
mod session;
mod staple;
mod terminate;
mod tickets;

use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use dates::{Dated, DatedKind};
pub use fault::HandshakeFault;
pub use material::{Certificate, CertificateFiles, MaterialError, Which};
pub use names::Facts;
pub use originate::Originator;
pub use plan::{
    ClientsPlan, OriginatePlan, ServedPlan, TerminatePlan, TlsMode, TlsPlan, TlsVersion, Trust,
};
pub use revoked::Revoked;
pub use roots::Roots;
pub use route::TlsRoute;
pub use session::Session;
pub use terminate::{SetupError, Terminator};
pub use tickets::{MOST_TICKET, TICKET_LIFETIME, TicketKeys, TicketSecret, TicketSet};

/// The cryptography in use: AWS-LC, the post-quantum hybrid first.
pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
        Arc::new(CryptoProvider {
            kx_groups: vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1],
            ..aws_lc_rs::default_provider()
        })
    })
}
