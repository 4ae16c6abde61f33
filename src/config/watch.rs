//! Watching the file for a change, by looking: it works on every file system, through the symbolic
//! links of a mounted ConfigMap and across a replacement by rename, where notifications do not.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two looks.
pub(super) const PERIOD: Duration = Duration::from_millis(500);

/// Watches one file.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    period: Duration,
    /// What was last told.
    told: Option<Print>,
}

/// Enough of a file to see that it is another one, or that it may be read now: device, inode, size,
/// the times of its last modification and of its last change (of its owner or mode, say).
pub(super) type Print = (u64, u64, u64, [(i64, i64); 2]);

impl Watch {
    /// Watches `path` from now on. Begin before the file is loaded, and no change is lost between.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let told = look(&path);
        Watch { path, period: PERIOD, told }
    }

    /// Watches `path`, of which nothing was told yet: what is there is news.
    pub fn unseen(path: impl Into<PathBuf>) -> Self {
        Watch { path: path.into(), period: PERIOD, told: None }
    }

    /// The file as it is now was loaded for another reason (a signal): it is no news any more. Call
    /// it before the load, and no change is lost between.
    pub fn caught_up(&mut self) {
        self.told = look(&self.path);
    }

    /// Resolves when the file differs from what was last told and has come to rest: two looks, half
    /// a second apart, saw the same. A file that is missing meanwhile is waited for. Cancel safe.
    /// Needs a tokio runtime with time.
    pub async fn changed(&mut self) {
        let mut last = None;
        loop {
            tokio::time::sleep(self.period).await;
            let now = look(&self.path);
            if now.is_some() && now != self.told && now == last {
                self.told = now;
                return;
            }
            last = now;
        }
    }
}

pub(super) fn look(path: &Path) -> Option<Print> {
    // Follows links: what counts is the file at their end.
    let meta = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    let times = [(meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec())];
    Some((meta.dev(), meta.ino(), meta.size(), times))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn watch(path: &Path) -> Watch {
        let mut watch = Watch::new(path);
        watch.period = Duration::from_millis(5);
        watch
    }

    async fn told(watch: &mut Watch) -> bool {
        tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn a_plain_write_a_rename_and_a_config_map_swap_are_seen_once_each() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("v1")).unwrap();
        fs::create_dir(at("v2")).unwrap();
        fs::write(at("v1/lb.yaml"), "one").unwrap();
        fs::write(at("v2/lb.yaml"), "two").unwrap();
        symlink("v1", at("..data")).unwrap();
        symlink("..data/lb.yaml", at("lb.yaml")).unwrap();
        let mut watch = watch(&at("lb.yaml"));

        symlink("v2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert!(told(&mut watch).await, "the swap of a ConfigMap");

        fs::write(at("v2/lb.yaml"), "three, in place").unwrap();
        assert!(told(&mut watch).await, "a plain write");

        fs::write(at("new"), "four").unwrap();
        fs::rename(at("new"), at("lb.yaml")).unwrap();
        assert!(told(&mut watch).await, "a rename over the link");

        fs::set_permissions(at("lb.yaml"), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(told(&mut watch).await, "who may read it");

        fs::write(at("lb.yaml"), "five, and a signal").unwrap();
        watch.caught_up();
        let quiet = tokio::time::timeout(Duration::from_millis(100), watch.changed()).await;
        assert!(quiet.is_err(), "told twice");
    }

    #[tokio::test]
    async fn a_file_that_is_gone_for_a_while_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lb.yaml");
        fs::write(&path, "one").unwrap();
        let mut watch = watch(&path);
        fs::remove_file(&path).unwrap();
        let gone = tokio::time::timeout(Duration::from_millis(100), watch.changed()).await;
        assert!(gone.is_err(), "a missing file is no change to load");
        fs::write(&path, "another").unwrap();
        assert!(told(&mut watch).await);
    }
}
