//! The one place that writes: results to standard output, everything else to standard error.
//!
//! Colour is used on terminals only, never when `NO_COLOR` is set, and never carries meaning alone.

use std::{
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{
    arguments::{Format, Global},
    failure::{Failure, Outcome},
    settings::Surroundings,
};

/// Cheap to clone; clones write to the same streams.
#[derive(Clone)]
pub(crate) struct Output {
    pub format: Format,
    quiet: bool,
    /// Whether standard error is a terminal that progress may be drawn on.
    animated: bool,
    color: Color,
    streams: Arc<Mutex<Streams>>,
}

#[derive(Clone, Copy, Default)]
struct Color {
    results: bool,
    messages: bool,
}

struct Streams {
    results: Box<dyn Write + Send>,
    messages: Box<dyn Write + Send>,
}

/// What a piece of text is; decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Bad,
    Warning,
    Strong,
    Faint,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Bad => "31",
            Self::Warning => "33",
            Self::Strong => "1",
            Self::Faint => "2",
        }
    }
}

impl Output {
    pub(crate) fn of_process(global: &Global, surroundings: &Surroundings) -> Self {
        let wanted = !global.no_color
            && surroundings.get("NO_COLOR").is_none_or(str::is_empty)
            && surroundings.get("TERM") != Some("dumb");
        let streams = Streams {
            results: Box::new(io::stdout()),
            messages: Box::new(io::stderr()),
        };
        let (results, messages) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            format: global.output.unwrap_or_default(),
            quiet: global.quiet,
            animated: messages && !global.quiet && surroundings.get("TERM") != Some("dumb"),
            color: Color {
                results: wanted && results,
                messages: wanted && messages,
            },
            streams: Arc::new(Mutex::new(streams)),
        }
    }

    fn streams(&self) -> std::sync::MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A piece of a result.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        painted(self.color.results, tone, text)
    }

    /// A text of results, as it is.
    pub(crate) fn write(&self, text: &str) -> Outcome {
        self.write_bytes(text.as_bytes())
    }

    pub(crate) fn write_bytes(&self, bytes: &[u8]) -> Outcome {
        let mut streams = self.streams();
        streams.results.write_all(bytes)?;
        streams.results.flush()?;
        Ok(())
    }

    pub(crate) fn line(&self, text: impl AsRef<str>) -> Outcome {
        self.write(&format!("{}\n", text.as_ref()))
    }

    /// A result as JSON, or as YAML when that is asked for.
    pub(crate) fn value(&self, value: &impl Serialize) -> Outcome {
        let value = serde_json::to_value(value)
            .map_err(|e| Failure::failed("the result cannot be written").because(&e))?;
        if self.format == Format::Yaml {
            return self.write(&freehold_plan::manifest::value_to_yaml(&value));
        }
        let text = serde_json::to_string_pretty(&value).expect("JSON can always be written");
        self.line(text)
    }

    /// Whether the result is for a program.
    pub(crate) fn is_structured(&self) -> bool {
        matches!(self.format, Format::Json | Format::Yaml)
    }

    /// What is happening, for a person who watches.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.message(text.as_ref());
        }
    }

    pub(crate) fn warn(&self, text: impl AsRef<str>) {
        let label = painted(self.color.messages, Tone::Warning, "warning:");
        self.message(&format!("{label} {}", text.as_ref()));
    }

    pub(crate) fn failure(&self, failure: &Failure) {
        if !failure.message.is_empty() {
            self.message(render(failure, self.color.messages).trim_end());
        }
    }

    /// When standard error is gone there is nobody left to tell.
    fn message(&self, text: &str) {
        let mut streams = self.streams();
        let _ = writeln!(streams.messages, "{text}");
        let _ = streams.messages.flush();
    }

    /// Something that turns while we wait; nothing at all away from a terminal.
    pub(crate) fn progress(&self, text: impl Into<String>) -> ProgressBar {
        if !self.animated {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new_spinner().with_style(spinner());
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        bar.set_message(text.into());
        bar
    }
}

pub(crate) fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg}").expect("the template is valid")
}

pub(crate) fn counter() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg}  [{bar:24}] {pos}/{len}")
        .expect("the template is valid")
        .progress_chars("=> ")
}

fn painted(colored: bool, tone: Tone, text: &str) -> String {
    if colored {
        format!("\u{1b}[{}m{text}\u{1b}[0m", tone.code())
    } else {
        text.to_owned()
    }
}

/// What happened, what caused it, what to do next.
pub(crate) fn render(failure: &Failure, colored: bool) -> String {
    let mut text = format!(
        "{} {}\n",
        painted(colored, Tone::Bad, "error:"),
        failure.message
    );
    for cause in &failure.causes {
        text.push_str("  caused by: ");
        text.push_str(&cause.replace('\n', "\n    "));
        text.push('\n');
    }
    if let Some(hint) = &failure.hint {
        let label = painted(colored, Tone::Good, "hint:");
        text.push_str(&format!("{label} {hint}\n"));
    }
    if let Some(id) = &failure.request_id {
        text.push_str(&painted(colored, Tone::Faint, &format!("request: {id}")));
        text.push('\n');
    }
    text
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// What was written, to look at.
    #[derive(Clone, Default)]
    pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output to look at: results, messages.
    pub(crate) fn captured(format: Format) -> (Output, Written, Written) {
        let (results, messages) = (Written::default(), Written::default());
        let streams = Streams {
            results: Box::new(results.clone()),
            messages: Box::new(messages.clone()),
        };
        let output = Output {
            format,
            quiet: false,
            animated: false,
            color: Color::default(),
            streams: Arc::new(Mutex::new(streams)),
        };
        (output, results, messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn failure() -> Failure {
        let mut failure = Failure::new(Exit::Unavailable, "nothing answers at http://x:1")
            .hint("Is `freehold serve` running?");
        failure.causes = vec!["connecting".to_owned(), "refused\nby the system".to_owned()];
        failure.request_id = Some("0198-7".to_owned());
        failure
    }

    #[test]
    fn an_error_says_what_why_and_what_next() {
        insta::assert_snapshot!(render(&failure(), false), @r"
        error: nothing answers at http://x:1
          caused by: connecting
          caused by: refused
            by the system
        hint: Is `freehold serve` running?
        request: 0198-7
        ");
    }

    #[test]
    fn colour_adds_nothing_but_colour() {
        let colored = render(&failure(), true);
        let mut plain = String::new();
        let mut rest = colored.as_str();
        while let Some((before, after)) = rest.split_once('\u{1b}') {
            plain.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        plain.push_str(rest);
        assert_ne!(colored, plain);
        assert_eq!(plain, render(&failure(), false));
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Done, ""));
    }
}
