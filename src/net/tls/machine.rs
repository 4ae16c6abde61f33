//! Driving rustls's unbuffered state machine, the same for both sides.

use std::io;
use std::ops::Deref;

use rustls::client::ClientConnectionData;
use rustls::server::ServerConnectionData;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, UnbufferedConnectionCommon, UnbufferedStatus,
};
use rustls::{CommonState, Error};

/// A connection of either side.
pub(super) trait Machine: Deref<Target = CommonState> {
    type Data;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Machine for UnbufferedConnectionCommon<ServerConnectionData> {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

impl Machine for UnbufferedConnectionCommon<ClientConnectionData> {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// In its handshake, and waiting for the peer.
    Handshaking,
    /// Plaintext may be sent.
    Open,
    /// Both sides have said that they end.
    Closed,
}

/// What is sealed.
#[derive(Clone, Copy, Debug)]
pub(super) enum What<'a> {
    /// These.
    Bytes(&'a [u8]),
    /// That nothing more comes.
    End,
}

/// Opens whole records in `bytes` and does what they ask for: `plain` hears the plaintext, `unsent` gets
/// what is to be sent, after an error its alert. How many bytes are done with, and where it stopped.
pub(super) fn advance<M: Machine>(
    machine: &mut M,
    bytes: &mut [u8],
    unsent: &mut Vec<u8>,
    peer_ended: &mut bool,
    plain: &mut dyn FnMut(&[u8]),
) -> Result<(usize, Stage), Error> {
    let mut used = 0;
    loop {
        let UnbufferedStatus { mut discard, state } = machine.process(&mut bytes[used..]);
        let stage = match state {
            Ok(ConnectionState::ReadTraffic(mut records)) => {
                while let Some(record) = records.next_record() {
                    let record = record?;
                    discard += record.discard;
                    plain(record.payload);
                }
                None
            }
            Ok(ConnectionState::EncodeTlsData(data)) => {
                encode(data, unsent)?;
                None
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                None
            }
            Ok(ConnectionState::PeerClosed) => {
                *peer_ended = true;
                None
            }
            Ok(ConnectionState::WriteTraffic(_)) => Some(Stage::Open),
            Ok(ConnectionState::BlockedHandshake) => Some(Stage::Handshaking),
            Ok(ConnectionState::Closed) => Some(Stage::Closed),
            // Nobody switched early data on, and there is no other state.
            Ok(_) => return Err(Error::General("an unknown state".to_owned())),
            Err(error) => {
                take_alert(machine, unsent);
                return Err(error);
            }
        };
        used += discard;
        if let Some(stage) = stage {
            return Ok((used, stage));
        }
    }
}

/// Seals into `sealed`, which has room for it; how long it is. `partial` is what came and could not be
/// opened yet. Whatever has to be sent before goes to `unsent`.
pub(super) fn seal<M: Machine>(
    machine: &mut M,
    partial: &mut [u8],
    unsent: &mut Vec<u8>,
    what: What<'_>,
    sealed: &mut [u8],
) -> io::Result<usize> {
    let failed = |error: Error| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut length = None;
    loop {
        match machine.process(partial).state.map_err(failed)? {
            ConnectionState::WriteTraffic(mut traffic) if length.is_none() => {
                let done = match what {
                    What::Bytes(bytes) => traffic.encrypt(bytes, sealed),
                    What::End => traffic.queue_close_notify(sealed),
                };
                length = Some(done.map_err(io::Error::other)?);
            }
            ConnectionState::EncodeTlsData(data) => encode(data, unsent).map_err(failed)?,
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::PeerClosed => {}
            _ => return length.ok_or_else(|| io::ErrorKind::BrokenPipe.into()),
        }
    }
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, unsent: &mut Vec<u8>) -> Result<(), Error> {
    let at = unsent.len();
    // Asked without room first: it says how much it needs.
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        unsent.resize(at + size.required_size, 0);
        data.encode(&mut unsent[at..])
            .map_err(|error| Error::General(format!("cannot encode: {error}")))?;
    }
    Ok(())
}

/// What rustls wants to say about an error. It is asked nothing else any more: it would go on reading
/// where it stopped, in a buffer that is no longer there.
fn take_alert<M: Machine>(machine: &mut M, unsent: &mut Vec<u8>) {
    while machine.wants_write() {
        match machine.process(&mut []).state {
            Ok(ConnectionState::EncodeTlsData(data)) => {
                if encode(data, unsent).is_err() {
                    return;
                }
            }
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            _ => return,
        }
    }
}
