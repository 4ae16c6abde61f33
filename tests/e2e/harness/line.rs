//! A live connection through a rule to an echo backend.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Kept open while things happen, and asked whether it still lives.
pub(crate) struct Line {
    stream: BufReader<TcpStream>,
    /// Who is at the other end.
    pub(crate) backend: String,
}

impl Line {
    /// Connects and reads the backend's greeting.
    pub(crate) fn open(address: SocketAddr) -> Result<Line, String> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))
            .map_err(|error| format!("connect {address}: {error}"))?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).map_err(|error| error.to_string())?;
        let mut line = Line { stream: BufReader::new(stream), backend: String::new() };
        let greeting = line.hear()?;
        let name = greeting.strip_prefix("Reply from upstream ").ok_or("no greeting")?;
        line.backend = name.to_owned();
        Ok(line)
    }

    /// Whether what is said comes back.
    pub(crate) fn lives(&mut self) -> Result<(), String> {
        self.stream.get_ref().write_all(b"still there?\n").map_err(|error| error.to_string())?;
        let heard = self.hear()?;
        (heard == "still there?").then_some(()).ok_or(heard)
    }

    fn hear(&mut self) -> Result<String, String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Err("closed".into()),
            Ok(_) => Ok(line.trim_end().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}
