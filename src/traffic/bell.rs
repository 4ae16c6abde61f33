//! The bell between workers and the cluster wing: something should be told now.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Wakes whoever tells the ledger, once until it has come.
#[derive(Default)]
pub(super) struct Bell {
    rung: AtomicBool,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Bell {
    /// Who comes. The first one stays: a node has one cluster.
    pub(super) fn hang(&self, wake: Box<dyn Fn() + Send + Sync>) {
        let _ = self.wake.set(wake);
    }

    /// Called by workers, for every admission past a threshold. Sequentially consistent, as
    /// `answered` is: a mark that the look after `answered` does not see rings a bell that is not
    /// rung any more.
    pub(super) fn ring(&self) {
        let asked = self.rung.swap(true, Ordering::SeqCst);
        if let (false, Some(wake)) = (asked, self.wake.get()) {
            wake();
        }
    }

    /// Whoever was woken looks now: who rings from here on may be missed by that look, and wakes
    /// again.
    pub(super) fn answered(&self) {
        self.rung.swap(false, Ordering::SeqCst);
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").field("rung", &self.rung).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn a_bell_wakes_once_until_it_is_answered() {
        let (bell, woken) = (Bell::default(), Arc::new(AtomicUsize::new(0)));
        bell.ring();
        bell.answered();
        let count = Arc::clone(&woken);
        bell.hang(Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        for times in 1..=3 {
            bell.ring();
            bell.ring();
            assert_eq!(woken.load(Ordering::Relaxed), times);
            bell.answered();
        }
    }
}
