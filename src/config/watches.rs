//! Watching several files that belong together: a certificate and its key, say.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::watch::{PERIOD, Print, look};

/// Files, each as it was just before it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<PathBuf, Option<Print>>);

impl Seen {
    /// Notes `file`, which is about to be read.
    pub(super) fn note(&mut self, file: &Path) {
        self.0.entry(file.to_owned()).or_insert_with(|| look(file));
    }

    /// Whether one of `files` is among them.
    pub fn names(&self, files: &[PathBuf]) -> bool {
        files.iter().any(|file| self.0.contains_key(file))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Looks for which files that rest wait for others that do not.
const PATIENCE: u32 = 10;

/// Watches a changing set of files.
#[derive(Debug)]
pub struct Watches {
    /// What was last told of each; `None`: nothing yet.
    told: HashMap<PathBuf, Option<Told>>,
    period: Duration,
}

/// How a file was; `None`: missing.
type Told = Option<Print>;

impl Default for Watches {
    fn default() -> Self {
        Watches { told: HashMap::new(), period: PERIOD }
    }
}

impl Watches {
    /// Watches `files` from now on, and no others. A file that was not watched before is news: it
    /// may have changed since it was read.
    pub fn watch(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let mut former = std::mem::take(&mut self.told);
        self.told = files
            .into_iter()
            .map(|file| {
                let told = former.remove(&file).flatten();
                (file, told)
            })
            .collect();
    }

    /// Watches the files of `seen` as well: what has changed since they were read is news.
    pub fn also(&mut self, seen: Seen) {
        self.told.extend(seen.0.into_iter().map(|(file, told)| (file, Some(told))));
    }

    /// Resolves when one of the files differs from what was last told, gone or there again, and all
    /// that differ have come to rest: two looks, half a second apart, saw the same. One that does not
    /// rest holds up the others for so many looks only. They are named. Cancel safe. Needs a tokio
    /// runtime with time.
    pub async fn changed(&mut self) -> Vec<PathBuf> {
        if self.told.is_empty() {
            return std::future::pending().await;
        }
        let mut last: HashMap<PathBuf, Option<Told>> = HashMap::new();
        let mut waited = 0;
        loop {
            tokio::time::sleep(self.period).await;
            let now: HashMap<_, _> =
                self.told.keys().map(|file| (file.clone(), Some(look(file)))).collect();
            let news = now.iter().filter(|(file, now)| self.told[*file] != **now);
            let (rest, move_on): (Vec<_>, Vec<_>) =
                news.partition(|(file, now)| last.get(*file) == Some(*now));
            waited = if rest.is_empty() { 0 } else { waited + 1 };
            if !rest.is_empty() && (move_on.is_empty() || waited > PATIENCE) {
                let rest: Vec<_> =
                    rest.into_iter().map(|(file, now)| (file.clone(), *now)).collect();
                let changed = rest.iter().map(|(file, _)| file.clone()).collect();
                self.told.extend(rest);
                return changed;
            }
            last = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    async fn told(watches: &mut Watches) -> bool {
        let told = tokio::time::timeout(Duration::from_secs(10), watches.changed()).await;
        told.is_ok_and(|changed| !changed.is_empty())
    }

    async fn quiet(watches: &mut Watches) -> bool {
        tokio::time::timeout(Duration::from_millis(100), watches.changed()).await.is_err()
    }

    #[tokio::test]
    async fn each_change_of_each_file_is_told_and_a_missing_one_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let write = |name: &str, text: &str| fs::write(at(name), text).unwrap();
        ["cert", "key", "late"].iter().for_each(|name| write(name, "one"));
        let mut watches = Watches { period: Duration::from_millis(5), ..Watches::default() };
        assert!(quiet(&mut watches).await, "there is nothing to watch");

        watches.watch([at("cert"), at("key")]);
        assert!(told(&mut watches).await, "it may have changed since it was read");
        assert!(quiet(&mut watches).await, "told twice");
        watches.watch([at("cert"), at("key")]);
        assert!(quiet(&mut watches).await, "these were known");
        watches.watch([at("cert"), at("key"), at("late")]);
        assert!(told(&mut watches).await, "one that was not");

        write("cert", "two, and longer");
        assert!(told(&mut watches).await, "the certificate");
        write("key", "two, and longer");
        assert!(told(&mut watches).await, "and then its key");
        fs::remove_file(at("late")).unwrap();
        assert!(told(&mut watches).await, "one that is gone");
        write("key", "three");
        assert!(told(&mut watches).await, "though another is missing");
        write("late", "there again");
        assert!(told(&mut watches).await);

        watches.watch([at("key")]);
        write("cert", "nobody's affair");
        assert!(quiet(&mut watches).await);

        let mut seen = Seen::default();
        ["cert", "none"].iter().for_each(|name| seen.note(&at(name)));
        watches.also(seen.clone());
        assert!(quiet(&mut watches).await, "this is how they were read");
        write("none", "there now");
        watches.watch([at("key")]);
        watches.also(seen.clone());
        let changed = watches.changed().await;
        assert_eq!(changed, [at("none")], "there since it was read");
        assert!(seen.names(&changed) && !seen.names(&[at("key")]));
    }

    #[tokio::test]
    async fn a_file_that_never_rests_does_not_hold_up_the_others_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mut watches = Watches { period: Duration::from_millis(20), ..Watches::default() };
        ["cert", "log"].iter().for_each(|name| fs::write(at(name), "one").unwrap());
        watches.watch([at("cert"), at("log")]);
        assert!(told(&mut watches).await);
        fs::write(at("cert"), "two, and longer").unwrap();
        let mut text = String::new();
        let writing = async {
            loop {
                text.push('x');
                fs::write(at("log"), &text).unwrap();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let changed = tokio::select! {
            changed = watches.changed() => changed,
            () = writing => unreachable!(),
            () = tokio::time::sleep(Duration::from_secs(10)) => panic!("it waits for the log"),
        };
        assert!(changed.contains(&at("cert")));
    }
}
