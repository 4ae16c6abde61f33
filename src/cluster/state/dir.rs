//! The directory: one small JSON file in it, and a lock, so that two processes never write it.
//!
//! The file is replaced whole: written beside, synced, renamed, the directory synced; whenever the
//! power fails, either the old or the new one is there. What cannot be read is set aside for people
//! to look at, and the node begins without it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::State;
use crate::base::file::open;
use crate::base::{NodeId, time};
use crate::cluster::acts::{BackendRow, BanRow, DrainRow, MEMORY, Row};

const FILE: &str = "state.json";
const BESIDE: &str = "state.json.new";
const LOCK: &str = "lock";
/// The shape that we write; a later one is not ours to read.
const VERSION: u32 = 1;
/// Far more than everything that is bounded elsewhere comes to.
const LARGEST: u64 = 64 << 20;

/// Why a node must not use the directory.
#[derive(Debug, thiserror::Error)]
#[error(
    "`cluster.state_dir` {0} is used by another running node: give each node a directory of its own"
)]
pub struct DirError(PathBuf);

/// An open state directory, locked for the life of this value.
#[derive(Debug)]
pub struct Dir {
    path: PathBuf,
    _lock: Option<File>,
}

/// What the file held.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// The node, for as long as it keeps the file.
    pub node: NodeId,
    /// Generation and peers.
    pub state: State,
    /// What operators did; on disk also what was lifted lately.
    pub acts: Vec<Row>,
}

/// The file, for people to read as well.
#[derive(Debug, Serialize, Deserialize)]
struct Shape {
    version: u32,
    /// Hex, as `members` shows it.
    node_id: String,
    /// When this was written, for people.
    #[serde(default)]
    saved_at: String,
    /// The same, milliseconds since 1970.
    saved_ms: u64,
    generation: u64,
    peers: Vec<PeerShape>,
    #[serde(default)]
    acts: ActsShape,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct ActsShape {
    bans: Vec<BanRow>,
    drains: Vec<DrainRow>,
    backends: Vec<BackendRow>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PeerShape {
    address: SocketAddr,
    seen_ms: u64,
}

/// What every version of the file has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Dir {
    /// Opens the directory at `path`, which is made when it is not there. A directory that cannot be
    /// made or locked for any other reason than its being in use is said and used as far as it goes:
    /// a broken disk must not keep a node from starting.
    ///
    /// # Errors
    /// Another process holds it.
    pub fn open(path: &Path) -> Result<Dir, DirError> {
        if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(path) {
            tracing::error!(path = %path.display(), %error, "cannot make `cluster.state_dir`");
        }
        let lock = options().open(path.join(LOCK)).and_then(|file| match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        });
        let lock = match lock {
            Ok(Some(lock)) => Some(lock),
            Ok(None) => return Err(DirError(path.to_owned())),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "cannot lock `cluster.state_dir`");
                None
            }
        };
        Ok(Dir { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was kept, if anything good was. A file that cannot be understood is set aside.
    pub fn read(&self) -> Option<Saved> {
        let file = self.path.join(FILE);
        let text = match read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.set_aside(&error.to_string());
                return None;
            }
        };
        match Saved::of(&text) {
            Ok(saved) => Some(saved),
            Err(why) => {
                self.set_aside(&why);
                None
            }
        }
    }

    fn set_aside(&self, why: &str) {
        let file = self.path.join(FILE);
        let aside = self.path.join(format!("{FILE}.damaged-{}", time::unix_ms()));
        let kept = match fs::rename(&file, &aside) {
            Ok(()) => format!("it is set aside as {}", aside.display()),
            Err(error) => format!("it cannot be set aside either: {error}"),
        };
        tracing::error!(
            "the node's state {} cannot be used: {why}; {kept}. This node begins without it: under a new \
             node id, with what its seeds and the clock tell it",
            file.display()
        );
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// The disk's own; the old file is whole then.
    pub fn write(&self, saved: &Saved) -> io::Result<()> {
        let bytes = encode(saved)?;
        // It may have gone with a disk that is back.
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        let beside = self.path.join(BESIDE);
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = options().create_new(true).open(&beside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&beside, self.path.join(FILE))?;
        File::open(&self.path)?.sync_all()
    }
}

/// Readable and writable for its owner alone.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    open(file)?.take(LARGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("it is larger than {} MiB", LARGEST >> 20)));
    }
    Ok(text)
}

fn encode(saved: &Saved) -> io::Result<Vec<u8>> {
    let now = time::unix_ms();
    let peers = &saved.state.peers;
    let shape = Shape {
        version: VERSION,
        node_id: saved.node.to_string(),
        saved_at: time::rfc3339(now),
        saved_ms: now,
        generation: saved.state.generation,
        peers: peers.iter().map(|(&address, &seen_ms)| PeerShape { address, seen_ms }).collect(),
        acts: ActsShape::of(&saved.acts),
    };
    let mut bytes = serde_json::to_vec_pretty(&shape)?;
    bytes.push(b'\n');
    Ok(bytes)
}

impl Saved {
    /// What a file says.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn of(text: &[u8]) -> Result<Saved, String> {
        let Versioned { version } =
            serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if version != VERSION {
            return Err(format!(
                "it has version {version} and this program reads version {VERSION}"
            ));
        }
        let shape: Shape = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let node = u64::from_str_radix(&shape.node_id, 16).ok().filter(|node| *node != 0);
        let node = node.ok_or_else(|| format!("`{}` is not a node id", shape.node_id))?;
        let peers = shape.peers.iter().map(|peer| (peer.address, peer.seen_ms)).collect();
        let mut state = State { generation: shape.generation, peers };
        let now = time::unix_ms();
        state.prune(now);
        let acts = shape.acts.after(now.saturating_sub(shape.saved_ms));
        Ok(Saved { node: NodeId(node), state, acts })
    }
}

impl ActsShape {
    fn of(rows: &[Row]) -> Self {
        let mut shape = ActsShape::default();
        for row in rows.iter().cloned() {
            match row {
                Row::Ban(ban) => shape.bans.push(ban),
                Row::Drain(drain) => shape.drains.push(drain),
                Row::Backend(backend) => shape.backends.push(backend),
            }
        }
        shape
    }

    /// What still counts `gone` milliseconds after it was written. A clock set back meanwhile only makes
    /// that less than it is.
    fn after(self, gone: u64) -> Vec<Row> {
        let all = self.bans.len() + self.drains.len() + self.backends.len();
        if gone > MEMORY.as_millis() as u64 {
            if all > 0 {
                tracing::warn!(
                    acts = all,
                    "the kept acts are older than a week, and may have been lifted since: forgotten"
                );
            }
            return Vec::new();
        }
        let bans = self.bans.into_iter().map(Row::Ban);
        let drains = self.drains.into_iter().map(Row::Drain);
        let mut rows: Vec<Row> =
            bans.chain(drains).chain(self.backends.into_iter().map(Row::Backend)).collect();
        for row in &mut rows {
            let stamp = row.stamp_mut();
            for left in [&mut stamp.left_ms, &mut stamp.keep_ms].into_iter().flatten() {
                *left = left.saturating_sub(gone);
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests;
