//! Listeners by address: bound once, carried over by every reload that still wants them.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::base::ListenAddr;
use crate::net::{TcpOptions, bind_listener, bind_listeners};
use crate::proxy::Workers;

/// The addresses that the workers accept on now.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    open: BTreeSet<ListenAddr>,
}

/// New sockets, bound but not yet accepting: dropping this undoes the binding.
#[derive(Debug)]
pub(super) struct Bound {
    sockets: Vec<(ListenAddr, Vec<TcpListener>)>,
    wanted: BTreeSet<ListenAddr>,
}

/// An address that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}{}", remedy(.error))]
pub struct ListenError {
    address: SocketAddr,
    error: io::Error,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program listens there (see `ss -ltnp`): stop it, or choose another port"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE: grant it, or choose another port"
        }
        io::ErrorKind::AddrNotAvailable => "; this host has no such address",
        _ => "",
    }
}

impl Listeners {
    /// Binds what `wanted` names and is not open yet: one socket per worker and address.
    pub(super) fn bind(
        &self,
        wanted: impl IntoIterator<Item = SocketAddr>,
        workers: usize,
        tcp: &TcpOptions,
    ) -> Result<Bound, ListenError> {
        let wanted: BTreeSet<ListenAddr> = wanted.into_iter().map(ListenAddr).collect();
        let sockets = wanted
            .difference(&self.open)
            .map(|&address| {
                // Beside a wider or narrower listener of our own, which this reload closes, the
                // address cannot be ours alone yet.
                let beside_own = self.open.iter().any(|open| open.overlaps(address));
                let sockets = if beside_own {
                    (0..workers).map(|_| bind_listener(address.0, tcp)).collect()
                } else {
                    bind_listeners(address.0, workers, tcp)
                };
                sockets
                    .map(|sockets| (address, sockets))
                    .map_err(|error| ListenError { address: address.0, error })
            })
            .collect::<Result<_, _>>()?;
        Ok(Bound { sockets, wanted })
    }

    /// Closes what `bound` no longer wants, once everybody in its accept queue was taken in: by the
    /// snapshot that is published now.
    pub(super) async fn close_unwanted(&self, bound: &Bound, workers: &Workers) {
        for gone in self.open.difference(&bound.wanted) {
            workers.unlisten(*gone);
        }
        workers.settled().await;
    }

    /// Hands the new sockets to the workers. Publish the snapshot that knows them first.
    pub(super) fn open(&mut self, bound: Bound, workers: &Workers) {
        for (address, sockets) in bound.sockets {
            workers.listen(address, sockets);
        }
        self.open = bound.wanted;
    }
}
