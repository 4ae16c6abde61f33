//! A YAML document as a tree in which every value knows its place. Bounded in size, depth and
//! alias expansion, so that no file can exhaust the process.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::fault::Fault;

/// Largest document, bytes.
pub(super) const LARGEST: u64 = 1 << 20;
/// Deepest nesting; the contract needs about 10.
const DEEPEST: usize = 64;
/// Most values, aliases expanded.
const MOST_VALUES: usize = 100_000;
/// Bytes of a text that count as one value more.
const PER_VALUE: usize = 64;

/// A place in the file, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) line: u64,
    pub(super) column: u64,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) mark: Mark,
    pub(super) value: Value,
}

/// What a value is, before anybody asks what it means.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A text, a number, a truth value: `plain` when without quotes.
    Scalar { text: String, plain: bool },
    /// `[…]`
    List(Vec<Node>),
    /// `{…}`, in the order of the file, keys not yet looked at.
    Map(Vec<(Node, Node)>),
}

/// Reads the one document of `text`. Syntax stops at its first fault: behind it, nothing has a
/// certain meaning.
pub(super) fn read(text: &str) -> Result<Node, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser::new_from_str(text);
    let mut builder = Builder::default();
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| syntax(&error))?;
        builder.take(event, span)?;
    }
    builder.root.ok_or_else(|| {
        fault(Mark { line: 1, column: 1 }, "the file is empty", "write at least `rules:`")
    })
}

#[derive(Default)]
struct Builder {
    /// Containers that are still open, outermost first.
    open: Vec<Open>,
    /// Finished values with an anchor, and how many values each holds.
    anchors: HashMap<usize, (Node, usize)>,
    values: usize,
    root: Option<Node>,
}

struct Open {
    mark: Mark,
    anchor: usize,
    /// `values` when it was opened.
    since: usize,
    of: Items,
}

enum Items {
    List(Vec<Node>),
    /// Pairs, and the key whose value comes next.
    Map(Vec<(Node, Node)>, Option<Node>),
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let mark = Mark { line: span.start.line() as u64, column: span.start.col() as u64 + 1 };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(mark, tag.is_some())?;
                let size = 1 + text.len() / PER_VALUE;
                self.count(mark, size)?;
                let plain = style == ScalarStyle::Plain;
                let null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if null {
                    Value::Null
                } else {
                    Value::Scalar { text: text.into_owned(), plain }
                };
                self.finish(Node { mark, value }, anchor, size)?;
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_tag(mark, tag.is_some())?;
                self.open(mark, anchor, Items::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                refuse_tag(mark, tag.is_some())?;
                self.open(mark, anchor, Items::Map(Vec::new(), None))?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { mark, anchor, since, of }) = self.open.pop() {
                    let value = match of {
                        Items::List(items) => Value::List(items),
                        Items::Map(pairs, _) => Value::Map(pairs),
                    };
                    self.finish(Node { mark, value }, anchor, self.values - since + 1)?;
                }
            }
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor) else {
                    let what = "the alias stands inside the value that it names";
                    return Err(fault(mark, what, "write the value out"));
                };
                let (node, size) = (Node { mark, ..node.clone() }, *size);
                self.count(mark, size)?;
                self.finish(node, 0, size)?;
            }
            Event::DocumentStart(_) if self.root.is_some() => {
                let what = "the file holds a second document";
                return Err(fault(mark, what, "keep one; take the `---` out"));
            }
            Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::StreamStart
            | Event::StreamEnd
            | Event::Nothing => {}
        }
        Ok(())
    }

    fn open(&mut self, mark: Mark, anchor: usize, of: Items) -> Result<(), Fault> {
        if self.open.len() >= DEEPEST {
            let what = format!("values are nested deeper than {DEEPEST}");
            return Err(fault(mark, &what, "look for a bracket or an indent too much"));
        }
        self.count(mark, 1)?;
        self.open.push(Open { mark, anchor, since: self.values, of });
        Ok(())
    }

    fn count(&mut self, mark: Mark, values: usize) -> Result<(), Fault> {
        self.values = self.values.saturating_add(values);
        if self.values > MOST_VALUES {
            let what = format!("more than {MOST_VALUES} values, aliases written out");
            return Err(fault(mark, &what, "write a smaller file"));
        }
        Ok(())
    }

    fn finish(&mut self, node: Node, anchor: usize, size: usize) -> Result<(), Fault> {
        if anchor != 0 {
            // The copy kept for aliases counts as well.
            self.count(node.mark, size)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.open.last_mut().map(|open| &mut open.of) {
            None => self.root = Some(node),
            Some(Items::List(items)) => items.push(node),
            Some(Items::Map(pairs, key)) => match key.take() {
                None => *key = Some(node),
                Some(key) => pairs.push((key, node)),
            },
        }
        Ok(())
    }
}

