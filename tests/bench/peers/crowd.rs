//! Many connections that have said one word and then rest.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};

use crate::Fault;
use crate::tls::Client;

/// One of them; it is only held.
#[expect(dead_code, reason = "held, so that it stays open")]
enum Stream {
    Bare(TcpStream),
    Sealed(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Connections held open; closed on drop.
pub(crate) struct Crowd {
    streams: Vec<Stream>,
}

impl Crowd {
    /// Opens `count` connections to a redis (behind a proxy or not), with TLS if there is a `client` for it. Each asks and is answered once: so it is proxied for certain, and the
    /// proxy has already used whatever it uses for a connection that works.
    pub(crate) fn open(
        at: SocketAddr,
        client: Option<&Client>,
        count: usize,
    ) -> Result<Crowd, Fault> {
        let mut streams = Vec::with_capacity(count);
        for nth in 0..count {
            let stream = open_one(at, client)
                .map_err(|error| format!("connection {nth} of {count}: {error}"))?;
            streams.push(stream);
        }
        Ok(Crowd { streams })
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }
}

fn open_one(at: SocketAddr, client: Option<&Client>) -> Result<Stream, Fault> {
    if let Some(client) = client {
        return Ok(Stream::Sealed(Box::new(client.open(at)?.0)));
    }
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    Ok(Stream::Bare(stream))
}
