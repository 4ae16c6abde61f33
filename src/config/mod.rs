//! Configuration: the file as written → the plan as meant, with every fault at its line.
//!
//! ```text
//! text → marked tree → judged against the schema → file → validated → plan
//!            │                 │                              │
//!          syntax      keys, kinds, ranges           what they mean together      → all faults
//! ```
//!
//! A value that the schema refuses is taken out and the walk goes on, so that one run shows every
//! fault. Keys and words that a later release brings are refused by name, never ignored; where
//! such a key says only what this version does anyway (`cache: { enabled: false }`), it asks for
//! nothing and is accepted.

mod digest;
mod fault;
mod file;
mod judge;
mod marked;
mod material;
pub mod plan;
mod schema;
mod summary;
mod validate;
mod watch;
mod watches;
mod written;

#[cfg(test)]
mod tests;

use std::io::Read as _;
use std::path::Path;

pub use fault::{Fault, Faults};
pub use plan::{AdminPlan, LogFormat, LogPlan, Plan};
pub use summary::summary;
pub use watch::Watch;
pub use watches::{Seen, Watches};

use crate::base::file::{open, open_typed};
use file::File;

/// A configuration that can be run.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What is meant.
    pub plan: Plan,
    /// What was accepted and is probably not meant, in the order of the file.
    pub warnings: Vec<Fault>,
    /// The files that it names, as they were read.
    pub seen: Seen,
}

/// Loads the configuration file at `path` and what it names (`token_file`, `keys_file`, the files of
/// TLS; relative paths are relative to the file's directory).
///
/// # Errors
/// All faults at once. A file that cannot be read, is larger than 1 MiB or is no UTF-8 text is one
/// fault.
pub fn load(path: &Path) -> Result<Loaded, Faults> {
    load_by(path, open_typed)
}

/// Loads it again while a node runs. A pipe gives its text only once, so by now it is a fault.
///
/// # Errors
/// As [`load`].
pub fn load_again(path: &Path) -> Result<Loaded, Faults> {
    load_by(path, open)
}

fn load_by(path: &Path, open: Open) -> Result<Loaded, Faults> {
    let name = path.display().to_string();
    let text = read(path, open).map_err(|fault| Faults::new(&name, vec![fault]))?;
    parse(&text, &name, path.parent().unwrap_or(Path::new("")))
}

/// Loads a configuration from `text`. `name` stands in messages for the file, `dir` is where
/// relative paths begin.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, name: &str, dir: &Path) -> Result<Loaded, Faults> {
    let faults = |all| Faults::new(name, all);
    let tree = marked::read(text).map_err(|fault| faults(vec![fault]))?;
    let (clean, places, mut all) = judge::judge(&tree, schema::FILE);
    let file = match File::take(clean) {
        Ok(file) => file,
        Err(what) => {
            all.push(whole_file(what, ""));
            return Err(faults(all));
        }
    };
    let validate::Outcome { plan, faults: meant, mut warnings, seen } =
        validate::plan(&file, &places, dir);
    all.extend(meant);
    if !all.is_empty() {
        return Err(faults(all).after(seen));
    }
    warnings.sort_by_key(|warning| (warning.line, warning.column));
    Ok(Loaded { plan, warnings, seen })
}

type Open = fn(&Path) -> std::io::Result<std::fs::File>;

fn read(path: &Path, open: Open) -> Result<String, Fault> {
    let mut bytes = Vec::new();
    open(path).and_then(|file| file.take(marked::LARGEST + 1).read_to_end(&mut bytes)).map_err(
        |error| {
            let what = format!("cannot be read: {error}");
            whole_file(what, "write its path behind `--config`")
        },
    )?;
    if bytes.len() as u64 > marked::LARGEST {
        return Err(whole_file("is larger than 1 MiB", "write a smaller file"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count() as u64;
        Fault { line: Some(line), ..whole_file("is not UTF-8 text", "save the file as UTF-8") }
    })
}

fn whole_file(what: impl Into<String>, remedy: &str) -> Fault {
    Fault {
        line: None,
        column: None,
        field: String::new(),
        what: what.into(),
        remedy: remedy.to_owned(),
    }
}
