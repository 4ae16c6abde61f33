//! The PROXY protocol, versions 1 and 2: a header before the first byte that says who the client is.

/// Which version is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderVersion {
    /// One line of text.
    V1,
    /// Binary, with TLVs.
    V2,
}
