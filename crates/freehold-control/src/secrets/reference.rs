//! Secrets that live elsewhere.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use freehold_model::{Code, Error, Result, Secret, kinds::SecretReference};
use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

use super::command;

/// Reads what a [`SecretReference`] names: `env:`, `file:`, `exec:`.
///
/// Nothing is cached: a secret that was rotated outside is seen at the next use.
#[derive(Debug, Clone)]
pub struct SecretResolver {
    /// For reading the file or running the command.
    pub timeout: Duration,
    pub bytes_max: usize,
    /// What a manifest may not name. Absent where the server's own configuration speaks.
    pub confinement: Option<Confinement>,
}

/// What is not for manifests. Whoever registers an instance also says which host gets its password, so a
/// reference is a way out for whatever the server can read: its own secrets must not be among it.
#[derive(Debug, Clone, Default)]
pub struct Confinement {
    /// Files and folders of the server's own.
    pub private: Vec<PathBuf>,
    /// A program that a manifest names acts as the server's own account.
    pub programs_allowed: bool,
}

/// The server's own variables.
const OWN_VARIABLES: &str = "FREEHOLD_";
/// Through it a process can be looked into, its variables and open files too.
const PROCESSES: &str = "/proc";

impl Confinement {
    fn file(&self, path: &Path) -> Result<()> {
        // A private path that is not there yet holds nothing yet.
        let private = self
            .private
            .iter()
            .filter_map(|own| own.canonicalize().ok());
        let mut private = private.chain([PathBuf::from(PROCESSES)]);
        if private.any(|own| path.starts_with(own)) {
            return Err(refused(format!("{path:?} is the server's own")));
        }
        Ok(())
    }

    fn environment(&self, name: &str) -> Result<()> {
        if name.starts_with(OWN_VARIABLES) {
            return Err(refused(format!(
                "the variable {name:?} is the server's own"
            )));
        }
        Ok(())
    }

    fn program(&self) -> Result<()> {
        if self.programs_allowed {
            return Ok(());
        }
        Err(Error::new(
            Code::FailedPrecondition,
            "manifests may not have this server run programs (exec:)",
        )
        .hint("Write file: or env:; or set server.exec_references = true, which lets whoever may register an instance act as the server's account."))
    }
}

fn refused(message: String) -> Error {
    Error::new(Code::FailedPrecondition, message)
        .hint("Keep what manifests name in files and variables of their own.")
}

impl Default for SecretResolver {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            bytes_max: 64 * 1024,
            confinement: None,
        }
    }
}

impl SecretResolver {
    /// For references that stand in manifests.
    pub fn for_manifests(confinement: Confinement) -> Self {
        Self {
            confinement: Some(confinement),
            ..Self::default()
        }
    }

    /// The secret, without the line breaks at its end. Errors name the reference, never the secret.
    pub async fn resolve(&self, reference: &SecretReference) -> Result<Secret> {
        let text = reference.0.as_str();
        let bytes = match text.split_once(':') {
            Some(("env", name)) => self.environment(name)?,
            Some(("file", path)) => self.file(Path::new(path)).await?,
            Some(("exec", line)) => {
                self.confinement
                    .as_ref()
                    .map_or(Ok(()), Confinement::program)?;
                command::output(line, self.timeout, self.bytes_max).await?
            }
            _ => {
                return Err(Error::invalid("this is not a reference to a secret")
                    .hint("Write env:NAME, file:/path or exec:command; never the secret itself."));
            }
        };
        let source = text.split(' ').next().unwrap_or_default();
        let bytes = bytes.trim_ascii_end_line_breaks();
        let secret = std::str::from_utf8(bytes).map_err(|_| {
            let message = format!("what {source:?} gives is not UTF-8 text");
            Error::new(Code::FailedPrecondition, message)
        })?;
        if secret.is_empty() {
            let message = format!("what {source:?} gives is empty");
            return Err(Error::new(Code::FailedPrecondition, message));
        }
        Ok(Secret::new(secret))
    }

