//! Where workers hand in their asks: a bounded channel to the agent, an answer back, and a wait that
//! ends whatever the agent does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::base::time;
use crate::traffic::{Answer, Answering, Ask, Asking};

/// Asks that may wait for the agent.
const MOST_WAITING: usize = 1024;
/// How much longer than the machine a worker waits: then the agent itself stands still.
const GRACE: Duration = Duration::from_millis(10);
/// An agent that did not run for so long is no more. One that is only late, on a machine that is
/// busy, is not a reason to let more in than a cap says.
const GONE: Duration = Duration::from_secs(1);

/// An ask on its way.
pub(super) type Asked = (Ask, oneshot::Sender<Answer>);

/// The workers' side.
pub(super) struct Desk {
    asks: Sender<Asked>,
    clock: Arc<DeskClock>,
}

/// What both sides share.
#[derive(Debug)]
pub(super) struct DeskClock {
    began: Instant,
    /// Milliseconds after `began` at which the agent last ran.
    ran: AtomicU64,
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
        let clock = Arc::new(DeskClock {
            began: time::now(),
            ran: AtomicU64::new(0),
            patience: AtomicU64::new(0),
            crowded: AtomicU64::new(0),
            stuck: AtomicU64::new(0),
        });
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
                // It begins anew.
                Ok(Err(_)) => self.clock.lose(),
                Err(_) => match (self.clock.lose(), ask) {
                    (_, Ask::Permits { .. }) if !self.clock.is_gone() => {
                        Answer::Refused { level: 0.0 }
                    }
                    (nobody, _) => nobody,
                },
            }
        })
    }
}

impl DeskClock {
    fn lose(&self) -> Answer {
        self.stuck.fetch_add(1, Ordering::Relaxed);
        Answer::Nobody
    }

    fn is_gone(&self) -> bool {
        let age = time::now().saturating_duration_since(self.began);
        age.saturating_sub(Duration::from_millis(self.ran.load(Ordering::Relaxed))) >= GONE
    }

    /// The agent runs; how long its machine lets any ask wait.
    pub(super) fn be_patient(&self, patience: Duration) {
        let age = time::now().saturating_duration_since(self.began);
        self.ran.store(age.as_millis() as u64, Ordering::Relaxed);
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
        assert_eq!(desk.ask(ASK).await, Answer::Refused { level: 0.0 }, "it is only late");
        assert!(began.elapsed() <= Duration::from_millis(31), "{:?}", began.elapsed());
        assert_eq!(clock.lost(), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_is_gone_is_nobody() {
        let (mut desk, _asked, clock) = Desk::open();
        drop(clock);
        let clock = Arc::get_mut(&mut desk.clock).unwrap();
        clock.began = clock.began.checked_sub(GONE).unwrap();
        assert_eq!(desk.ask(ASK).await, Answer::Nobody);
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
