//! Many connections that have said one word and then rest.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Fault;

/// Connections held open; closed on drop.
pub(crate) struct Crowd {
    streams: Vec<TcpStream>,
}

impl Crowd {
    /// Opens `count` connections to a redis (behind a proxy or not). Each asks and is answered once: so it is proxied for certain, and the
    /// proxy has already used whatever it uses for a connection that works.
    pub(crate) fn open(at: SocketAddr, count: usize) -> Result<Crowd, Fault> {
        let mut streams = Vec::with_capacity(count);
        for nth in 0..count {
            let stream =
                open_one(at).map_err(|error| format!("connection {nth} of {count}: {error}"))?;
            streams.push(stream);
        }
        Ok(Crowd { streams })
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }
}

fn open_one(at: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    Ok(stream)
}
