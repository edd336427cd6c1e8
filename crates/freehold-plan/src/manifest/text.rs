//! Text to a tree that remembers where everything was written.
//!
//! Reads YAML 1.2 (of which JSON is a part) event by event, so that a hostile text is refused while
//! it is read: what is counted is what the text *expands to*, aliases included, and the depth after
//! expansion. Plain scalars resolve by the core schema, so `on`, `yes` and `no` are texts.
//!
//! Left out on purpose: merge keys (`<<`), custom tags, keys that are not scalars, `.nan` and
//! `.inf`. Each is refused by name. A document with a fault is skipped and the next one is read, so
//! that one run shows all faults.

use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span, StrInput, Tag, options};
use serde_json::{Map, Number, Value};

/// How deep lists and mappings may nest, aliases expanded.
pub(super) const DEPTH_MAX: usize = 64;
/// How many values a text may hold in all, aliases expanded.
pub(super) const VALUES_MAX: usize = 1_000_000;

/// Line and column, both from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: u32,
    pub(super) column: u32,
}

/// A value and where it starts.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) content: Content,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Null, boolean, number or text.
    Scalar(Value),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_at: Position,
    pub(super) value: Node,
}

/// A text that cannot be read, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) at: Position,
    pub(super) message: String,
}

/// One document of the text.
#[derive(Debug)]
pub(super) struct Tree {
    /// Bytes of text, roughly, that the document expands to.
    pub(super) bytes: usize,
    pub(super) root: Result<Node, Unreadable>,
}

impl Node {
    pub(super) fn to_value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => items.iter().map(Self::to_value).collect(),
            Content::Mapping(entries) => {
                let pairs = entries.iter().map(|e| (e.key.clone(), e.value.to_value()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }

    /// Where `pointer` was written, or else the nearest thing around it.
    pub(super) fn locate(&self, pointer: &str) -> Position {
        let mut node = self;
        let mut at = self.at;
        for token in pointer.split('/').skip(1) {
            let token = crate::pointer::unescape(token);
            match &node.content {
                Content::Mapping(entries) => {
                    let Some(entry) = entries.iter().find(|e| e.key == token) else {
                        return at;
                    };
                    (at, node) = (entry.key_at, &entry.value);
                }
                Content::List(items) => {
                    let Some(item) = token.parse().ok().and_then(|i: usize| items.get(i)) else {
                        return at;
                    };
                    (at, node) = (item.at, item);
                }
                Content::Scalar(_) => return at,
            }
        }
        at
    }

    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Content::Mapping(entries) = &self.content else {
            return None;
        };
        entries.iter().find(|e| e.key == key).map(|e| &e.value)
    }
}

/// Reads every document. Empty ones are left out.
pub(super) fn read(text: &str) -> Vec<Tree> {
    let mut reader = Reader::new(text);
    let mut trees = Vec::new();
    while let Some(tree) = reader.document() {
        let empty = matches!(
            &tree.root,
            Ok(Node {
                content: Content::Scalar(Value::Null),
                ..
            })
        );
        if !empty {
            trees.push(tree);
        }
        if reader.exhausted {
            break;
        }
    }
    trees
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    /// Finished anchors of the present document, with what using one costs.
    anchors: HashMap<usize, Anchored>,
    values_left: usize,
    bytes: usize,
    exhausted: bool,
}

struct Anchored {
    node: Node,
    cost: Cost,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    values: usize,
    bytes: usize,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str) -> Self {
        let options: Options = options! {
            emit_comments: false,
            disallow_directives: true,
            flow_nesting_limit: DEPTH_MAX,
            block_nesting_limit: DEPTH_MAX,
        };
        Self {
            parser: Parser::new_from_str_with_options(text, options),
            anchors: HashMap::new(),
            values_left: VALUES_MAX,
            bytes: 0,
            exhausted: false,
        }
    }

