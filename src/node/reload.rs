//! Reload: read, build, publish once; or change nothing and say what was wrong.

use std::path::Path;
use std::sync::Arc;

use super::boot::Node;
use super::run::say_warnings;
use crate::cluster::keyring::{self, Keyring, RingError};
use crate::config::{self, Plan, Seen};
use crate::net::TcpOptions;
use crate::net::tls::MaterialError;

/// What became of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// The new configuration runs.
    Taken,
    /// The file means what runs already.
    Unchanged,
    /// The old configuration runs on.
    Refused,
}

impl Node {
    /// Reads the file at `path` again and takes it over whole, or not at all.
    pub async fn reload(&self, path: &Path) -> Reload {
        let _one_at_a_time = self.reloading.lock().await;
        let done = self.read_and_take(path).await;
        match done {
            // Files of their own, as keys are: a fault elsewhere must not stop a rotation.
            Reload::Refused => drop(self.renew_certificates().await),
            Reload::Taken | Reload::Unchanged => *self.certificates_fault.lock() = None,
        }
        done
    }

    async fn read_and_take(&self, path: &Path) -> Reload {
        // Keys are a file of their own: a fault elsewhere must not stop a rotation.
        let keys = self.reload_keys();
        let config::Loaded { plan, warnings, seen } = match config::load_again(path) {
            Ok(loaded) => loaded,
            Err(faults) => {
                *self.at_fault.lock() = faults.seen().clone();
                return self.refuse(&faults);
            }
        };
        *self.at_fault.lock() = if keys.is_ok() { Seen::default() } else { seen };
        if let Err(fault) = keys {
            return self.refuse(&format_args!("`cluster.keys_file`: {fault}"));
        }
        if plan == *self.plan() {
            // A file that was bad and is as before again is good news for `status`.
            self.journal.taken(&plan.digest);
            tracing::info!("reload: nothing has changed");
            return Reload::Unchanged;
        }
        say_warnings(&warnings, path);
        self.say_what_waits(&plan);
        let digest = plan.digest.clone();
        match self.take_over(plan).await {
            Ok(()) => {
                self.journal.taken(&digest);
                tracing::info!(digest = &digest[..12.min(digest.len())], "reloaded");
                Reload::Taken
            }
            Err(error) => self.refuse(&error),
        }
    }

    /// The files that a refused configuration names, as they were read: when one changes, it may be
    /// good. None when the last one was taken.
    pub fn files_at_fault(&self) -> Seen {
        self.at_fault.lock().clone()
    }

    /// Reads the certificates, keys, authorities and revocation lists of the running configuration
    /// again, and takes them over, or goes on with the old ones. The configuration's own file is not
    /// looked at.
    pub async fn reload_certificates(&self) -> Reload {
        let _one_at_a_time = self.reloading.lock().await;
        self.renew_certificates().await
    }

    async fn renew_certificates(&self) -> Reload {
        let running = self.plan();
        let words = |error: &MaterialError| error.to_string();
        let read = running
            .read_material_again()
            .map_err(|faults| faults.iter().map(words).collect::<Vec<_>>().join("\n"));
        let taken = match read {
            Ok(plan) if plan == *running => Ok(Reload::Unchanged),
            Ok(plan) => self
                .take_over(plan)
                .await
                .map(|()| Reload::Taken)
                .map_err(|error| error.to_string()),
            Err(faults) => Err(faults),
        };
        match &taken {
            Ok(Reload::Taken) => {
                tracing::info!("certificates were read anew");
                self.warn_of_expiry();
            }
            Ok(_) if self.certificates_fault.lock().is_some() => {
                tracing::info!("the certificates are good again, and as before");
            }
            Ok(_) => {}
            Err(faults) => say_each("the certificates in use stay", faults),
        }
        *self.certificates_fault.lock() = taken.clone().err();
        taken.unwrap_or(Reload::Refused)
    }

    /// Reads the keys again where they were at start, and seals by them, or by the old ones as before.
    ///
    /// # Errors
    /// Why by the old ones, in words.
    pub fn reload_keys(&self) -> Result<(), String> {
        let Some(keys) = self.first.cluster.as_ref().and_then(|plan| plan.keys.as_ref()) else {
            return Ok(());
        };
        let read = keyring::file::read(&keys.file).map_err(|error| error.to_string());
        let taken = read.and_then(|ring| {
            let told = |error| format!("the keys {}: {error}", keys.file.display());
            self.take_keys(&Arc::new(ring)).map_err(told)
        });
        if let Err(fault) = &taken {
            tracing::error!("the keys in use stay: {fault}");
        }
        *self.keys_fault.lock() = taken.clone().err();
        taken
    }

    fn take_keys(&self, ring: &Arc<Keyring>) -> Result<(), RingError> {
        let Some(cluster) = &self.cluster else { return Ok(()) };
        if cluster.rekey(ring)? {
            tracing::info!(seals = %ring.first().id, keys = ?ring.ids(), "the keys of gossip changed");
        }
        Ok(())
    }

    fn refuse(&self, why: &dyn std::fmt::Display) -> Reload {
        let why = why.to_string();
        say_each("reload refused, the running configuration stays", &why);
        self.journal.refused(why);
        Reload::Refused
    }

    /// Some keys are read at start only.
    fn say_what_waits(&self, plan: &Plan) {
        // The bound on handshakes is looked up at every accept.
        let tcp = TcpOptions { max_handshakes: plan.tcp.max_handshakes, ..self.first.tcp };
        let waiting: Vec<&str> = [
            ("workers", plan.workers != self.first.workers),
            ("admin", plan.admin != self.first.admin),
            ("cluster", plan.cluster != self.first.cluster),
            ("tcp (of open listeners)", plan.tcp != tcp),
            ("log.format", plan.log.format != self.first.log.format),
        ]
        .into_iter()
        .filter_map(|(key, changed)| changed.then_some(key))
        .collect();
        if !waiting.is_empty() {
            tracing::warn!(keys = waiting.join(", "), "changed keys that wait for a restart");
        }
    }
}

/// A record is one line, and so is a fault.
fn say_each(what: &str, faults: &str) {
    faults.lines().for_each(|fault| tracing::error!("{what}: {fault}"));
}
