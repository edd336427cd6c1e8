//! What is sent to the server in one go, and the way back from its error to a place in the file.
//!
//! Statements that follow each other go in one message, as the script has them: that saves a round
//! trip per statement, which decides how long a script with 100,000 small INSERTs takes. A small
//! script is one message altogether, from the opening of its transaction to the commit.

use std::{borrow::Cow, ops::Range};

use freehold_engine::StatementError;

use crate::{Dialect, Script, Statement, StatementClass, script::place::byte_offset};

/// Larger messages would not be faster, only make progress and cancelling coarser.
const BATCH_BYTES: usize = 64 << 10;

/// A stretch of a script's statements that is sent at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Statements, by index.
    Batch(Range<usize>),
    /// One `COPY … FROM STDIN` with its data.
    Copy(usize),
}

/// The pieces of a script that runs in one transaction.
pub(super) fn pieces(script: &Script<'_>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for (index, statement) in script.statements.iter().enumerate() {
        let is_copy = matches!(statement.class, StatementClass::CopyFromStdin { .. });
        let is_full = start < index && statement.end - script.statements[start].start > BATCH_BYTES;
        if (is_copy || is_full) && start < index {
            pieces.push(Piece::Batch(start..index));
            start = index;
        }
        if is_copy {
            pieces.push(Piece::Copy(index));
            start = index + 1;
        }
    }
    if start < script.statements.len() {
        pieces.push(Piece::Batch(start..script.statements.len()));
    }
    pieces
}

/// The messages of a stretch of statements. MySQL's answer to several at once would not say which of
/// them failed, so there each is a message, as its own client has it.
pub(super) fn messages<'a>(
    script: &Script<'a>,
    range: Range<usize>,
) -> impl Iterator<Item = Message<'a>> {
    let length = if script.dialect == Dialect::Mysql {
        1
    } else {
        range.len().max(1)
    };
    let end = range.end;
    range
        .step_by(length)
        .map(move |start| Message::plain(script, start..(start + length).min(end)))
}

/// The stretches of a script outside a transaction, as far as its progress is told: one statement
/// each, but for those of MySQL's that only change data.
pub(super) fn bare_pieces(script: &Script<'_>) -> Vec<Range<usize>> {
    let goes_together = |statement: &Statement| {
        script.dialect == Dialect::Mysql && statement.class == StatementClass::Ordinary
    };
    let mut pieces: Vec<Range<usize>> = Vec::new();
    for (index, statement) in script.statements.iter().enumerate() {
        match pieces.last_mut() {
            Some(piece)
                if goes_together(statement)
                    && goes_together(&script.statements[piece.start])
                    && statement.end - script.statements[piece.start].start <= BATCH_BYTES =>
            {
                piece.end = index + 1;
            }
            _ => pieces.push(index..index + 1),
        }
    }
    pieces
}

/// One message: statements of ours around statements of the script.
pub(super) struct Message<'a> {
    pub(super) text: Cow<'a, str>,
    /// Bytes and statements of ours that come first.
    lead_bytes: usize,
    lead_statements: usize,
    /// The script's statements in it.
    pub(super) body: Range<usize>,
    body_bytes: usize,
    /// What the statements of ours after the body are, in order.
    tail: Vec<Own>,
}

/// A statement of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    Opening,
    Restore,
    HistoryRow,
    Commit,
}

/// Where the server's error belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    /// Byte offset in the script.
    At(usize),
    /// Somewhere in these offsets.
    Between(usize, usize),
    /// Not in the script's text.
    Own(Own),
}

impl<'a> Message<'a> {
    /// The script's statements as they stand, nothing copied.
    pub(super) fn plain(script: &Script<'a>, body: Range<usize>) -> Self {
        let text = body_text(script, &body);
        Self {
            text: Cow::Borrowed(text),
            body_bytes: text.len(),
            lead_bytes: 0,
            lead_statements: 0,
            body,
            tail: Vec::new(),
        }
    }

    /// The opening of the transaction alone.
    pub(super) fn opening(opening: &'a str) -> Self {
        Self {
            text: Cow::Borrowed(opening),
            lead_bytes: opening.len(),
            lead_statements: 1,
            body: 0..0,
            body_bytes: 0,
            tail: Vec::new(),
        }
    }

    /// The end of the transaction alone.
    pub(super) fn closing(closing: &'a Closing) -> Self {
        Self {
            text: Cow::Borrowed(&closing.text),
            lead_bytes: 0,
            lead_statements: 0,
            body: 0..0,
            body_bytes: 0,
            tail: closing.parts.clone(),
        }
    }

