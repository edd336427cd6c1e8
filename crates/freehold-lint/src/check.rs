//! The walk over a sequence: what is known grows with every statement, and the rules look at each change of a
//! pending script before it is taken for done.

use std::{collections::HashMap, ops::Range};

use crate::{
    Finding, Place, Refused, Report, Script, Sequence, Severity, Suppressed,
    catalogue::{
        ALLOW_EXPIRED, ALLOW_INVALID, ALLOW_UNUSED, CONCURRENTLY_IN_TRANSACTION, FILE_NAME, Rule,
        SCRIPT_REFUSED, UNCHECKED_STATEMENT, VERSION_DUPLICATE,
    },
    change::{Change, Effect},
    input::Refusal,
    known::Known,
    parse::{self, Read},
    places::Places,
    rules::{self, Hit, Run, Step},
    suppress::{self, Allow},
    versions,
};

/// Looks at all of a sequence. Pure: the same input gives the same report.
pub fn check(sequence: &Sequence<'_>) -> Report {
    let mut walk = Walk {
        sequence,
        known: Known::of(sequence.engine.product, sequence.snapshot),
        report: Report {
            engine: sequence.engine.to_string(),
            ..Report::default()
        },
    };
    let gaps = versions::gaps(&sequence.scripts);
    for (index, script) in sequence.scripts.iter().enumerate() {
        let of_file: Vec<Hit> = gaps.get(&index).cloned().into_iter().collect();
        walk.script(script, of_file);
    }
    walk.refused();
    walk.report
}

struct Walk<'a> {
    sequence: &'a Sequence<'a>,
    known: Known,
    report: Report,
}

/// A hit with its place.
struct Located {
    hit: Hit,
    at: Option<Range<usize>>,
    statement: Option<usize>,
}

/// A statement of a script, read.
struct Statement<'a> {
    range: Range<usize>,
    text: &'a str,
    read: Read,
}

impl<'a> Walk<'a> {
    fn script(&mut self, script: &'a Script<'a>, of_file: Vec<Hit>) {
        let product = self.sequence.engine.product;
        let statements: Vec<Statement<'a>> = script
            .statements
            .iter()
            .filter_map(|range| {
                let text = script.text.get(range.clone())?;
                Some(Statement {
                    range: range.clone(),
                    text,
                    read: parse::read(product, text),
                })
            })
            .collect();
        let mut run = self.ahead(&statements);
        let mut located: Vec<Located> = of_file
            .into_iter()
            .map(|hit| Located {
                hit,
                at: None,
                statement: None,
            })
            .collect();
        for (index, statement) in statements.iter().enumerate() {
            run.index = index;
            self.statement(script, index, statement, &mut run, &mut located);
        }
        if script.pending {
            self.report.scripts += 1;
            self.report.statements += statements.len();
            self.conclude(script, located);
        }
    }