    fn environment(&self, name: &str) -> Result<Zeroizing<Vec<u8>>> {
        if let Some(confinement) = &self.confinement {
            confinement.environment(name)?;
        }
        let value = std::env::var_os(name).ok_or_else(|| {
            let message = format!("the environment variable {name:?} is not set");
            Error::new(Code::FailedPrecondition, message)
                .hint("Set it for the Freehold server, not for the command that you type.")
        })?;
        let bytes = Zeroizing::new(value.into_encoded_bytes());
        if bytes.len() > self.bytes_max {
            let message = format!("{name:?} holds more than {} bytes", self.bytes_max);
            return Err(Error::new(Code::FailedPrecondition, message));
        }
        Ok(bytes)
    }

    async fn file(&self, path: &Path) -> Result<Zeroizing<Vec<u8>>> {
        let failed = |message: String| Error::new(Code::FailedPrecondition, message);
        if !path.is_absolute() {
            let message = format!("{path:?} is not an absolute path");
            return Err(Error::invalid(message));
        }
        // What is looked at is what is read, wherever links lead.
        let real = match &self.confinement {
            None => path.to_owned(),
            Some(confinement) => {
                let real = tokio::time::timeout(self.timeout, tokio::fs::canonicalize(path));
                match real.await {
                    Ok(Ok(real)) => {
                        confinement.file(&real)?;
                        real
                    }
                    // Reading it says what is wrong with it.
                    Ok(Err(_)) | Err(_) => path.to_owned(),
                }
            }
        };
        let read = async {
            // Opening a pipe or a device could block for ever.
            if !tokio::fs::metadata(&real).await?.is_file() {
                return Ok(None);
            }
            let file = tokio::fs::File::open(&real).await?;
            let mut bytes = Zeroizing::new(Vec::new());
            file.take(self.bytes_max as u64 + 1)
                .read_to_end(&mut bytes)
                .await?;
            Ok::<_, std::io::Error>(Some(bytes))
        };
        let bytes = tokio::time::timeout(self.timeout, read)
            .await
            .map_err(|_| {
                failed(format!(
                    "{path:?} could not be read within {:?}",
                    self.timeout
                ))
            })?
            .map_err(|source| {
                failed(format!("{path:?} cannot be read"))
                    .hint("The file is read by the Freehold server, as the user that it runs as.")
                    .because(source)
            })?
            .ok_or_else(|| failed(format!("{path:?} is not a regular file")))?;
        if bytes.len() > self.bytes_max {
            let message = format!("{path:?} is larger than {} bytes", self.bytes_max);
            return Err(failed(message));
        }
        Ok(bytes)
    }
}

trait TrimLineBreaks {
    fn trim_ascii_end_line_breaks(&self) -> &[u8];
}

impl TrimLineBreaks for Zeroizing<Vec<u8>> {
    fn trim_ascii_end_line_breaks(&self) -> &[u8] {
        let end = self
            .iter()
            .rposition(|byte| !matches!(byte, b'\n' | b'\r'))
            .map_or(0, |last| last + 1);
        &self[..end]
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, path::PathBuf};

    use super::*;

    async fn resolve(text: impl Into<String>) -> Result<Secret> {
        let resolver = SecretResolver {
            timeout: Duration::from_millis(500),
            bytes_max: 1_000,
            confinement: None,
        };
        resolver.resolve(&SecretReference(text.into())).await
    }

