//! Walks the marked tree along the schema: every value that cannot stand becomes a fault at its
//! place, and what is left is a clean value for the file's shapes. A refused value is left out,
//! so that the rest is judged all the same and all faults show at once.

use std::collections::HashMap;

use super::fault::{Fault, Wrong, quote};
use super::file::{Clean, Mapping, Number};
use super::marked::{Mark, Node, Value};
use super::schema::{Is, Key, Kind, Later, Word};

/// Where each field stands: `rules[0].listen` → line and column.
#[derive(Default)]
pub(super) struct Places(HashMap<String, Mark>);

impl Places {
    /// Whether `field` was written.
    pub(super) fn has(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    /// A fault at `field`, or at the nearest field around it that was written.
    pub(super) fn fault(&self, field: &str, wrong: Wrong) -> Fault {
        let mut near = field;
        let mark = loop {
            if let Some(mark) = self.0.get(near) {
                break Some(*mark);
            }
            match near.rfind(['.', '[']) {
                Some(end) => near = &near[..end],
                None => break None,
            }
        };
        Fault {
            line: mark.map(|mark| mark.line),
            column: mark.map(|mark| mark.column),
            // `listen[0]` of a listener that was written alone is `listen`.
            field: if field.ends_with(']') && mark.is_some() { near } else { field }.to_owned(),
            what: wrong.what,
            remedy: wrong.remedy,
        }
    }
}

/// Judges the whole document against `schema`.
pub(super) fn judge(root: &Node, schema: &'static [Key]) -> (Clean, Places, Vec<Fault>) {
    let mut judge = Judge { faults: Vec::new(), places: Places::default() };
    let clean = judge.section(schema, root, "").unwrap_or(Clean::Mapping(Mapping::new()));
    (clean, judge.places, judge.faults)
}

struct Judge {
    faults: Vec<Fault>,
    places: Places,
}

impl Judge {
    /// The clean value, or `None` when it was refused.
    fn value(&mut self, kind: &'static Kind, node: &Node, field: &str) -> Option<Clean> {
        match node.value {
            Value::Scalar { .. } => {
                self.places.0.insert(field.to_owned(), node.mark);
            }
            // What spans lines is best shown at its key.
            _ => {
                self.places.0.entry(field.to_owned()).or_insert(node.mark);
            }
        }
        match kind {
            Kind::List(item) => match &node.value {
                Value::List(items) => Some(self.items(item, items, field)),
                _ => self.refuse(node, field, expected("a list `[…]`", node)),
            },
            Kind::OneOrMore(item) => match &node.value {
                Value::List(items) => Some(self.items(item, items, field)),
                _ => self.value(item, node, field).map(|one| Clean::Sequence(vec![one])),
            },
            Kind::Section(keys) => self.section(keys, node, field),
            Kind::Short(keys) => match &node.value {
                Value::Scalar { .. } => self.in_short(&keys[0], node, field),
                _ => self.section(keys, node, field),
            },
            Kind::TextOr(read, keys) => match &node.value {
                Value::Scalar { text, .. } => match read(text) {
                    Ok(()) => Some(Clean::from(text.as_str())),
                    Err(wrong) => self.refuse(node, field, wrong),
                },
                _ => self.section(keys, node, field),
            },
            Kind::Disabled(later) => {
                if !is_disabled(node) {
                    return self.refuse(node, field, not_yet("", *later));
                }
                Some(Clean::Null)
            }
            _ => match scalar(kind, node) {
                Ok(clean) => Some(clean),
                Err(wrong) => self.refuse(node, field, wrong),
            },
        }
    }

    /// A refused item leaves a gap, so that the others keep their index.
    fn items(&mut self, item: &'static Kind, items: &[Node], field: &str) -> Clean {
        let mut clean = Vec::with_capacity(items.len());
        for (i, node) in items.iter().enumerate() {
            clean.push(self.value(item, node, &format!("{field}[{i}]")).unwrap_or(Clean::Null));
        }
        Clean::Sequence(clean)
    }

    /// `"127.0.0.1:8081"` for `{ address: "127.0.0.1:8081" }`.
    fn in_short(&mut self, key: &'static Key, node: &Node, field: &str) -> Option<Clean> {
        let (Is::Required(kind) | Is::Optional(kind)) = &key.is else { return None };
        let clean = self.value(kind, node, field)?;
        Some(Clean::Mapping([(Clean::from(key.name), clean)].into_iter().collect()))
    }