    fn next(&mut self) -> Result<Option<(Event<'t>, Position)>, Unreadable> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some((event, position(&span)))),
            Some(Err(error)) => Err(unreadable(&error)),
        }
    }

    /// The next document, or `None` at the end of the text.
    fn document(&mut self) -> Option<Tree> {
        self.anchors.clear();
        self.bytes = 0;
        let start = Position { line: 1, column: 1 };
        let root = loop {
            match self.next() {
                Ok(None | Some((Event::StreamEnd, _))) => return None,
                Ok(Some((Event::DocumentStart(..), _))) => {
                    break self.next().and_then(|event| match event {
                        None => Err(cut_short(start)),
                        Some((event, at)) => self.node(event, at, 1).map(|(node, _)| node),
                    });
                }
                Ok(Some(_)) => {}
                Err(unreadable) => break Err(unreadable),
            }
        };
        // The rest of a faulty document is skipped; so is the end marker of a good one.
        if root.is_err() {
            self.exhausted =
                self.values_left == 0 || !self.parser.proceed_next_document().unwrap_or(false);
        }
        let bytes = self.bytes;
        Some(Tree { bytes, root })
    }

    fn spend(&mut self, cost: Cost, at: Position) -> Result<(), Unreadable> {
        self.bytes = self.bytes.saturating_add(cost.bytes);
        match self.values_left.checked_sub(cost.values) {
            Some(left) => {
                self.values_left = left;
                Ok(())
            }
            None => {
                self.values_left = 0;
                let message = format!(
                    "the text holds more than {VALUES_MAX} values (aliases count each time they \
                     are used): split it"
                );
                Err(Unreadable { at, message })
            }
        }
    }

    fn node(
        &mut self,
        event: Event<'t>,
        at: Position,
        depth: usize,
    ) -> Result<(Node, Cost), Unreadable> {
        if depth > DEPTH_MAX {
            let message = format!("nested deeper than {DEPTH_MAX} levels");
            return Err(Unreadable { at, message });
        }
        let (anchor, node, cost) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let cost = Cost {
                    values: 1,
                    bytes: text.len() + 4,
                    depth: 1,
                };
                self.spend(cost, at)?;
                let value = scalar(text.into_owned(), style, tag.as_deref(), at)?;
                let content = Content::Scalar(value);
                (anchor, Node { at, content }, cost)
            }
            Event::SequenceStart(_, anchor, tag) => {
                only_core(tag.as_deref(), "seq", at)?;
                let (items, cost) = self.list(at, depth)?;
                let content = Content::List(items);
                (anchor, Node { at, content }, cost)
            }
            Event::MappingStart(_, anchor, tag) => {
                only_core(tag.as_deref(), "map", at)?;
                let (entries, cost) = self.mapping(at, depth)?;
                let content = Content::Mapping(entries);
                (anchor, Node { at, content }, cost)
            }
            Event::Alias(id) => return self.alias(id, at, depth),
            _ => return Err(cut_short(at)),
        };
        if anchor != 0 {
            let node = node.clone();
            self.anchors.insert(anchor, Anchored { node, cost });
        }
        Ok((node, cost))
    }

    fn alias(&mut self, id: usize, at: Position, depth: usize) -> Result<(Node, Cost), Unreadable> {
        let Some(anchored) = self.anchors.get(&id) else {
            let message = "this alias refers to the value it stands in".to_owned();
            return Err(Unreadable { at, message });
        };
        let cost = anchored.cost;
        if depth + cost.depth - 1 > DEPTH_MAX {
            let message = format!("aliases nest deeper than {DEPTH_MAX} levels");
            return Err(Unreadable { at, message });
        }
        self.spend(cost, at)?;
        Ok((self.anchors[&id].node.clone(), cost))
    }

    fn list(&mut self, at: Position, depth: usize) -> Result<(Vec<Node>, Cost), Unreadable> {
        let mut total = self.opened(at)?;
        let mut items = Vec::new();
        loop {
            match self.next()? {
                None => return Err(cut_short(at)),
                Some((Event::SequenceEnd, _)) => return Ok((items, total)),
                Some((event, at)) => {
                    let (item, cost) = self.node(event, at, depth + 1)?;
                    total.add(cost);
                    items.push(item);
                }
            }
        }
    }

    fn mapping(&mut self, at: Position, depth: usize) -> Result<(Vec<Entry>, Cost), Unreadable> {
        let mut total = self.opened(at)?;
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = HashSet::new();
        loop {
            let (key, key_at) = match self.next()? {
                None => return Err(cut_short(at)),
                Some((Event::MappingEnd, _)) => return Ok((entries, total)),
                Some((Event::Scalar(text, style, _, _), at)) => {
                    if text == "<<" && style == ScalarStyle::Plain {
                        let message = "merge keys (`<<`) are not read: write the fields out";
                        return Err(unreadable_at(at, message));
                    }
                    (text.into_owned(), at)
                }
                Some((_, at)) => return Err(unreadable_at(at, "a field's name must be a text")),
            };
            if !seen.insert(key.clone()) {
                let message = format!("field `{}` is given twice", crate::text::shown(&key));
                return Err(Unreadable {
                    at: key_at,
                    message,
                });
            }
            self.spend(
                Cost {
                    values: 0,
                    bytes: key.len() + 4,
                    depth: 0,
                },
                key_at,
            )?;
            total.bytes = total.bytes.saturating_add(key.len() + 4);
            let Some((event, value_at)) = self.next()? else {
                return Err(cut_short(key_at));
            };
            let (value, cost) = self.node(event, value_at, depth + 1)?;
            total.add(cost);
            entries.push(Entry { key, key_at, value });
        }
    }

    fn opened(&mut self, at: Position) -> Result<Cost, Unreadable> {
        let cost = Cost {
            values: 1,
            bytes: 2,
            depth: 1,
        };
        self.spend(cost, at).map(|()| cost)
    }
}