    #[tokio::test]
    async fn what_is_the_servers_own_is_not_for_manifests() {
        let own = tempfile::tempdir().unwrap();
        let apart = tempfile::tempdir().unwrap();
        for folder in [&own, &apart] {
            std::fs::write(folder.path().join("key"), "a secret").unwrap();
        }
        std::os::unix::fs::symlink(own.path(), apart.path().join("way-in")).unwrap();
        let resolver = SecretResolver::for_manifests(Confinement {
            private: vec![own.path().to_owned(), PathBuf::from("/nowhere/yet")],
            programs_allowed: false,
        });
        let resolve = |text: String| {
            let resolver = resolver.clone();
            async move { resolver.resolve(&SecretReference(text)).await }
        };
        let shown = |path: &Path| format!("file:{}", path.display());
        for refused in [
            shown(&own.path().join("key")),
            shown(&apart.path().join("way-in/key")),
            shown(&apart.path().join(".").join("way-in").join("..").join("key")).replace(
                &apart.path().display().to_string(),
                &own.path().join("x/..").display().to_string(),
            ),
            "file:/proc/self/environ".to_owned(),
            "env:FREEHOLD_TOKEN".to_owned(),
            "exec:cat /etc/hostname".to_owned(),
        ] {
            let error = resolve(refused.clone()).await.unwrap_err();
            assert_eq!(error.code, Code::FailedPrecondition, "{refused}: {error}");
            assert!(!error.to_string().contains("a secret"), "{error}");
        }
        let secret = resolve(shown(&apart.path().join("key"))).await.unwrap();
        assert_eq!(secret.expose(), "a secret");
        let allowed = SecretResolver::for_manifests(Confinement {
            programs_allowed: true,
            ..Confinement::default()
        });
        let reference = SecretReference("exec:echo said".to_owned());
        let said = allowed.resolve(&reference);
        assert_eq!(said.await.unwrap().expose(), "said");
    }

    fn everything_of(error: &Error) -> String {
        let source = std::error::Error::source(error).map(ToString::to_string);
        format!("{error} {error:?} {:?} {source:?}", error.hint)
    }

    fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::File::create(&path)
            .unwrap()
            .write_all(content)
            .unwrap();
        (folder, path)
    }

    #[tokio::test]
    async fn a_file_gives_its_text_without_the_line_break_at_the_end() {
        for content in ["s3 cret", "s3 cret\n", "s3 cret\r\n"] {
            let (_folder, path) = file(content.as_bytes());
            let secret = resolve(format!("file:{}", path.display())).await.unwrap();
            assert_eq!(secret.expose(), "s3 cret");
        }
    }

    #[tokio::test]
    async fn a_command_runs_without_a_shell() {
        let secret = resolve("exec:/bin/echo '$HOME' \"a  b\" `id`; #x")
            .await
            .unwrap();
        assert_eq!(secret.expose(), "$HOME a  b `id`; #x");
    }

    #[tokio::test]
    async fn a_variable_of_the_environment_is_read() {
        let path = std::env::var("PATH").unwrap();
        let resolver = SecretResolver::default();
        let secret = resolver
            .resolve(&SecretReference("env:PATH".to_owned()))
            .await
            .unwrap();
        assert_eq!(secret.expose(), path);
        assert!(resolve("env:FREEHOLD_SURELY_NOT_SET").await.is_err());
    }

    #[tokio::test]
    async fn errors_do_not_hold_the_secret() {
        let (_folder, path) = file(b"hunter2\xff");
        let failing = [
            format!("file:{}", path.display()),
            "exec:/bin/sh -c 'echo hunter2; echo hunter2 >&2; exit 3'".to_owned(),
            "exec:/bin/sh -c 'echo hunter2; exec sleep 60'".to_owned(),
        ];
        for reference in failing {
            let error = resolve(reference.clone()).await.unwrap_err();
            let shown = everything_of(&error);
            assert!(!shown.contains("hunter2"), "{reference}: {shown}");
        }
    }

    #[tokio::test]
    async fn what_hangs_is_too_large_empty_or_no_reference_is_refused() {
        let (_folder, large) = file(&[b'x'; 1_001]);
        let (_folder, empty) = file(b"\n");
        for reference in [
            format!("file:{}", large.display()),
            format!("file:{}", empty.display()),
            "file:relative/path".to_owned(),
            "file:/dev/zero".to_owned(),
            "file:/nowhere/at/all".to_owned(),
            "exec:/bin/cat /dev/zero".to_owned(),
            "exec:/bin/sleep 60".to_owned(),
            "exec:/nowhere/at/all".to_owned(),
            "exec:/bin/true".to_owned(),
            "exec:".to_owned(),
            "exec:'unclosed".to_owned(),
            "hunter2".to_owned(),
            "vault:hunter2".to_owned(),
        ] {
            let error = resolve(reference.clone()).await.unwrap_err();
            assert!(!everything_of(&error).contains("hunter2"), "{reference}");
        }
    }
}
