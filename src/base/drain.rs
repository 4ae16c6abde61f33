//! The drain signal: said once by the node, heard by everything that should come to an end.

use tokio::sync::watch;

/// How far the end has come. Only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Draining {
    /// Running.
    #[default]
    No,
    /// New work is no longer taken; what is under way goes on.
    Started,
    /// What is still under way is cut.
    Over,
}

/// The hearing end; cheap to clone.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<Draining>);

/// The saying end.
#[derive(Debug)]
pub struct DrainSignal(watch::Sender<Draining>);

/// A signal that has not been given yet.
pub fn drain_signal() -> (DrainSignal, Drain) {
    let (tx, rx) = watch::channel(Draining::No);
    (DrainSignal(tx), Drain(rx))
}

impl DrainSignal {
    /// Says `stage`; a stage that was passed already is ignored.
    pub fn say(&self, stage: Draining) {
        self.0.send_if_modified(|now| {
            let later = stage > *now;
            if later {
                *now = stage;
            }
            later
        });
    }
}

impl Drain {
    /// The stage now.
    pub fn stage(&self) -> Draining {
        *self.0.borrow()
    }

    /// Waits until at least `stage` was said; also ends when the signal's owner is gone.
    pub async fn reached(&mut self, stage: Draining) {
        // An error means that the owner is gone, which is an end as well.
        let _ = self.0.wait_for(|now| *now >= stage).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_never_goes_back() {
        let (signal, mut drain) = drain_signal();
        signal.say(Draining::Over);
        signal.say(Draining::Started);
        drain.reached(Draining::Started).await;
        assert_eq!(drain.stage(), Draining::Over);
    }
}
