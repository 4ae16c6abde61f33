//! The access log: one line per session, written by one thread for all workers.
//!
//! ```text
//!   workers ── tell ──▶ queue (bounded) ── every few ms ──▶ writer thread ──▶ file or stdout
//!                         │ full: dropped and counted
//! ```
//!
//! A worker hands over values, not text, and never waits for a disk: what it costs is a short lock,
//! and a wake-up at most once per batch.

use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::plan::{AccessLogOutput, AccessLogPlan};

mod format;
mod record;

pub(crate) use record::{Record, Secured};

/// Lines that may wait for the writer.
const MOST_WAITING: usize = 16 * 1024;
/// The writer gathers for this long before it writes.
const GATHER: Duration = Duration::from_millis(5);
/// What the writer gets to write the rest when the log is closed. A pipe that nobody reads must not
/// hold up a stop or a reload.
const PARTING: Duration = Duration::from_secs(1);

/// An open access log. The last one to drop it waits until everything told is written, or a second.
#[derive(Debug)]
pub struct AccessLog {
    plan: AccessLogPlan,
    desk: Arc<Desk>,
    writer: Mutex<Option<Writer>>,
}

/// The writing thread.
#[derive(Debug)]
struct Writer {
    thread: JoinHandle<()>,
    /// Disconnected when the thread has ended, however it did.
    ended: mpsc::Receiver<Infallible>,
}

/// Between the workers and the writer.
#[derive(Debug, Default)]
struct Desk {
    tray: Mutex<Tray>,
    /// Rung when the tray is no longer empty, to reopen and to close.
    bell: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Tray {
    records: Vec<Record>,
    reopen: bool,
    closing: bool,
}

impl AccessLog {
    /// Opens the output of `plan` and starts the writer.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or no thread can be had.
    pub fn open(plan: &AccessLogPlan) -> io::Result<Arc<AccessLog>> {
        let output = open(&plan.output)?;
        let desk = Arc::new(Desk::default());
        let writer = Mutex::new(Some(Writer::start(&desk, plan, output)?));
        Ok(Arc::new(AccessLog { plan: plan.clone(), desk, writer }))
    }

    /// What it was opened for.
    pub fn plan(&self) -> &AccessLogPlan {
        &self.plan
    }

    /// Opens the file anew before the next line, as log rotation needs it.
    pub fn reopen(&self) {
        self.desk.tray.lock().reopen = true;
        self.desk.bell.notify_one();
    }

    /// Lines that were dropped since start, because the writer could not keep up or could not
    /// write.
    pub fn dropped(&self) -> u64 {
        self.desk.dropped.load(Relaxed)
    }

    /// Tells one session.
    pub(crate) fn tell(&self, record: Record) {
        let mut tray = self.desk.tray.lock();
        if tray.records.len() >= MOST_WAITING {
            drop(tray);
            self.desk.dropped.fetch_add(1, Relaxed);
            return;
        }
        let first = tray.records.is_empty();
        tray.records.push(record);
        drop(tray);
        if first {
            self.desk.bell.notify_one();
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.desk.tray.lock().closing = true;
        self.desk.bell.notify_one();
        let Some(writer) = self.writer.lock().take() else { return };
        if writer.ended.recv_timeout(PARTING) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::error!("the access log's output takes nothing: its last lines are lost");
            return;
        }
        // A panic of the writer has been told on stderr.
        let _ = writer.thread.join();
    }
}

impl Writer {
    fn start(desk: &Arc<Desk>, plan: &AccessLogPlan, output: File) -> io::Result<Writer> {
        let (alive, ended) = mpsc::channel();
        let (desk, plan) = (Arc::clone(desk), plan.clone());
        let thread = thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            let _alive = alive;
            write(&desk, &plan, output);
        })?;
        Ok(Writer { thread, ended })
    }
}

/// The writer's life.
fn write(desk: &Desk, plan: &AccessLogPlan, mut output: File) {
    let mut batch = Vec::new();
    let mut text = Vec::new();
    let mut broken = false;
    loop {
        let (reopen, closing) = desk.next(&mut batch);
        if reopen {
            match open(&plan.output) {
                Ok(opened) => output = opened,
                Err(error) => {
                    tracing::error!(%error, "the access log cannot be reopened; the old file is written on")
                }
            }
        }
        for record in &batch {
            format::line(plan.format, record, &mut text);
        }
        match output.write_all(&text) {
            Ok(()) => broken = false,
            Err(error) => {
                desk.dropped.fetch_add(batch.len() as u64, Relaxed);
                if !mem::replace(&mut broken, true) {
                    tracing::error!(%error, "the access log cannot be written; lines are dropped");
                }
            }
        }
        batch.clear();
        text.clear();
        if closing {
            return;
        }
    }
}

impl Desk {
    /// Waits for something to do and fills `batch`; whether to reopen first, and to end after.
    fn next(&self, batch: &mut Vec<Record>) -> (bool, bool) {
        let mut tray = self.tray.lock();
        while tray.records.is_empty() && !tray.closing && !tray.reopen {
            self.bell.wait(&mut tray);
        }
        if !tray.closing {
            self.bell.wait_for(&mut tray, GATHER);
        }
        mem::swap(&mut tray.records, batch);
        (mem::take(&mut tray.reopen), tray.closing)
    }
}

fn open(output: &AccessLogOutput) -> io::Result<File> {
    match output {
        AccessLogOutput::Stdout => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
        AccessLogOutput::File(path) => {
            // A named pipe that is opened for reading too does not wait for its reader, who would
            // hold up a start, a reload and the stop behind it.
            let pipe = fs::metadata(path).is_ok_and(|about| about.file_type().is_fifo());
            let mut how = OpenOptions::new();
            how.append(true).create(true).read(pipe).open(path).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })
        }
    }
}

#[cfg(test)]
mod tests;
