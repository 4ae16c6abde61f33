//! The file of a ring: read whole, replaced whole, for its owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use super::{Keyring, RingError};
use crate::base::file::{open, open_typed};

/// Longer than any ring can be.
const LONGEST: u64 = 64 << 10;
/// For the owner to read and write, for nobody else.
const OWNER_ONLY: u32 = 0o600;

/// Why a file gives or takes no ring.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Cannot be read.
    #[error("the keys {path} cannot be read: {error}", path = .0.display(), error = .1)]
    Read(PathBuf, io::Error),
    /// Cannot be written.
    #[error("the keys {path} cannot be written: {error}", path = .0.display(), error = .1)]
    Write(PathBuf, io::Error),
    /// It is there already.
    #[error(
        "{path} is there already and is not overwritten: `tidegate keys install` adds a key to it",
        path = .0.display()
    )]
    Exists(PathBuf),
    /// Is no ring.
    #[error("the keys {path}: {error}", path = .0.display(), error = .1)]
    Ring(PathBuf, RingError),
}

impl FileError {
    /// What to do about it, when it cannot be read.
    pub fn remedy(&self) -> String {
        match self {
            FileError::Read(path, error) if error.kind() == io::ErrorKind::PermissionDenied => {
                format!("let whoever runs the node own it: chown USER {}", path.display())
            }
            _ => "write the path of a file of `tidegate keys generate`, the same on every node"
                .to_owned(),
        }
    }
}

/// Reads the ring at `path`.
///
/// # Errors
/// The file cannot be read, or is no ring.
pub fn read(path: &Path) -> Result<Keyring, FileError> {
    read_by(path, open)
}

/// Reads the ring at a path that was typed: a pipe as well, as the shell hands it over.
///
/// # Errors
/// As [`read`].
pub fn read_typed(path: &Path) -> Result<Keyring, FileError> {
    read_by(path, open_typed)
}

fn read_by(path: &Path, open: fn(&Path) -> io::Result<File>) -> Result<Keyring, FileError> {
    let unreadable = |error| FileError::Read(path.to_owned(), error);
    let mut text = String::new();
    let file = open(path).map_err(unreadable)?;
    file.take(LONGEST).read_to_string(&mut text).map_err(unreadable)?;
    Keyring::parse(&text).map_err(|error| FileError::Ring(path.to_owned(), error))
}

/// Whether others than the file's owner may read it.
pub fn open_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
}

/// Writes a file that must not be there yet.
///
/// # Errors
/// It is there, or cannot be written.
pub fn create(path: &Path, ring: &Keyring) -> Result<(), FileError> {
    let written = write_new(path, ring, None);
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => FileError::Exists(path.to_owned()),
        _ => FileError::Write(path.to_owned(), error),
    })
}

/// Replaces the file at `path`: a reader sees the old ring or the new one, also after a power cut.
///
/// # Errors
/// Cannot be written; then the old file is as it was.
pub fn replace(path: &Path, ring: &Keyring) -> Result<(), FileError> {
    let failed = |error| FileError::Write(path.to_owned(), error);
    // Behind a symbolic link the file itself is replaced, and the link stays.
    let path = fs::canonicalize(path).map_err(failed)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let owner = fs::metadata(&path).map(|old| (old.uid(), old.gid())).map_err(failed)?;
    let replaced = write_new(&new, ring, Some(owner)).and_then(|()| {
        fs::rename(&new, &path)?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        File::open(dir)?.sync_all()
    });
    if replaced.is_err() {
        // What could not be put in place must not lie about; it holds keys.
        let _ = fs::remove_file(&new);
    }
    replaced.map_err(failed)
}

/// For `owner` alone, when that is not whoever runs this: a node reads it under a name of its own.
fn write_new(path: &Path, ring: &Keyring, owner: Option<(u32, u32)>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path)?;
    let own = file.metadata().map(|own| (own.uid(), own.gid()))?;
    let written = match owner {
        Some((user, group)) if (user, group) != own => fchown(&file, Some(user), Some(group)),
        _ => Ok(()),
    };
    let written = written.and_then(|()| file.write_all(ring.text().as_bytes()));
    let written = written.and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::super::{Key, KeyId};
    use super::*;

    fn ring(secret: u8) -> Keyring {
        Keyring::new([1; 16], Key::new(KeyId::MIN, [secret; 32]))
    }

    #[test]
    fn a_ring_is_created_once_and_replaced_whole_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.keys");
        create(&path, &ring(1)).unwrap();
        assert!(matches!(create(&path, &ring(2)), Err(FileError::Exists(_))));
        assert_eq!(read(&path).unwrap(), ring(1));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(open_to_others(&path));
        replace(&path, &ring(3)).unwrap();
        assert_eq!(read(&path).unwrap(), ring(3));
        assert!(!open_to_others(&path), "a replaced file is for its owner alone again");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_link_stays_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("real"), dir.path().join("link"));
        create(&path, &ring(1)).unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        replace(&link, &ring(2)).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(read(&path).unwrap(), ring(2));
    }

    #[test]
    fn what_cannot_be_read_or_written_is_said_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none");
        assert!(read(&path).unwrap_err().to_string().contains("none cannot be read"));
        assert!(replace(&path, &ring(1)).is_err());
        fs::write(&path, "key 1 00").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("none: line 1"));
        fs::write(&path, [0xff; 9]).unwrap();
        assert!(read(&path).is_err());
    }
}
