//! Sockets: options, listeners that never die, relay and splice, names; and what else is asked of the
//! system. The only room with `unsafe`.

pub mod connect;
pub mod descriptors;
pub mod fetch;
pub mod hello;
pub mod listener;
pub mod options;
pub mod priority;
pub mod proxy_header;
pub mod relay;
pub mod resolver;
pub mod tls;

pub use connect::{connect, is_own_lack};
pub use descriptors::{connections_for, raise_descriptor_limit};
pub use fetch::fetch_soon;
pub use hello::{Hello, HelloFault, read_hello};
pub use listener::{PauseCause, Pauses, poll_accept};
pub use options::{Keepalive, TcpOptions, bind_listener, bind_listeners, bind_udp};
pub use priority::run_first;
pub use proxy_header::{
    Header, HeaderFault, HeaderVersion, TlsTold, Told, read_header, write_header, write_local,
};
pub use relay::{End, Leg, Meter, Side, Terms, relay, relay_legs};
pub use resolver::{ResolveError, Resolved, Resolver};
