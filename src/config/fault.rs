//! What is wrong with a configuration: where, what, and how to mend it.

use std::fmt;

use super::watches::Seen;

/// One fault, or one warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Counted from 1; `None` when the fault has no place (the file cannot be read, say).
    pub line: Option<u64>,
    /// Counted from 1, in characters.
    pub column: Option<u64>,
    /// `rules[0].backends[1].address`; empty for the file as a whole.
    pub field: String,
    /// What is wrong.
    pub what: String,
    /// How to mend it, in the imperative.
    pub remedy: String,
}

/// More than anybody reads, and few enough for a log.
const MOST_PRINTED: usize = 200;

/// All faults of a configuration, in the order of the file. Prints one line for each (of a great
/// many, the first 200): `lb.yaml:12:5: rules[0].listen: …; write …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    file: String,
    all: Vec<Fault>,
    seen: Seen,
}

impl Faults {
    /// The faults of `file` (its path as given by the user), sorted by place.
    pub fn new(file: impl Into<String>, mut all: Vec<Fault>) -> Self {
        all.sort_by_key(|fault| (fault.line, fault.column));
        Faults { file: file.into(), all, seen: Seen::default() }
    }

    /// The same, found when these files were read for it.
    pub(super) fn after(self, seen: Seen) -> Self {
        Faults { seen, ..self }
    }

    /// The files that the configuration names, as they were read: what is at fault may be mended there.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// The file as the user named it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Each fault, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.all.iter()
    }

    /// How many there are; never 0 in an `Err`.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.all.iter().take(MOST_PRINTED).enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            fault.write(f, &self.file)?;
        }
        match self.all.len().saturating_sub(MOST_PRINTED) {
            0 => Ok(()),
            more => write!(f, "\n{}: and {more} more", self.file),
        }
    }
}

impl Fault {
    /// The fault with the name of its file before it, as [`Faults`] prints it.
    pub fn in_file(&self, file: &str) -> String {
        struct In<'a>(&'a Fault, &'a str);
        impl fmt::Display for In<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.write(f, self.1)
            }
        }
        In(self, file).to_string()
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, file: &str) -> fmt::Result {
        f.write_str(file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let (Some(_), Some(column)) = (self.line, self.column) {
            write!(f, ":{column}")?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// What is wrong with one value and how to mend it, before its place is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) remedy: String,
}

impl Wrong {
    pub(super) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Wrong { what: what.into(), remedy: remedy.into() }
    }
}

/// `text` as it may stand in a message: no control characters, no endless lines.
pub(super) fn quote(text: &str) -> String {
    const MOST: usize = 60;
    let mut shown: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_print_in_the_order_of_the_file_with_place_field_and_remedy() {
        let fault = |line, field: &str| Fault {
            line,
            column: line.map(|_| 3),
            field: field.into(),
            what: "is wrong".into(),
            remedy: "write it right".into(),
        };
        let faults = Faults::new("lb.yaml", vec![fault(Some(9), "b"), fault(Some(2), "a")]);
        assert_eq!(
            faults.to_string(),
            "lb.yaml:2:3: a: is wrong; write it right\nlb.yaml:9:3: b: is wrong; write it right"
        );
        assert_eq!(fault(None, "").in_file("x"), "x: is wrong; write it right");
    }

    #[test]
    fn of_a_great_many_faults_the_first_are_printed_and_the_rest_counted() {
        let one = Wrong::new("is wrong", "");
        let place = |line| Fault {
            line: Some(line),
            column: None,
            field: String::new(),
            what: one.what.clone(),
            remedy: one.remedy.clone(),
        };
        let text = Faults::new("x", (1..=1000).map(place).collect()).to_string();
        assert!(text.starts_with("x:1: is wrong\nx:2: is wrong\n"), "{text}");
        assert!(text.ends_with("x:200: is wrong\nx: and 800 more"), "{text}");
    }

    #[test]
    fn what_a_message_quotes_is_short_and_printable() {
        assert_eq!(quote("a\u{1b}[31mb"), "`a\\u{1b}[31mb`");
        assert!(quote(&"x".repeat(10_000)).len() < 80);
    }
}