    fn section(&mut self, keys: &'static [Key], node: &Node, field: &str) -> Option<Clean> {
        let Value::Map(pairs) = &node.value else {
            return self.refuse(node, field, expected("keys and values", node));
        };
        let mut clean = Mapping::new();
        let mut seen: HashMap<&str, u64> = HashMap::new();
        for (key_node, value) in pairs {
            let Value::Scalar { text: name, .. } = &key_node.value else {
                let wrong = Wrong::new("a key must be a text", "write `key: value`");
                self.refuse(key_node, field, wrong);
                continue;
            };
            let at = join(field, name);
            if let Some(first) = seen.insert(name, key_node.mark.line) {
                let what = format!("{} is written twice, first in line {first}", quote(name));
                self.refuse(key_node, &shown(&at), Wrong::new(what, "keep one of them"));
                continue;
            }
            let Some(key) = keys.iter().find(|key| key.name == name) else {
                self.refuse(key_node, &shown(&at), unknown(name, keys));
                continue;
            };
            let empty = matches!(value.value, Value::Null);
            // As if it had not been written.
            if !empty || !matches!(key.is, Is::Optional(_)) {
                self.places.0.insert(at.clone(), key_node.mark);
            }
            match &key.is {
                Is::Later(later) => {
                    self.refuse(key_node, &at, not_yet("", *later));
                }
                // An empty value asks for nothing; where one is needed, it is missing below.
                _ if empty => {
                    seen.remove(name.as_str());
                }
                Is::NoOp(Kind::Disabled(later)) if !is_disabled(value) => {
                    self.refuse(key_node, &at, not_yet("", *later));
                }
                Is::NoOp(kind) => {
                    self.value(kind, value, &at);
                }
                Is::Required(_) if matches!(&value.value, Value::List(all) if all.is_empty()) => {
                    self.refuse(
                        key_node,
                        &at,
                        Wrong::new("the list is empty", "write at least one"),
                    );
                }
                Is::Optional(kind) | Is::Required(kind) | Is::Listed(kind) => {
                    if let Some(value) = self.value(kind, value, &at) {
                        clean.insert(Clean::from(key.name), value);
                    }
                }
            }
        }
        for key in keys {
            if matches!(key.is, Is::Required(_) | Is::Listed(_)) && !seen.contains_key(key.name) {
                let at = join(field, key.name);
                let wrong = Wrong::new("is missing", format!("write `{}:`", key.name));
                let mark = self.places.0.get(&at).copied().unwrap_or(node.mark);
                self.refuse(&Node { mark, value: Value::Null }, &at, wrong);
            }
        }
        Some(Clean::Mapping(clean))
    }

    fn refuse(&mut self, node: &Node, field: &str, wrong: Wrong) -> Option<Clean> {
        self.faults.push(Fault {
            line: Some(node.mark.line),
            column: Some(node.mark.column),
            field: field.to_owned(),
            what: wrong.what,
            remedy: wrong.remedy,
        });
        None
    }
}

fn join(field: &str, key: &str) -> String {
    if field.is_empty() { key.to_owned() } else { format!("{field}.{key}") }
}

fn is_disabled(node: &Node) -> bool {
    let Value::Map(pairs) = &node.value else { return false };
    pairs.iter().any(|(key, value)| {
        is_plain(key, "enabled") && (is_plain(value, "false") || is_plain(value, "False"))
    })
}

fn is_plain(node: &Node, word: &str) -> bool {
    matches!(&node.value, Value::Scalar { text, plain: true } if text == word)
}

fn scalar(kind: &Kind, node: &Node) -> Result<Clean, Wrong> {
    let Value::Scalar { text, plain } = &node.value else {
        return Err(expected(wanted(kind), node));
    };
    match kind {
        Kind::Bool => truth(text, *plain).map(Clean::Bool),
        Kind::Int(least, most) => int(text, *plain, *least, *most).map(Clean::from),
        Kind::Rate => rate(text, *plain).map(|rate| Clean::Number(Number::from(rate))),
        Kind::Words(words) => word(text, words).map(|()| Clean::from(text.as_str())),
        Kind::Text(read) => read(text).map(|()| Clean::from(text.as_str())),
        _ => Err(expected(wanted(kind), node)),
    }
}

fn wanted(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "`true` or `false`",
        Kind::Int(..) | Kind::Rate => "a number",
        Kind::Words(_) => "a word",
        _ => "a text",
    }
}

