//! What came of it all.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// Counts, and how long answers took.
#[derive(Clone, Debug)]
pub struct Summary {
    name: String,
    began: Instant,
    lasted: Duration,
    /// Lines.
    pub sent: u64,
    /// Connections after the first.
    pub reconnects: u64,
    /// Answers by who gave them.
    upstreams: BTreeMap<String, u64>,
    /// Connections that brought no answer, by what was told of them.
    refusals: BTreeMap<String, u64>,
    took: Vec<Duration>,
}

impl Summary {
    pub(super) fn begin(name: &str, now: Instant) -> Self {
        Summary {
            name: name.to_owned(),
            began: now,
            lasted: Duration::ZERO,
            sent: 0,
            reconnects: 0,
            upstreams: BTreeMap::new(),
            refusals: BTreeMap::new(),
            took: Vec::new(),
        }
    }

    pub(super) fn replied(&mut self, upstream: Option<&str>, took: Duration) {
        let upstream = upstream.unwrap_or("(one that does not say its name)");
        *self.upstreams.entry(upstream.to_owned()).or_default() += 1;
        self.took.push(took);
    }

    pub(super) fn ended(&mut self, why: &str, came_to_nothing: bool) {
        if came_to_nothing {
            *self.refusals.entry(why.to_owned()).or_default() += 1;
        }
    }

    pub(super) fn end(&mut self, now: Instant) {
        self.lasted = now.saturating_duration_since(self.began);
    }

    /// Answers.
    pub fn replies(&self) -> u64 {
        self.took.len() as u64
    }

    /// Answers by who gave them.
    pub fn upstreams(&self) -> &BTreeMap<String, u64> {
        &self.upstreams
    }

    /// Connections that brought no answer, by why.
    pub fn refusals(&self) -> &BTreeMap<String, u64> {
        &self.refusals
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refusals: u64 = self.refusals.values().sum();
        let Summary { name, sent, reconnects, .. } = self;
        let seconds = self.lasted.as_secs_f64();
        writeln!(f, "{name}: {seconds:.1} s")?;
        writeln!(f, "  sent        {sent}")?;
        writeln!(f, "  replies     {}", self.replies())?;
        for (upstream, count) in &self.upstreams {
            writeln!(f, "    {count} from {upstream}")?;
        }
        writeln!(f, "  refusals    {refusals}")?;
        for (why, count) in &self.refusals {
            writeln!(f, "    {count} × {why}")?;
        }
        writeln!(f, "  reconnects  {reconnects}")?;
        let mut took = self.took.clone();
        took.sort();
        if let (Some(least), Some(most)) = (took.first(), took.last()) {
            let median = took[took.len() / 2];
            let [least, median, most] = [*least, median, *most].map(ms);
            writeln!(f, "  latency     min {least}, median {median}, max {most}")?;
        }
        Ok(())
    }
}

pub(super) fn ms(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1000.0)
}