    /// A whole script. `lead` are statements of ours that come first; the last opens the transaction.
    pub(super) fn whole(script: &Script<'a>, lead: &[&str], closing: &Closing) -> Self {
        let body = 0..script.statements.len();
        let body_text = body_text(script, &body);
        let lead_bytes: usize = lead.iter().map(|own| own.len() + 2).sum();
        let mut text = String::with_capacity(lead_bytes + body_text.len() + closing.text.len() + 2);
        for own in lead {
            text.push_str(own);
            text.push_str(";\n");
        }
        text.push_str(body_text);
        if !body_text.is_empty() {
            text.push_str(";\n");
        }
        text.push_str(&closing.text);
        Self {
            text: Cow::Owned(text),
            lead_bytes,
            lead_statements: lead.len(),
            body,
            body_bytes: body_text.len(),
            tail: closing.parts.clone(),
        }
    }

    pub(super) fn commits(&self) -> bool {
        !self.tail.is_empty()
    }

    /// From the server's position, or the number of statements that were done, to the script.
    pub(super) fn locate(
        &self,
        script: &Script<'_>,
        error: &StatementError,
        completed: Option<u64>,
    ) -> Spot {
        if let Some(position) = error.position.filter(|_| script.dialect != Dialect::Mysql) {
            let at = byte_offset(&self.text, position);
            if at < self.lead_bytes {
                return Spot::Own(Own::Opening);
            }
            if at - self.lead_bytes <= self.body_bytes && !self.body.is_empty() {
                return Spot::At(self.start(script) + at - self.lead_bytes);
            }
        }
        let Some(done) = completed.and_then(|done| usize::try_from(done).ok()) else {
            return self.somewhere(script, error);
        };
        let Some(done) = done.checked_sub(self.lead_statements) else {
            return Spot::Own(Own::Opening);
        };
        match done.checked_sub(self.body.len()) {
            None => in_statement(script, &script.statements[self.body.start + done], error),
            Some(own) => Spot::Own(self.tail.get(own).copied().unwrap_or(Own::Commit)),
        }
    }

    fn start(&self, script: &Script<'_>) -> usize {
        script.statements[self.body.start].start
    }

    fn somewhere(&self, script: &Script<'_>, error: &StatementError) -> Spot {
        match self.body.len() {
            0 if self.commits() => Spot::Own(Own::Commit),
            0 => Spot::Own(Own::Opening),
            1 if !self.commits() => {
                in_statement(script, &script.statements[self.body.start], error)
            }
            _ => Spot::Between(
                self.start(script),
                script.statements[self.body.end - 1].start,
            ),
        }
    }
}

/// The statements of ours at the end of a transaction.
pub(super) struct Closing {
    text: String,
    parts: Vec<Own>,
}

impl Closing {
    /// The role is taken again and the transaction committed.
    pub(super) fn without_row(restoring: &[&str]) -> Self {
        let mut text = String::new();
        for statement in restoring {
            text.push_str(statement);
            text.push_str(";\n");
        }
        text.push_str("COMMIT");
        let mut parts = vec![Own::Restore; restoring.len()];
        parts.push(Own::Commit);
        Self { text, parts }
    }

    /// The role is taken again, the history row written, the transaction committed.
    pub(super) fn new(restoring: &[&str], row: &str) -> Self {
        let mut text = String::with_capacity(row.len() + 64);
        for statement in restoring {
            text.push_str(statement);
            text.push_str(";\n");
        }
        text.push_str(row);
        text.push_str(";\nCOMMIT");
        let mut parts = vec![Own::Restore; restoring.len()];
        parts.extend([Own::HistoryRow, Own::Commit]);
        Self { text, parts }
    }
}

fn body_text<'a>(script: &Script<'a>, body: &Range<usize>) -> &'a str {
    if body.is_empty() {
        return "";
    }
    let start = script.statements[body.start].start;
    let end = script.statements[body.end - 1].end;
    &script.text[start..end]
}