impl Cost {
    /// Adds what one child costs.
    fn add(&mut self, child: Self) {
        self.values = self.values.saturating_add(child.values);
        self.bytes = self.bytes.saturating_add(child.bytes);
        self.depth = self.depth.max(child.depth + 1);
    }
}

fn position(span: &Span) -> Position {
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Position {
        line: narrow(span.start.line()),
        column: narrow(span.start.col().saturating_add(1)),
    }
}

fn unreadable(error: &ScanError) -> Unreadable {
    let marker = error.marker();
    let at = position(&Span::empty(*marker));
    let message = format!("this is neither YAML nor JSON: {}", error.info());
    Unreadable { at, message }
}

fn unreadable_at(at: Position, message: &str) -> Unreadable {
    let message = message.to_owned();
    Unreadable { at, message }
}

fn cut_short(at: Position) -> Unreadable {
    unreadable_at(at, "the document ends in the middle of this")
}

fn only_core(tag: Option<&Tag>, suffix: &str, at: Position) -> Result<(), Unreadable> {
    match tag {
        None => Ok(()),
        Some(tag) if tag.is_yaml_core_schema_tag(suffix) => Ok(()),
        Some(tag) => {
            let tag = crate::text::shown(&tag.original()).into_owned();
            let message = format!("tag `{tag}` is not read here: remove it");
            Err(Unreadable { at, message })
        }
    }
}

/// Resolves a scalar by the core schema of YAML 1.2.
fn scalar(
    text: String,
    style: ScalarStyle,
    tag: Option<&Tag>,
    at: Position,
) -> Result<Value, Unreadable> {
    if let Some(tag) = tag {
        only_core(Some(tag), "str", at)?;
        return Ok(Value::String(text));
    }
    if style != ScalarStyle::Plain {
        return Ok(Value::String(text));
    }
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    match number(&text) {
        NumberText::None => Ok(Value::String(text)),
        NumberText::Read(number) => Ok(Value::Number(number)),
        NumberText::OutOfRange => {
            let shown = crate::text::shown(&text);
            let message = format!(
                "{shown} is not a number that can be kept exactly; in quotes it would be a text"
            );
            Err(Unreadable { at, message })
        }
    }
}

enum NumberText {
    None,
    Read(Number),
    OutOfRange,
}

fn number(text: &str) -> NumberText {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(
        unsigned,
        ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN"
    ) {
        return NumberText::OutOfRange;
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && !digits.is_empty()
            && digits.chars().all(|c| c.is_digit(radix))
        {
            let read = u64::from_str_radix(digits, radix);
            return read.map_or(NumberText::OutOfRange, |n| NumberText::Read(n.into()));
        }
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
        let text = text.strip_prefix('+').unwrap_or(text);
        return match (text.parse::<u64>(), text.parse::<i64>()) {
            (Ok(n), _) => NumberText::Read(n.into()),
            (_, Ok(n)) => NumberText::Read(n.into()),
            _ => NumberText::OutOfRange,
        };
    }
    if is_float(unsigned) {
        let read = text.parse().ok().and_then(Number::from_f64);
        return read.map_or(NumberText::OutOfRange, NumberText::Read);
    }
    NumberText::None
}

/// `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(unsigned: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        None => (unsigned, None),
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
    };
    let exponent_right = exponent.is_none_or(|text| {
        let text = text.strip_prefix(['-', '+']).unwrap_or(text);
        !text.is_empty() && digits(text)
    });
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    exponent_right
        && digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
}
