//! `tidegate run`: one node, with signals and the watched file, until it is told to stop.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::boot::Node;
use super::logging::{self, Log};
use crate::cluster::Keys;
use crate::cluster::keyring;
use crate::config::{self, Plan, Watch, Watches};
use crate::net::{connections_for, raise_descriptor_limit};

/// Runs the node of the file at `path`. Exit codes: 0 after a drain, 1 when the file is bad or
/// something could not be started.
pub fn run(path: &Path) -> ExitCode {
    // Before the load, so that a change in between is seen.
    let watch = Watch::new(path);
    let loaded = match config::load(path) {
        Ok(loaded) => loaded,
        Err(faults) => return refuse(&faults),
    };
    let log = logging::init(&loaded.plan.log);
    say_warnings(&loaded.warnings, path);
    say_descriptors();
    match control_runtime() {
        Ok(runtime) => runtime.block_on(serve(path, loaded.plan, watch, &log)),
        Err(error) => refuse(&format_args!("cannot start the control runtime: {error}")),
    }
}

/// What was accepted and is probably not meant: at start and at every reload.
pub(super) fn say_warnings(warnings: &[config::Fault], path: &Path) {
    let file = path.display().to_string();
    warnings.iter().for_each(|warning| tracing::warn!("{}", warning.in_file(&file)));
}

/// Descriptors are what a proxy runs out of first.
fn say_descriptors() {
    match raise_descriptor_limit() {
        Ok(limit) => {
            let connections = connections_for(limit);
            tracing::info!(descriptors = limit, connections, "open files allow this many");
        }
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open files"),
    }
}

/// The runtime for checks, names, admin and reload: apart from the workers, so that neither can
/// hold up the other.
pub(super) fn control_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
}

/// Says on stderr why nothing starts.
pub(super) fn refuse(why: &dyn std::fmt::Display) -> ExitCode {
    // When stderr is gone nobody reads it; the exit code says it all the same.
    let _ = writeln!(std::io::stderr(), "tidegate: {why}");
    ExitCode::FAILURE
}

/// What may happen to a running node.
enum Event {
    Reload(&'static str),
    Keys,
    Certificates,
    Stop(&'static str),
}

/// The signals that end a node.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Stop {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn asked(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The keys may have changed since they were read: then that is seen as well.
fn watch_keys(keys: &Keys) -> Watch {
    let watch = Watch::new(&keys.file);
    let same = keyring::file::read(&keys.file).is_ok_and(|ring| ring == *keys.ring);
    if same { watch } else { Watch::unseen(&keys.file) }
}

async fn changed(watch: &mut Option<Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

async fn serve(path: &Path, plan: Plan, mut watch: Watch, log: &Log) -> ExitCode {
    let signals = Stop::new().and_then(|stop| Ok((stop, signal(SignalKind::hangup())?)));
    let (mut stop, mut hangup) = match signals {
        Ok(signals) => signals,
        Err(error) => return refuse(&format_args!("cannot listen for signals: {error}")),
    };
    let mut keys = plan.cluster.as_ref().and_then(|cluster| cluster.keys.as_ref()).map(watch_keys);
    let mut files = Watches::default();
    files.watch(plan.material_files());
    let node = tokio::select! {
        started = Node::start(plan) => match started {
            Ok(node) => node,
            Err(error) => return refuse(&error),
        },
        // Nothing is served yet, so nothing has to be drained.
        _ = stop.asked() => return ExitCode::SUCCESS,
    };
    loop {
        let event = tokio::select! {
            _ = hangup.recv() => Event::Reload("SIGHUP"),
            () = watch.changed() => Event::Reload("the file changed"),
            () = changed(&mut keys) => match node.files_at_fault().is_empty() {
                true => Event::Keys,
                false => Event::Reload("the keys changed"),
            },
            changed = files.changed() => match node.files_at_fault().names(&changed) {
                false => Event::Certificates,
                true => Event::Reload("a file that the refused configuration names changed"),
            },
            name = stop.asked() => Event::Stop(name),
            () = node.asked_to_leave() => Event::Stop("`tidegate leave`"),
        };
        match event {
            Event::Reload(why) => {
                tracing::info!(why, "reload");
                watch.caught_up();
                keys.iter_mut().for_each(Watch::caught_up);
                if why == "SIGHUP" {
                    node.reopen_access_log();
                }
                // A reload waits for first checks; who wants the node to stop does not.
                tokio::select! {
                    _ = node.reload(path) => log.change_level(&node.plan().log),
                    name = stop.asked() => break tracing::info!(why = name, "stop"),
                }
                files.watch(node.plan().material_files());
                files.also(node.files_at_fault());
            }
            Event::Certificates => tokio::select! {
                _ = node.reload_certificates() => {}
                name = stop.asked() => break tracing::info!(why = name, "stop"),
            },
            // What is wrong with them is in the log and in `status`.
            Event::Keys => drop(node.reload_keys()),
            Event::Stop(why) => break tracing::info!(why, "stop"),
        }
    }
    tokio::select! {
        _ = node.drain() => {}
        name = stop.asked() => tracing::warn!(name, "told twice: stopping at once"),
    }
    ExitCode::SUCCESS
}
