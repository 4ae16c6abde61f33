//! Where workers hand in their asks: a bounded channel to the agent, an answer back, and a wait that
//! ends whatever the agent does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::traffic::{Answer, Answering, Ask, Asking};

/// Asks that may wait for the agent.
const MOST_WAITING: usize = 1024;
/// How much longer than the machine a worker waits: then the agent itself stands still.
const GRACE: Duration = Duration::from_millis(10);

/// An ask on its way.
pub(super) type Asked = (Ask, oneshot::Sender<Answer>);

/// The workers' side.
pub(super) struct Desk {
    asks: Sender<Asked>,
    clock: Arc<DeskClock>,
}

/// What both sides share.
#[derive(Debug, Default)]
pub(super) struct DeskClock {
    /// Microseconds that the machine gives an ask.
    patience: AtomicU64,
    /// Asks that were not taken, because too many were waiting already.
    crowded: AtomicU64,
    /// Asks that ended because the agent stood still, or began anew.
    stuck: AtomicU64,
}

impl Desk {
    pub(super) fn open() -> (Desk, Receiver<Asked>, Arc<DeskClock>) {
        let (asks, asked) = channel(MOST_WAITING);
        let clock = Arc::new(DeskClock::default());
        (Desk { asks, clock: Arc::clone(&clock) }, asked, clock)
    }
}

impl Asking for Desk {
    fn ask(&self, ask: Ask) -> Answering<'_> {
        let (answer, answered) = oneshot::channel();
        if self.asks.try_send((ask, answer)).is_err() {
            self.clock.crowded.fetch_add(1, Ordering::Relaxed);
            return Box::pin(std::future::ready(Answer::Nobody));
        }
        let patience = Duration::from_micros(self.clock.patience.load(Ordering::Relaxed));
        Box::pin(async move {
            match timeout(patience + GRACE, answered).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) | Err(_) => {
                    self.clock.stuck.fetch_add(1, Ordering::Relaxed);
                    Answer::Nobody
                }
            }
        })
    }
}

impl DeskClock {
    /// How long the machine lets any ask wait.
    pub(super) fn be_patient(&self, patience: Duration) {
        self.patience.store(patience.as_micros() as u64, Ordering::Relaxed);
    }

    /// Asks that were not taken, and that ended because the agent stood still.
    pub(super) fn lost(&self) -> (u64, u64) {
        (self.crowded.load(Ordering::Relaxed), self.stuck.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{KeyHash, LimitId};

    const ASK: Ask = Ask::Permits { limit: LimitId(1), key: KeyHash(2), cap: 3 };

    #[tokio::test(start_paused = true)]
    async fn an_answer_comes_back_to_who_asked() {
        let (desk, mut asked, clock) = Desk::open();
        clock.be_patient(Duration::from_millis(20));
        let (got, ()) = tokio::join!(desk.ask(ASK), async {
            let (ask, answer) = asked.recv().await.unwrap();
            assert_eq!(ask, ASK);
            answer.send(Answer::Granted { level: 3.0 }).unwrap();
        });
        assert_eq!(got, Answer::Granted { level: 3.0 });
        assert_eq!(clock.lost(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_stands_still_holds_nobody_up() {
        let (desk, _asked, clock) = Desk::open();
        clock.be_patient(Duration::from_millis(20));
        let began = tokio::time::Instant::now();
        assert_eq!(desk.ask(ASK).await, Answer::Nobody);
        assert!(began.elapsed() <= Duration::from_millis(31), "{:?}", began.elapsed());
        assert_eq!(clock.lost(), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_lets_go_of_an_ask_ends_it_at_once() {
        let (desk, mut asked, clock) = Desk::open();
        clock.be_patient(Duration::from_secs(9));
        let began = tokio::time::Instant::now();
        let (got, ()) = tokio::join!(desk.ask(ASK), async {
            drop(asked.recv().await);
        });
        assert_eq!((got, began.elapsed()), (Answer::Nobody, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_a_full_channel_nobody_is_asked() {
        let (desk, _asked, clock) = Desk::open();
        let waiting: Vec<_> = (0..MOST_WAITING).map(|_| desk.ask(ASK)).collect();
        let began = tokio::time::Instant::now();
        assert_eq!(desk.ask(ASK).await, Answer::Nobody);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(clock.lost(), (1, 0));
        drop(waiting);
    }
}
