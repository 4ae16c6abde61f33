//! Reads a TLS ClientHello without taking part in the handshake: where a connection that is passed
//! through wants to go. Pure and incremental: it is asked again with more bytes until it has an answer,
//! and an answer never changes by what comes after.
//!
//! With Encrypted Client Hello it is the outer hello that is read, and so the public name: the inner
//! one is for whoever has the key, and the public name is what should route to them.

use std::borrow::Cow;
use std::net::IpAddr;

/// Bytes after which a hello should have ended, record headers included. Hellos of today have one or
/// two thousand.
pub const LARGEST_HELLO: usize = 16 * 1024;

/// What a client said that it wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The server name (SNI), in lower case and without a dot at the end; an IP address is no name.
    pub server_name: Option<String>,
    /// The protocols that it offers (ALPN), the dearest first.
    pub alpn: Vec<Vec<u8>>,
}

/// Why there is no hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloFault {
    /// The client speaks something else.
    #[error("this is no TLS")]
    NotTls,
    /// It begins like TLS.
    #[error("the ClientHello is malformed: {0}")]
    Malformed(&'static str),
    /// No end within [`LARGEST_HELLO`].
    #[error("the ClientHello is longer than {LARGEST_HELLO} bytes")]
    TooLarge,
}

const HANDSHAKE: u8 = 0x16;
const CLIENT_HELLO: u8 = 1;
const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;
const LARGEST_RECORD: usize = 1 << 14;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
const ALPN: u16 = 16;

/// Reads the hello that `bytes`, all that a client has sent so far, begin with. `None`: more are
/// needed.
///
/// # Errors
/// They are no hello, and nothing that follows can make them one.
pub fn read_hello(bytes: &[u8]) -> Result<Option<Hello>, HelloFault> {
    let within = &bytes[..bytes.len().min(LARGEST_HELLO)];
    match message(within)? {
        Some(body) => read_body(&body).map(Some),
        None if within.len() == LARGEST_HELLO => Err(HelloFault::TooLarge),
        None => Ok(None),
    }
}

/// The body of the first handshake message, joined where records cut it.
fn message(bytes: &[u8]) -> Result<Option<Cow<'_, [u8]>>, HelloFault> {
    let (mut rest, mut had) = (bytes, 0);
    let mut head = [0; MESSAGE_HEADER];
    while let Some(record) = Record::read(rest, rest.len() == bytes.len())? {
        for (place, byte) in head.iter_mut().skip(had).zip(record.payload) {
            *place = *byte;
        }
        had += record.payload.len();
        if had > 0 && head[0] != CLIENT_HELLO {
            return Err(HelloFault::Malformed("another message comes first"));
        }
        if had >= MESSAGE_HEADER {
            let body = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
            let whole = MESSAGE_HEADER + body;
            if RECORD_HEADER + whole > LARGEST_HELLO {
                return Err(HelloFault::TooLarge);
            }
            if had >= whole {
                return Ok(Some(joined(bytes, whole)));
            }
        }
        if !record.whole {
            break;
        }
        rest = &rest[RECORD_HEADER + record.payload.len()..];
    }
    Ok(None)
}

/// The first `whole` bytes of payload without the message's header; they are known to be there.
fn joined(bytes: &[u8], whole: usize) -> Cow<'_, [u8]> {
    let first = payload(bytes);
    if let Some(message) = first.get(..whole) {
        return Cow::Borrowed(&message[MESSAGE_HEADER..]);
    }
    let (mut rest, mut all) = (bytes, Vec::with_capacity(whole));
    while all.len() < whole && rest.len() > RECORD_HEADER {
        let next = payload(rest);
        all.extend_from_slice(&next[..next.len().min(whole - all.len())]);
        rest = &rest[RECORD_HEADER + next.len()..];
    }
    all.drain(..MESSAGE_HEADER.min(all.len()));
    Cow::Owned(all)
}

/// What is there of the payload of the record that `bytes` begin with.
fn payload(bytes: &[u8]) -> &[u8] {
    let Some((header, rest)) = bytes.split_at_checked(RECORD_HEADER) else { return &[] };
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    &rest[..rest.len().min(length)]
}

/// One record, of which not all need be there.
struct Record<'a> {
    payload: &'a [u8],
    whole: bool,
}

impl<'a> Record<'a> {
    /// `None`: its header is not whole yet. Only the first byte of all and the version behind it tell
    /// whether this is TLS; later ones belong to something that began like it.
    fn read(bytes: &'a [u8], first: bool) -> Result<Option<Self>, HelloFault> {
        let other = |what| if first { HelloFault::NotTls } else { HelloFault::Malformed(what) };
        if bytes.first().is_some_and(|kind| *kind != HANDSHAKE) {
            return Err(other("another record comes before its end"));
        }
        // What follows the 3 has said 1 to 3 in hellos and means nothing.
        if bytes.get(1).is_some_and(|major| *major != 3) {
            return Err(other("a record has an unknown version"));
        }
        let Some(header) = bytes.get(..RECORD_HEADER) else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 {
            return Err(HelloFault::Malformed("a record is empty"));
        }
        if length > LARGEST_RECORD {
            return Err(HelloFault::Malformed("a record is longer than a record may be"));
        }
        let payload = payload(bytes);
        Ok(Some(Record { payload, whole: payload.len() == length }))
    }
}