fn expected(wanted: &str, node: &Node) -> Wrong {
    let found = match &node.value {
        Value::Null => "nothing".to_owned(),
        Value::Scalar { text, .. } => quote(text),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "keys and values".to_owned(),
    };
    Wrong::new(format!("found {found}"), format!("write {wanted}"))
}

fn truth(text: &str, plain: bool) -> Result<bool, Wrong> {
    match text {
        "true" | "True" | "TRUE" if plain => Ok(true),
        "false" | "False" | "FALSE" if plain => Ok(false),
        "true" | "false" => Err(Wrong::new("found a text", format!("write {text} without quotes"))),
        _ => Err(Wrong::new(format!("found {}", quote(text)), "write `true` or `false`")),
    }
}

fn int(text: &str, plain: bool, least: u64, most: u64) -> Result<u64, Wrong> {
    let bounds = || format!("write a whole number from {least} to {most}");
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Wrong::new(format!("{} is not a whole number", quote(text)), bounds()));
    }
    if !plain {
        return Err(Wrong::new("found a text", format!("write {} without quotes", quote(text))));
    }
    text.parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| Wrong::new(format!("{} is out of range", quote(text)), bounds()))
}

fn rate(text: &str, plain: bool) -> Result<f64, Wrong> {
    const MOST: f64 = 1e9;
    let number = plain && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match text.parse::<f64>() {
        // A rate of less than one in a day is a mistake, and would divide into silly waits.
        Ok(rate) if number && (1e-5..=MOST).contains(&rate) => Ok(rate),
        Ok(0.0) if number => Err(Wrong::new(
            "a rate of 0 would refuse everybody",
            "write a number above 0, or `enabled: false` for no limit",
        )),
        _ => Err(Wrong::new(
            format!("{} is not a rate", quote(text)),
            "write a number above 0 and at most 1000000000, without quotes",
        )),
    }
}

fn word(text: &str, words: &[Word]) -> Result<(), Wrong> {
    let mut now = Vec::with_capacity(words.len());
    for word in words {
        match word {
            Word::Now(word) if *word == text => return Ok(()),
            Word::Now(word) => now.push(*word),
            Word::Later(word, later) => {
                if *word == text || (word.ends_with(':') && text.starts_with(word)) {
                    let mut wrong = not_yet(&format!("{} is ", quote(text)), *later);
                    wrong.remedy = one_of(words);
                    return Err(wrong);
                }
            }
        }
    }
    let remedy = match nearest(text, now.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? {}", one_of(words)),
        None => one_of(words),
    };
    Err(Wrong::new(format!("{} is not known here", quote(text)), remedy))
}

fn one_of(words: &[Word]) -> String {
    let now: Vec<&str> = words
        .iter()
        .filter_map(|word| match word {
            Word::Now(word) => Some(*word),
            Word::Later(..) => None,
        })
        .collect();
    format!("write {}", now.join(" or "))
}

fn not_yet(subject: &str, later: Later) -> Wrong {
    Wrong::new(format!("{subject}not in this version{}", later.why()), "take it out")
}

fn unknown(name: &str, keys: &[Key]) -> Wrong {
    let what = format!("unknown key {}", quote(name));
    if name == "<<" {
        return Wrong::new(what, "write the keys out; YAML merge keys are not read");
    }
    let names = || keys.iter().map(|key| key.name);
    if let Some(near) = nearest(name, names()) {
        return Wrong::new(what, format!("did you mean `{near}`?"));
    }
    let known: Vec<_> =
        keys.iter().filter(|key| !matches!(key.is, Is::Later(_))).map(|key| key.name).collect();
    Wrong::new(what, format!("known here: {}", known.join(", ")))
}

/// The likeliest meant; none when nothing is near.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Longer than any key: not worth comparing.
    if name.len() > 64 {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let likeness = |known: &str| {
        // `round_robin` is nearer to `weighted_round_robin` than letters tell.
        let part = name.len() >= 4 && known.contains(&name);
        if part { 1.0 } else { strsim::jaro_winkler(&name, known) }
    };
    known
        .map(|known| (likeness(known), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

/// A key of the user's own making, short and printable.
fn shown(field: &str) -> String {
    let quoted = quote(field);
    quoted[1..quoted.len() - 1].to_owned()
}
