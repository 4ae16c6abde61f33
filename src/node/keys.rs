//! `tidegate keys`: the file of the cluster's keys, made and changed.

use std::path::Path;

use rand::TryRng;
use rand::rngs::SysRng;

use crate::cluster::keyring::file::{self, FileError};
use crate::cluster::keyring::{Key, KeyId, Keyring, RingError};

/// Why a key file stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// What was asked.
    #[error("{0}")]
    Ring(#[from] RingError),
    /// The system.
    #[error("the system gives no random numbers: {0}")]
    Random(rand::rngs::SysError),
}

/// Makes a file with a salt and one key. Returns what to say.
///
/// # Errors
/// It is there already, or cannot be written.
pub fn generate(path: &Path) -> Result<String, KeysError> {
    let ring = Keyring::new(random()?, Key::new(KeyId::MIN, random()?));
    file::create(path, &ring)?;
    let place = path.display();
    Ok(format!(
        "{place} holds key 1 ({}), which seals\ncopy it to every node, name it in `cluster.keys_file`, and let nobody else read it\n",
        ring.first().fingerprint()
    ))
}

/// Shows the names of the keys, and nothing that would help to guess them.
///
/// # Errors
/// The file cannot be read.
pub fn list(path: &Path) -> Result<String, KeysError> {
    let ring = file::read_typed(path)?;
    let mut text = "KEY  FINGERPRINT  USE\n".to_owned();
    for key in ring.keys() {
        let what = if key.id == ring.first().id { "seals and opens" } else { "opens" };
        text += &format!("{:3}  {}     {what}\n", key.id, key.fingerprint());
    }
    if file::open_to_others(path) {
        text += &format!("others may read it: chmod 600 {}\n", path.display());
    }
    Ok(text)
}

/// Step one of a rotation: a new key that opens and does not seal; with `from`, the keys of that
/// file.
///
/// # Errors
/// A file cannot be read or written, or there is no room.
pub fn install(path: &Path, from: Option<&Path>) -> Result<String, KeysError> {
    let mut ring = file::read(path)?;
    let news = match from {
        Some(from) => ring.install_all(&file::read_typed(from)?)?,
        None => {
            let id = ring.free_id().ok_or(RingError::Full)?;
            ring.install(Key::new(id, random()?))?;
            vec![id]
        }
    };
    if news.is_empty() {
        return Ok(format!("{} has all of these keys already\n", path.display()));
    }
    file::replace(path, &ring)?;
    let mut text = String::new();
    for key in ring.keys().filter(|key| news.contains(&key.id)) {
        text += &format!("key {} ({}) opens, and does not seal yet\n", key.id, key.fingerprint());
    }
    let next = news.last().copied().unwrap_or(KeyId::MIN);
    Ok(text + &format!("when every node has it (`tidegate members`): `tidegate keys use {next}`\n"))
}

/// Step two: the key seals; the one before still opens.
///
/// # Errors
/// The file cannot be read or written, or holds no such key.
pub fn put_first(path: &Path, id: KeyId) -> Result<String, KeysError> {
    let mut ring = file::read(path)?;
    let former = ring.first().id;
    if former == id {
        return Ok(format!("key {id} seals already\n"));
    }
    ring.put_first(id)?;
    file::replace(path, &ring)?;
    Ok(format!(
        "key {id} seals, key {former} still opens\nwhen every node seals with it: `tidegate keys remove {former}`\n"
    ))
}

/// Step three: the key is gone.
///
/// # Errors
/// The file cannot be read or written, holds no such key, or the key seals.
pub fn remove(path: &Path, id: KeyId) -> Result<String, KeysError> {
    let mut ring = file::read(path)?;
    ring.remove(id)?;
    file::replace(path, &ring)?;
    Ok(format!("key {id} is gone\n"))
}

fn random<const N: usize>() -> Result<[u8; N], KeysError> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(KeysError::Random)?;
    Ok(bytes)
}
