//! For people: what, where with the line and a caret, why, and what to write instead.

use crate::{Finding, Report, Severity};

/// What a piece of the text is; the caller decides how that looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Error,
    Warning,
    Note,
    Strong,
    Faint,
}

/// Puts a tone around a text.
pub type Paint<'a> = &'a dyn Fn(Tone, &str) -> String;

/// Without any colour.
pub fn plain(_: Tone, text: &str) -> String {
    text.to_owned()
}

/// All findings and a last line that counts them.
pub fn text(report: &Report, paint: Paint<'_>) -> String {
    let mut out = String::new();
    for finding in &report.findings {
        one(finding, paint, &mut out);
        out.push('\n');
    }
    out.push_str(&summary(report));
    out.push('\n');
    out
}

fn one(finding: &Finding, paint: Paint<'_>, out: &mut String) {
    let (tone, label) = match finding.severity {
        Severity::Error => (Tone::Error, "error"),
        Severity::Warning => (Tone::Warning, "warning"),
        Severity::Note => (Tone::Note, "note"),
    };
    let head = format!("{label}[{}]", finding.rule);
    out.push_str(&format!(
        "{}{}\n",
        paint(tone, &head),
        paint(Tone::Strong, &format!(": {}", shown(&finding.message)))
    ));
    let margin = match &finding.place {
        None => {
            out.push_str(&format!(
                "  {} {}\n",
                paint(Tone::Faint, "-->"),
                shown(&finding.file)
            ));
            "  ".to_owned()
        }
        Some(place) => {
            let number = place.line.to_string();
            let margin = " ".repeat(number.len() + 1);
            let bar = paint(Tone::Faint, "|");
            out.push_str(&format!(
                "{}{} {}:{}:{}\n",
                " ".repeat(number.len()),
                paint(Tone::Faint, "-->"),
                shown(&finding.file),
                place.line,
                place.column
            ));
            if !place.excerpt.trim().is_empty() {
                let column = (place.column - 1) as usize;
                let width = (place.end_column - place.column).max(1) as usize;
                // Tabs keep their width under each other, and other control characters must not reach a terminal.
                let line = shown(&place.excerpt);
                let indent: String = place
                    .excerpt
                    .chars()
                    .take(column)
                    .map(|one| if one == '\t' { '\t' } else { ' ' })
                    .collect();
                let rest = place.excerpt.chars().count().saturating_sub(column).max(1);
                let carets = paint(tone, &"^".repeat(width.min(rest)));
                out.push_str(&format!("{margin}{bar}\n"));
                out.push_str(&format!("{} {bar} {line}\n", paint(Tone::Faint, &number)));
                out.push_str(&format!("{margin}{bar} {indent}{carets}\n"));
            }
            margin
        }
    };
    let equals = paint(Tone::Faint, "=");
    out.push_str(&format!("{margin}{equals} why: {}\n", finding.why));
    for (index, script) in finding.instead.iter().enumerate() {
        let label = if index == 0 {
            "instead"
        } else {
            "then, in the next script"
        };
        out.push_str(&format!("{margin}{equals} {label}:\n"));
        for line in script.lines() {
            out.push_str(&format!("{margin}      {}\n", shown(line)));
        }
    }
    if let Some(advice) = &finding.advice {
        out.push_str(&format!("{margin}{equals} {}\n", shown(advice)));
    }
}

fn shown(text: &str) -> String {
    text.chars().map(printable).collect()
}

fn printable(one: char) -> char {
    if one.is_control() && one != '\t' {
        '\u{fffd}'
    } else {
        one
    }
}

fn summary(report: &Report) -> String {
    let counted = |number: usize, one: &str| match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {one}s"),
    };
    let mut parts: Vec<String> = [
        (Severity::Error, "error"),
        (Severity::Warning, "warning"),
        (Severity::Note, "note"),
    ]
    .into_iter()
    .filter(|(severity, _)| report.count(*severity) > 0)
    .map(|(severity, word)| counted(report.count(severity), word))
    .collect();
    if !report.suppressed.is_empty() {
        parts.push(format!("{} allowed by comments", report.suppressed.len()));
    }
    let found = if parts.is_empty() {
        "nothing to say".to_owned()
    } else {
        parts.join(", ")
    };
    format!(
        "{} with {}, for {}: {found}",
        counted(report.scripts, "script"),
        counted(report.statements, "statement"),
        report.engine
    )
}