/// MySQL says in words where in a statement it stopped: `… near 'x' at line 3`.
pub(super) fn in_statement(
    script: &Script<'_>,
    statement: &Statement,
    error: &StatementError,
) -> Spot {
    if let Some(position) = error.position.filter(|_| script.dialect != Dialect::Mysql) {
        let inside = byte_offset(&script.text[statement.range()], position);
        return Spot::At(statement.start + inside);
    }
    let line = (script.dialect == Dialect::Mysql)
        .then(|| error.message.rsplit_once(" at line "))
        .flatten()
        .and_then(|(_, digits)| digits.trim_end_matches('.').parse::<usize>().ok());
    let Some(line) = line.and_then(|line| line.checked_sub(1)) else {
        return Spot::At(statement.start);
    };
    let text = &script.text[statement.range()];
    let line_start = text
        .split_inclusive('\n')
        .take(line)
        .map(str::len)
        .sum::<usize>();
    let near = error.message.split_once("near '").map(|(_, rest)| {
        let end = rest.find(['\'', '\n']).unwrap_or(rest.len());
        &rest[..end]
    });
    let rest = text.get(line_start..).unwrap_or_default();
    let inside = near
        .filter(|near| !near.is_empty())
        .and_then(|near| rest.find(near))
        .unwrap_or_else(|| rest.len() - rest.trim_start().len());
    Spot::At(statement.start + line_start.min(text.len()) + inside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ScriptConfig, ScriptKind, ScriptName};

    fn script(text: &str) -> Script<'_> {
        let name = ScriptName {
            kind: ScriptKind::Repeatable,
            description: String::new(),
        };
        script_in(Dialect::Postgresql, text, &name)
    }

    fn script_in<'a>(dialect: Dialect, text: &'a str, name: &ScriptName) -> Script<'a> {
        let config = ScriptConfig::default();
        Script::load(dialect, "R__x.sql", name, text.as_bytes(), config).expect("valid")
    }

    fn closing() -> Closing {
        Closing::new(&["A", "B"], "INSERT x")
    }

    fn error(position: Option<u32>) -> StatementError {
        StatementError {
            sqlstate: String::new(),
            message: String::new(),
            detail: None,
            hint: None,
            position,
            context: None,
        }
    }

    #[test]
    fn copies_stand_alone_and_batches_stay_small() {
        let text = format!(
            "select 1; select 2; COPY t FROM stdin;\n1\n\\.\nselect '{}'; select 4; select '{}';",
            "x".repeat(BATCH_BYTES),
            "y".repeat(BATCH_BYTES)
        );
        assert_eq!(
            pieces(&script(&text)),
            [
                Piece::Batch(0..2),
                Piece::Copy(2),
                Piece::Batch(3..4),
                Piece::Batch(4..5),
                Piece::Batch(5..6)
            ]
        );
        assert_eq!(pieces(&script("-- nothing")), []);
    }

    #[test]
    fn positions_and_counts_lead_back_to_the_script() {
        let text = "-- ä\nselect 'ö'; select bad; select 3";
        let script = script(text);
        let message = Message::whole(&script, &["BEGIN"], &closing());
        let bad = text.find("bad").expect("it is there");
        let position = message
            .text
            .chars()
            .position(|c| c == 'b')
            .expect("it is there")
            + 1;
        let position = u32::try_from(position).expect("small");
        assert_eq!(
            message.locate(&script, &error(Some(position)), None),
            Spot::At(bad)
        );
        assert_eq!(
            message.locate(&script, &error(Some(1)), None),
            Spot::Own(Own::Opening)
        );
        let by_count = |completed| message.locate(&script, &error(None), Some(completed));
        assert_eq!(by_count(0), Spot::Own(Own::Opening));
        assert_eq!(by_count(2), Spot::At(script.statements[1].start));
        assert_eq!(by_count(6), Spot::Own(Own::HistoryRow));
        assert_eq!(by_count(7), Spot::Own(Own::Commit));
        let anywhere = message.locate(&script, &error(None), None);
        assert_eq!(
            anywhere,
            Spot::Between(script.statements[0].start, script.statements[2].start)
        );
        let plain = Message::plain(&script, 1..3);
        assert_eq!(plain.text, "select bad; select 3");
        assert_eq!(plain.locate(&script, &error(Some(8)), None), Spot::At(bad));
        assert_eq!(
            plain.locate(&script, &error(None), Some(1)),
            Spot::At(script.statements[2].start)
        );
    }

    #[test]
    fn statements_of_ours_before_the_opening_do_not_move_the_scripts_places() {
        let text = "CREATE TABLE a ();\nCREATE TABLE b ();\n";
        let script = script(text);
        let message = Message::whole(&script, &["RESET ALL", "CLOSE ALL", "BEGIN"], &closing());
        let second = text.find("CREATE TABLE b").expect("it is there");
        assert_eq!(
            message.locate(&script, &error(None), Some(4)),
            Spot::At(second)
        );
        let position = message.text.find("CREATE TABLE b").expect("it is there") + 1;
        let position = u32::try_from(position).ok();
        assert_eq!(
            message.locate(&script, &error(position), Some(0)),
            Spot::At(second)
        );
        assert_eq!(
            message.locate(&script, &error(None), Some(1)),
            Spot::Own(Own::Opening)
        );
    }
}
