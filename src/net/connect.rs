//! Opening a connection to a backend.

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

use super::TcpOptions;

/// Connects to `addr` with the `nodelay` of `opts`; keepalive is the relay's to set, when the
/// connection has proved to last. Belongs to the runtime that it is awaited on. The caller bounds
/// the time; dropping the future gives the attempt up.
///
/// # Errors
/// Those of the system: refused, unreachable, no descriptor or no local port left.
pub async fn connect(addr: SocketAddr, opts: &TcpOptions) -> io::Result<TcpStream> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    opts.apply_nodelay(&SockRef::from(&socket))?;
    socket.connect(addr).await
}

/// Whether a failed connect says nothing of whom it was to reach: this process or machine is out of
/// descriptors, buffers or memory.
pub fn is_own_lack(error: &io::Error) -> bool {
    let lacks = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| lacks.contains(&code))
}
