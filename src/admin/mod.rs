//! Admin: what is shown. Shapes, metrics, the listener; and the client that the commands use.

pub mod shapes;
pub mod sources;

pub use sources::{Metrics, Sources};
