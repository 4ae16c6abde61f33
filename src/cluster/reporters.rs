//! Numbers for those who report, so that a row of the books names its actor in two bytes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::books::Reporter;
use crate::base::Actor;

/// A number is given to another actor when its own has not reported for this long: its rows have
/// left the books by then.
const KEPT: Duration = Duration::from_secs(60);

/// Who has which number.
#[derive(Debug, Default)]
pub struct Reporters {
    actors: Vec<Option<Actor>>,
    numbers: BTreeMap<Actor, (Reporter, Instant)>,
    free: Vec<Reporter>,
}

impl Reporters {
    /// The number of `actor`, who reports now; `None` when there are none left.
    pub fn number(&mut self, now: Instant, actor: Actor) -> Option<Reporter> {
        if let Some((number, heard)) = self.numbers.get_mut(&actor) {
            *heard = now;
            return Some(*number);
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.actors.len() < Reporter::MOST => {
                self.actors.push(None);
                Reporter(self.actors.len() as u16 - 1)
            }
            None => return None,
        };
        self.actors[usize::from(number.0)] = Some(actor);
        self.numbers.insert(actor, (number, now));
        Some(number)
    }

    /// Who has `number`.
    pub fn actor(&self, number: Reporter) -> Option<Actor> {
        self.actors.get(usize::from(number.0)).copied().flatten()
    }

    /// Takes numbers back.
    pub fn forget_silent(&mut self, now: Instant) {
        let (actors, free) = (&mut self.actors, &mut self.free);
        self.numbers.retain(|_, (number, heard)| {
            let kept = now.saturating_duration_since(*heard) <= KEPT;
            if !kept {
                actors[usize::from(number.0)] = None;
                free.push(*number);
            }
            kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BootId, NodeId, time};

    fn actor(node: u64) -> Actor {
        Actor { node: NodeId(node), boot: BootId::new(1) }
    }

    #[test]
    fn a_number_is_kept_while_its_actor_reports_and_given_on_long_after() {
        let start = time::now();
        let mut reporters = Reporters::default();
        let first = reporters.number(start, actor(1)).unwrap();
        let second = reporters.number(start, actor(2)).unwrap();
        assert_ne!(first, second);
        let later = start + KEPT;
        assert_eq!(reporters.number(later, actor(1)), Some(first));
        reporters.forget_silent(later + Duration::from_millis(1));
        assert_eq!((reporters.actor(first), reporters.actor(second)), (Some(actor(1)), None));
        assert_eq!(reporters.number(later, actor(3)), Some(second));
    }

    #[test]
    fn numbers_are_bounded() {
        let (start, mut reporters) = (time::now(), Reporters::default());
        for node in 0..Reporter::MOST as u64 {
            assert!(reporters.number(start, actor(node)).is_some());
        }
        assert_eq!(reporters.number(start, actor(u64::MAX)), None);
    }
}
