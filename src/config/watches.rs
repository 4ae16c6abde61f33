//! Watching several files that belong together: a certificate and its key, say.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::watch::{PERIOD, Print, look};

/// Watches a changing set of files.
#[derive(Debug)]
pub struct Watches {
    /// What was last told of each; `None`: nothing yet.
    told: HashMap<PathBuf, Option<Print>>,
    period: Duration,
}

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

    /// Resolves when one of the files differs from what was last told and all have come to rest: two
    /// looks, half a second apart, saw the same. A file that is missing is not waited for, and is
    /// news when it is there again. Cancel safe. Needs a tokio runtime with time.
    pub async fn changed(&mut self) {
        if self.told.is_empty() {
            return std::future::pending().await;
        }
        let mut last: HashMap<PathBuf, Option<Print>> = HashMap::new();
        loop {
            tokio::time::sleep(self.period).await;
            let file = |file: &PathBuf| (file.clone(), look(Path::new(file)));
            let now: HashMap<_, _> = self.told.keys().map(file).collect();
            let news = now.iter().any(|(file, now)| now.is_some() && self.told[file] != *now);
            if news && now == last {
                self.told.extend(now.into_iter().filter(|(_, now)| now.is_some()));
                return;
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
        tokio::time::timeout(Duration::from_secs(10), watches.changed()).await.is_ok()
    }

    async fn quiet(watches: &mut Watches) -> bool {
        tokio::time::timeout(Duration::from_millis(100), watches.changed()).await.is_err()
    }

    #[tokio::test]
    async fn each_change_of_each_file_is_told_and_a_missing_one_holds_up_no_other() {
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
        assert!(quiet(&mut watches).await, "gone is nothing to read");
        write("key", "three");
        assert!(told(&mut watches).await, "though another is missing");
        write("late", "there again");
        assert!(told(&mut watches).await);

        watches.watch([at("key")]);
        write("cert", "nobody's affair");
        assert!(quiet(&mut watches).await);
    }
}
