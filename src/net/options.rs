//! Options of the sockets we open and accept, and binding.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// The `tcp:` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// TCP_NODELAY on both sides.
    pub nodelay: bool,
    /// Kernel keepalive.
    pub keepalive: Keepalive,
    /// Accept queue of each listener.
    pub backlog: u32,
    /// Handshakes (connections that are not yet relayed) under way per listener on each worker;
    /// beyond, those who come wait in the kernel's accept queue.
    pub max_handshakes: u32,
}

/// Kernel keepalive of both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe; zero switches keepalive off.
    pub idle: Duration,
    /// Between probes.
    pub interval: Duration,
    /// Unanswered probes that end the connection.
    pub count: u32,
}

impl Default for TcpOptions {
    fn default() -> Self {
        TcpOptions {
            nodelay: true,
            keepalive: Keepalive {
                idle: Duration::from_secs(60),
                interval: Duration::from_secs(10),
                count: 6,
            },
            backlog: 4096,
            max_handshakes: 1024,
        }
    }
}

impl TcpOptions {
    /// Sets the per-connection options on a listening socket. Sockets accepted from it inherit them
    /// (Linux copies TCP_NODELAY and the keepalive settings), so that accepting costs no calls.
    pub(crate) fn apply(&self, socket: SockRef<'_>) -> io::Result<()> {
        self.apply_nodelay(&socket)?;
        self.keepalive.apply(&socket)
    }

    pub(crate) fn apply_nodelay(&self, socket: &SockRef<'_>) -> io::Result<()> {
        if self.nodelay { socket.set_tcp_nodelay(true) } else { Ok(()) }
    }
}

impl Keepalive {
    /// Four system calls, so a socket that may close at once is not bothered with it.
    pub(crate) fn apply(&self, socket: &SockRef<'_>) -> io::Result<()> {
        if self.idle.is_zero() {
            return Ok(());
        }
        // The kernel counts whole seconds and takes no zero.
        let second = Duration::from_secs(1);
        socket.set_tcp_keepalive(
            &TcpKeepalive::new()
                .with_time(self.idle.max(second))
                .with_interval(self.interval.max(second))
                .with_retries(self.count.max(1)),
        )
    }
}

/// A listening socket that shares its address with others of its kind (`SO_REUSEPORT`): one per
/// worker. Non-blocking. `[::]` also hears IPv4, whatever the system's default is.
///
/// # Errors
/// Those of the system: the address is in use, not ours, or below 1024 without the right.
pub fn bind_listener(addr: SocketAddr, opts: &TcpOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    opts.apply(SockRef::from(&socket))?;
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(opts.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// `count` listening sockets on one address, one for each worker; port 0 becomes the same free
/// port for all of them.
///
/// # Errors
/// As [`bind_listener`]; and the address is in use when *anything* listens there already:
/// `SO_REUSEPORT` alone would let a second process silently take half of the connections.
pub fn bind_listeners(
    addr: SocketAddr,
    count: usize,
    opts: &TcpOptions,
) -> io::Result<Vec<TcpListener>> {
    refuse_shared(addr)?;
    let first = bind_listener(addr, opts)?;
    let bound = first.local_addr()?;
    let mut all = vec![first];
    for _ in 1..count {
        all.push(bind_listener(bound, opts)?);
    }
    Ok(all)
}

/// Binds without `SO_REUSEPORT` and lets go again: fails where somebody listens.
fn refuse_shared(addr: SocketAddr) -> io::Result<()> {
    if addr.port() == 0 {
        return Ok(());
    }
    let probe = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        // Only this family is asked for: `0.0.0.0` and `[::]` may both be configured.
        probe.set_only_v6(true)?;
    }
    probe.set_reuse_address(true)?;
    probe.bind(&addr.into())
}

/// A bound, non-blocking UDP socket.
///
/// # Errors
/// Those of the system: the address is in use or not ours.
pub fn bind_udp(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn all_workers_get_the_same_free_port() {
        let listeners = bind_listeners(any(), 3, &TcpOptions::default()).unwrap();
        let ports: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
        assert_eq!(ports.len(), 3);
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    }

    #[test]
    fn an_address_where_somebody_listens_is_refused() {
        let first = bind_listeners(any(), 2, &TcpOptions::default()).unwrap();
        let taken = first[0].local_addr().unwrap();
        let error = bind_listeners(taken, 2, &TcpOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        bind_listeners(taken, 2, &TcpOptions::default()).unwrap();
    }

    #[test]
    fn accepted_connections_inherit_the_options() {
        let opts = TcpOptions {
            keepalive: Keepalive {
                idle: Duration::from_secs(7),
                interval: Duration::from_secs(3),
                count: 2,
            },
            ..TcpOptions::default()
        };
        let listener = bind_listener(any(), &opts).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), Duration::from_secs(7));
        assert_eq!(accepted.tcp_keepalive_interval().unwrap(), Duration::from_secs(3));
        assert_eq!(accepted.tcp_keepalive_retries().unwrap(), 2);
    }
}
