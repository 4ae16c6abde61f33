//! The log: to stderr, as text or JSON, at the level of the configuration; a reload changes the
//! level. A thread of its own writes it: when nobody reads stderr any more, lines are lost, and no
//! worker waits.

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::{LogFormat, LogPlan};

/// Changes the level later. Its end waits a moment until what was said is written.
pub(super) struct Log {
    level: Option<reload::Handle<EnvFilter, Registry>>,
    _writer: WorkerGuard,
}

/// Installs the process's subscriber; when there is one already, that one stays.
pub(super) fn init(plan: &LogPlan) -> Log {
    let (filter, handle) = reload::Layer::new(filter(&plan.level));
    let (stderr, writer) = tracing_appender::non_blocking(std::io::stderr());
    let lines = fmt::layer().with_writer(stderr);
    let layer = match plan.format {
        LogFormat::Text => lines.with_ansi(false).with_filter(filter).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    let installed = tracing_subscriber::registry().with(layer).try_init().is_ok();
    Log { level: installed.then_some(handle), _writer: writer }
}

impl Log {
    /// Takes over the level of a reloaded plan; the format stays until a restart.
    pub(super) fn change_level(&self, plan: &LogPlan) {
        if let Some(handle) = &self.level {
            // Fails only when the subscriber is gone, and then nobody reads the log.
            let _ = handle.reload(filter(&plan.level));
        }
    }
}

/// A level that the configuration room let pass is valid; a library's chatter stays at warnings.
fn filter(level: &str) -> EnvFilter {
    let text = if level.contains(['=', ',']) {
        level.to_owned()
    } else {
        format!("{level},foca=warn,hickory_resolver=warn,hickory_proto=warn,hickory_net=warn")
    };
    EnvFilter::try_new(text).unwrap_or_else(|_| EnvFilter::new("info"))
}
