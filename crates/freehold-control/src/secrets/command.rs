//! Runs a program that prints a secret. No shell, so nothing in the text is expanded.

use std::{process::Stdio, time::Duration};

use freehold_model::{Code, Error, Result};
use tokio::{io::AsyncReadExt as _, process::Command};
use zeroize::Zeroizing;

/// Program and arguments: separated by spaces; single and double quotes hold a word together, and
/// nothing else has a meaning.
pub(super) fn words(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(Error::invalid("a quote in the command is not closed"));
    }
    words.extend(word);
    if words.is_empty() {
        return Err(Error::invalid("the command is empty"));
    }
    Ok(words)
}

/// What the program writes to its standard output. Its error output is dropped, because it may
/// repeat the secret; no error of ours holds any output either.
pub(super) async fn output(
    command: &str,
    timeout: Duration,
    bytes_max: usize,
) -> Result<Zeroizing<Vec<u8>>> {
    let words = words(command)?;
    let program = &words[0];
    let failed = |message: String| {
        Error::new(Code::FailedPrecondition, message).hint(
            "Run the command by hand, as the user that Freehold runs as, and see what it says.",
        )
    };
    let mut child = Command::new(program)
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| failed(format!("{program:?} cannot be started")).because(source))?;
    let stdout = child
        .stdout
        .take()
        .expect("the output was asked to be piped");
    let run = async {
        let mut bytes = Zeroizing::new(Vec::with_capacity(bytes_max.min(8 * 1024)));
        stdout
            .take(bytes_max as u64 + 1)
            .read_to_end(&mut bytes)
            .await?;
        if bytes.len() > bytes_max {
            return Ok((bytes, None));
        }
        let status = child.wait().await?;
        Ok::<_, std::io::Error>((bytes, Some(status)))
    };
    let (bytes, status) = tokio::time::timeout(timeout, run)
        .await
        .map_err(|_| failed(format!("{program:?} did not end within {timeout:?}")))?
        .map_err(|source| failed(format!("the output of {program:?} broke off")).because(source))?;
    match status {
        Some(status) if status.success() => Ok(bytes),
        Some(status) => Err(failed(format!("{program:?} ended with {status}"))),
        None => Err(failed(format!(
            "{program:?} prints more than {bytes_max} bytes"
        ))),
    }
}
