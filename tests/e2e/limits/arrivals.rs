//! Who comes when, to which node: drawn beforehand from one seed, so that the central bucket and the
//! cluster are offered the very same.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A client comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Arrival {
    /// From the beginning.
    pub(crate) at: Duration,
    /// Which node it is sent to.
    pub(crate) node: usize,
}

/// A stretch of load.
#[derive(Clone, Debug)]
pub(crate) struct Stretch {
    pub(crate) seconds: f64,
    /// Arrivals a second, all nodes together.
    pub(crate) rate: f64,
    /// Each node's weight.
    pub(crate) weights: Vec<f64>,
}

/// `rate` a second for `seconds`, evenly over the nodes.
pub(crate) fn even(nodes: usize, rate: f64, seconds: f64) -> Stretch {
    Stretch { seconds, rate, weights: vec![1.0; nodes] }
}

/// The same with nine tenths at one node.
pub(crate) fn skewed(nodes: usize, to: usize, rate: f64, seconds: f64) -> Stretch {
    let other = 0.1 / (nodes - 1) as f64;
    let weights = (0..nodes).map(|node| if node == to { 0.9 } else { other }).collect();
    Stretch { seconds, rate, weights }
}

/// Nobody.
pub(crate) fn idle(nodes: usize, seconds: f64) -> Stretch {
    even(nodes, 0.0, seconds)
}

/// Arrivals of one stretch after the other, independent of each other (exponential gaps).
pub(crate) fn draw(seed: u64, stretches: &[Stretch]) -> Vec<Arrival> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut all, mut begin) = (Vec::new(), 0.0);
    for stretch in stretches {
        let (end, whole) = (begin + stretch.seconds, stretch.weights.iter().sum::<f64>());
        let mut at = begin;
        loop {
            // An idle stretch's next arrival is infinitely far.
            at += -(1.0 - rng.random::<f64>()).ln() / stretch.rate;
            if at >= end {
                break;
            }
            let mut drawn = rng.random::<f64>() * whole;
            let node = stretch.weights.iter().position(|weight| {
                drawn -= weight;
                drawn < 0.0
            });
            let node = node.unwrap_or(stretch.weights.len() - 1);
            all.push(Arrival { at: Duration::from_secs_f64(at), node });
        }
        begin = end;
    }
    all
}

/// `number` at once, at one node.
pub(crate) fn burst(at: f64, node: usize, number: usize) -> Vec<Arrival> {
    vec![Arrival { at: Duration::from_secs_f64(at), node }; number]
}