fn refuse_tag(mark: Mark, tagged: bool) -> Result<(), Fault> {
    if tagged {
        return Err(fault(mark, "a YAML tag (`!…`) has no meaning here", "take it out"));
    }
    Ok(())
}

fn syntax(error: &ScanError) -> Fault {
    let at = error.marker();
    let mark = Mark { line: (at.line() as u64).max(1), column: at.col() as u64 + 1 };
    let what = format!("not YAML: {}", error.info());
    let remedy = if error.info().contains("tab") {
        "write spaces instead of the tab"
    } else if ["anchor", "unexpected character", "directive"].iter().any(|w| what.contains(w)) {
        "put a value that begins with `*`, `&`, `%`, `@` or `!` into quotes"
    } else {
        "mend the indentation, quotes or brackets here or just above"
    };
    fault(mark, &what, remedy)
}

fn fault(mark: Mark, what: &str, remedy: &str) -> Fault {
    Fault {
        line: Some(mark.line),
        column: Some(mark.column),
        field: String::new(),
        what: what.to_owned(),
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(node: &Node) -> &[(Node, Node)] {
        match &node.value {
            Value::Map(pairs) => pairs,
            other => panic!("not a map: {other:?}"),
        }
    }

    #[test]
    fn every_value_knows_its_place() {
        let root = read("a: 1\nb:\n  - x\n  - {c: 'y'}\n").unwrap();
        let (key, value) = &pairs(&root)[1];
        assert_eq!(key.mark, Mark { line: 2, column: 1 });
        let Value::List(items) = &value.value else { panic!() };
        assert_eq!(items[0].mark, Mark { line: 3, column: 5 });
        let (_, quoted) = &pairs(&items[1])[0];
        assert_eq!(quoted.mark, Mark { line: 4, column: 9 });
        assert!(matches!(&quoted.value, Value::Scalar { text, plain: false } if text == "y"));
    }

    #[test]
    fn an_alias_is_its_value_at_its_own_place() {
        let root = read("a: &x [1, 2]\nb: *x\n").unwrap();
        let (_, value) = &pairs(&root)[1];
        assert_eq!(value.mark.line, 2);
        assert!(matches!(&value.value, Value::List(items) if items.len() == 2));
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..30 {
            let all = vec![format!("*a{}", i - 1); 10].join(",");
            bomb += &format!("a{i}: &a{i} [{all}]\n");
        }
        let fault = read(&bomb).unwrap_err();
        assert!(fault.what.contains("values"), "{fault:?}");
    }

    #[test]
    fn a_bomb_of_one_long_text_is_refused() {
        let bomb = format!("a: &a '{}'\nb: [{}]\n", "x".repeat(100_000), "*a,".repeat(1_000));
        let fault = read(&bomb).unwrap_err();
        assert!(fault.what.contains("values"), "{fault:?}");
    }

    #[test]
    fn what_cannot_be_one_small_document_is_refused_with_its_line() {
        for (text, line, word) in [
            ("", 1, "empty"),
            ("# only a comment\n", 1, "empty"),
            ("a: 1\n---\nb: 2\n", 2, "second document"),
            ("a: &x [*x]\n", 1, "alias"),
            ("a: !thing 5\n", 1, "tag"),
            ("a:\n\t- 1\n", 2, "not YAML"),
            ("a: [1\n", 2, "not YAML"),
            ("a: *nobody\n", 1, "not YAML"),
        ] {
            let fault = read(text).unwrap_err();
            assert_eq!(fault.line, Some(line), "{text:?}: {fault:?}");
            assert!(fault.what.contains(word), "{text:?}: {fault:?}");
        }
        // The scanner looks ahead and has a bound of its own.
        assert!(read(&"[".repeat(5_000)).unwrap_err().what.contains("limit exceeded"));
        assert!(read(&"[".repeat(100)).unwrap_err().what.contains("nested"));
        let deep = "- ".repeat(5_000);
        assert!(read(&deep).unwrap_err().what.contains("nested"));
    }
}