/// Reads what lengths announce; a length that does not fit is a fault of `what`.
struct Fields<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Fields<'a> {
    fn fault(&self) -> HelloFault {
        HelloFault::Malformed(self.what)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], HelloFault> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.fault())?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, HelloFault> {
        Ok(self.take(1)?[0])
    }

    fn short(&mut self) -> Result<u16, HelloFault> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Behind a length of one byte.
    fn small(&mut self) -> Result<&'a [u8], HelloFault> {
        let count = self.byte()?;
        self.take(count.into())
    }

    /// Behind a length of two bytes.
    fn large(&mut self) -> Result<&'a [u8], HelloFault> {
        let count = self.short()?;
        self.take(count.into())
    }

    /// All that is left, behind a length of two bytes: at least one byte, and nothing after it.
    fn list(&mut self) -> Result<Fields<'a>, HelloFault> {
        let list = self.large()?;
        if list.is_empty() || !self.rest.is_empty() {
            return Err(self.fault());
        }
        Ok(Fields { rest: list, what: self.what })
    }
}

fn read_body(body: &[u8]) -> Result<Hello, HelloFault> {
    let mut fields = Fields { rest: body, what: "it ends too early" };
    if fields.short()? >> 8 != 3 {
        return Err(HelloFault::Malformed("an unknown version"));
    }
    let _random = fields.take(32)?;
    if fields.small()?.len() > 32 {
        return Err(HelloFault::Malformed("the session id is too long"));
    }
    let suites = fields.large()?;
    if suites.is_empty() || !suites.len().is_multiple_of(2) {
        return Err(HelloFault::Malformed("the list of cipher suites"));
    }
    if fields.small()?.is_empty() {
        return Err(HelloFault::Malformed("the list of compressions"));
    }
    // TLS 1.0 knows hellos without extensions.
    if fields.rest.is_empty() {
        return Ok(Hello::default());
    }
    fields.what = "the list of extensions";
    let extensions = fields.large()?;
    if !fields.rest.is_empty() {
        return Err(fields.fault());
    }
    read_extensions(Fields { rest: extensions, what: fields.what })
}

fn read_extensions(mut extensions: Fields<'_>) -> Result<Hello, HelloFault> {
    let (mut names, mut alpn) = (None, None);
    while !extensions.rest.is_empty() {
        let (kind, rest) = (extensions.short()?, extensions.large()?);
        // All others, greased ones too, are the server's.
        let twice = match kind {
            SERVER_NAME => names.replace(rest).is_some(),
            ALPN => alpn.replace(rest).is_some(),
            _ => false,
        };
        if twice {
            return Err(HelloFault::Malformed("an extension comes twice"));
        }
    }
    Ok(Hello {
        server_name: names.map(read_server_name).transpose()?.flatten(),
        alpn: alpn.map(read_alpn).transpose()?.unwrap_or_default(),
    })
}

fn read_server_name(extension: &[u8]) -> Result<Option<String>, HelloFault> {
    let mut names = Fields { rest: extension, what: "the server name" }.list()?;
    let mut found = None;
    while !names.rest.is_empty() {
        let (kind, name) = (names.byte()?, names.large()?);
        if kind == HOST_NAME && found.replace(name).is_some() {
            return Err(HelloFault::Malformed("two server names"));
        }
    }
    found.map_or(Ok(None), host_name)
}

/// A name as routes know it; `None` for an address, which RFC 6066 forbids and clients send.
fn host_name(name: &[u8]) -> Result<Option<String>, HelloFault> {
    let bad = HelloFault::Malformed("the server name is no DNS name");
    let name = str::from_utf8(name).map_err(|_| bad)?;
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.parse::<IpAddr>().is_ok() {
        return Ok(None);
    }
    let sound = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if name.len() > 253 || !name.split('.').all(sound) {
        return Err(bad);
    }
    Ok(Some(name.to_ascii_lowercase()))
}

fn read_alpn(extension: &[u8]) -> Result<Vec<Vec<u8>>, HelloFault> {
    let mut protocols = Fields { rest: extension, what: "the list of protocols" }.list()?;
    let mut all = Vec::new();
    while !protocols.rest.is_empty() {
        let protocol = protocols.small()?;
        if protocol.is_empty() {
            return Err(protocols.fault());
        }
        all.push(protocol.to_vec());
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