    /// Names that are taken later, by a rename, a new view or a new table.
    fn ahead(&self, statements: &[Statement<'_>]) -> Run {
        let (mut arriving, mut made) = (HashMap::new(), HashMap::new());
        for (index, statement) in statements.iter().enumerate() {
            let view = parse::made_view(self.sequence.engine.product, statement.text);
            arriving.extend(view.map(|view| (view, index)));
            let Read::Changes(changes) = &statement.read else {
                continue;
            };
            for change in changes {
                match &change.effect {
                    Effect::RenameTable { to, .. } => arriving.insert(to.clone(), index),
                    Effect::CreateTable { table, .. } => made.insert(table.clone(), index),
                    _ => None,
                };
            }
        }
        Run {
            arriving,
            made,
            ..Run::default()
        }
    }

    fn statement(
        &mut self,
        script: &Script<'_>,
        index: usize,
        statement: &Statement<'_>,
        run: &mut Run,
        located: &mut Vec<Located>,
    ) {
        let changes = match &statement.read {
            Read::Changes(changes) => changes.clone(),
            Read::Unchecked(why) => {
                let guessed = self.guessed(statement.text);
                let mut hit = unchecked(why);
                if !guessed.is_empty() {
                    // A table that nobody uses yet: little could be wrong with it.
                    hit.most = Severity::Note;
                }
                let first = statement.text.lines().next().unwrap_or_default().len();
                located.push(Located {
                    hit,
                    at: Some(statement.range.start..statement.range.start + first),
                    statement: Some(index),
                });
                guessed
            }
        };
        for change in &changes {
            if script.pending {
                let step = Step {
                    engine: &self.sequence.engine,
                    policy: self.sequence.policy,
                    script,
                    statement: statement.text,
                    change,
                    known: &self.known,
                    run,
                };
                for hit in rules::look(&step) {
                    let at = statement.range.start + change.at.start
                        ..statement.range.start + change.at.end;
                    located.push(Located {
                        hit,
                        at: Some(at),
                        statement: Some(index),
                    });
                }
            }
            self.known.apply(change, script.pending);
            run.apply(change);
        }
    }

    /// A table whose statement could not be parsed is new all the same.
    fn guessed(&self, text: &str) -> Vec<Change> {
        let table = parse::made_table(self.sequence.engine.product, text);
        let made = table.map(|table| Change {
            at: 0..0,
            effect: Effect::CreateTable {
                table,
                columns: Vec::new(),
                constraints: Vec::new(),
                derived: true,
                temporary: false,
            },
        });
        made.into_iter().collect()
    }

    fn severity(&self, rule: &Rule, sure: bool, most: Severity) -> Option<Severity> {
        match self.sequence.policy.level(rule.id) {
            Some(level) => level.severity(),
            None if sure => Some(rule.severity.min(most)),
            None => Some(rule.severity.min(most).min(Severity::Warning)),
        }
    }

    /// From hits to findings: severities, suppressions, places.
    fn conclude(&mut self, script: &Script<'_>, located: Vec<Located>) {
        let mut allows = suppress::allowed(script);
        let today = self.sequence.today;
        let mut kept: Vec<(Located, Option<(String, String)>)> = Vec::new();
        for one in located {
            let allowed = allows
                .iter_mut()
                .find(|allow| allows_it(allow, &one, today));
            let reason = allowed.map(|allow| {
                allow.used = true;
                let said = allow.said.as_ref().ok();
                said.map(|said| (said.reason.clone(), said.until.to_string()))
                    .unwrap_or_default()
            });
            kept.push((one, reason));
        }
        let complaints = allows.iter().filter_map(|allow| complaint(allow, today));
        kept.extend(complaints.map(|one| (one, None)));
        kept.sort_by_key(|(one, _)| one.at.as_ref().map(|at| at.start));
        let mut places = Places::of(script.text);
        for (one, reason) in kept {
            let Some(severity) = self.severity(one.hit.rule, one.hit.sure, one.hit.most) else {
                continue;
            };
            let place = one.at.as_ref().map(|at| places.place(at));
            let finding = Finding {
                rule: one.hit.rule.id.to_owned(),
                severity,
                file: script.path.to_owned(),
                place,
                message: one.hit.message,
                why: one.hit.rule.why.to_owned(),
                instead: one.hit.instead,
                advice: one.hit.advice,
                page: one.hit.rule.page(),
            };
            match reason {
                None => self.report.findings.push(finding),
                Some((reason, until)) => self.report.suppressed.push(Suppressed {
                    finding,
                    reason,
                    until,
                }),
            }
        }
    }

    /// What the runner refuses comes last: it has no place in the order of scripts.
    fn refused(&mut self) {
        for refused in &self.sequence.refused {
            let rule = match refused.what {
                Refusal::FileName => &FILE_NAME,
                Refusal::Duplicate => &VERSION_DUPLICATE,
                Refusal::Script => &SCRIPT_REFUSED,
            };
            let Some(severity) = self.severity(rule, true, Severity::Error) else {
                continue;
            };
            if self.is_said(refused) {
                continue;
            }
            self.report.findings.push(Finding {
                rule: rule.id.to_owned(),
                severity,
                file: refused.file.clone(),
                place: refused.place.clone(),
                message: refused.reason.clone(),
                why: rule.why.to_owned(),
                instead: Vec::new(),
                advice: Some(refused.advice.clone()),
                page: rule.page(),
            });
        }
    }
}

impl Walk<'_> {
    /// Whether a rule has said the same of the same line, and with a way out.
    fn is_said(&self, refused: &Refused) -> bool {
        let line = |place: &Option<Place>| place.as_ref().map(|place| place.line);
        refused.what == Refusal::Script
            && self.report.findings.iter().any(|finding| {
                finding.rule == CONCURRENTLY_IN_TRANSACTION.id
                    && finding.file == refused.file
                    && line(&finding.place) == line(&refused.place)
            })
    }
}

fn unchecked(why: &str) -> Hit {
    let message = format!("no rule has looked at this statement: {why}");
    Hit::new(&UNCHECKED_STATEMENT, true, message)
        .advice("Look at it yourself; if it is valid SQL of this engine, please report it.")
}

fn allows_it(allow: &Allow, one: &Located, today: jiff::civil::Date) -> bool {
    let Ok(said) = &allow.said else { return false };
    let here = match one.statement {
        None => allow.of_file,
        statement => allow.statement == statement,
    };
    here && said.rule == one.hit.rule.id && today <= said.until
}

/// What is wrong with a suppression itself.
fn complaint(allow: &Allow, today: jiff::civil::Date) -> Option<Located> {
    let hit = match &allow.said {
        Err(reason) => Hit::new(
            &ALLOW_INVALID,
            true,
            format!("this allows nothing: {reason}"),
        )
        .advice("Write it as: -- freehold:allow RULE until YYYY-MM-DD: reason"),
        Ok(said) if today > said.until => {
            let message = format!("{} was allowed until {} only", said.rule, said.until);
            Hit::new(&ALLOW_EXPIRED, true, message)
                .advice("Repair what it allowed, or look whether the reason still holds and set another day.")
        }
        Ok(said) if !allow.used => {
            let message = format!("there is nothing of {} to allow here", said.rule);
            Hit::new(&ALLOW_UNUSED, true, message).advice("Remove it.")
        }
        Ok(_) => return None,
    };
    Some(Located {
        hit,
        at: Some(allow.start..allow.end),
        statement: allow.statement,
    })
}
