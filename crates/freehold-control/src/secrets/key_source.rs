//! Where the key-encryption key comes from. Never from the store: who has the store alone must have
//! nothing.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use freehold_model::{Code, Entropy, Error, Result, Secret, kinds::SecretReference};
use zeroize::Zeroizing;

use super::SecretResolver;

/// 32 bytes, written as base64 (44 characters) or as 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file that other users may not read; made at first start when `generate` is set.
    File {
        path: PathBuf,
        generate: bool,
    },
    Environment {
        variable: String,
    },
    /// A program and its arguments, run without a shell; its output is the key.
    Command {
        command: String,
    },
}

pub(super) type KeyBytes = Zeroizing<[u8; 32]>;

impl FromStr for KeySource {
    type Err = Error;

    /// `file:/path`, `env:NAME` or `exec:command args`. A file that is read so is not generated.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            Some(("file", path)) if path.starts_with('/') => Ok(Self::File {
                path: PathBuf::from(path),
                generate: false,
            }),
            Some(("env", variable)) if !variable.is_empty() => Ok(Self::Environment {
                variable: variable.to_owned(),
            }),
            Some(("exec", command)) if !command.trim().is_empty() => Ok(Self::Command {
                command: command.to_owned(),
            }),
            _ => Err(
                Error::invalid("this does not say where the encryption key is")
                    .hint("Write file:/path, env:NAME or exec:command; never the key itself."),
            ),
        }
    }
}

impl KeySource {
    /// The key. `entropy` makes a new one where that is asked for.
    pub(super) async fn load(&self, entropy: &dyn Entropy) -> Result<KeyBytes> {
        if let Self::File { path, generate } = self {
            if *generate && !path.exists() {
                generate_file(path, entropy)?;
            }
            check_permissions(path)?;
        }
        let reference = match self {
            Self::File { path, .. } => format!("file:{}", path.display()),
            Self::Environment { variable } => format!("env:{variable}"),
            Self::Command { command } => format!("exec:{command}"),
        };
        let resolver = SecretResolver {
            timeout: Duration::from_secs(30),
            bytes_max: 4 * 1024,
            confinement: None,
        };
        let text = resolver.resolve(&SecretReference(reference)).await.map_err(|error| {
            let hint = "Without its key Freehold cannot open what it has sealed. Put the key back \
                        where the configuration says, or say where it is now.";
            Error::new(error.code, format!("the encryption key cannot be read: {error}"))
                .hint(hint)
                .because(error)
        })?;
        parse(&text).ok_or_else(|| {
            Error::new(
                Code::FailedPrecondition,
                "the encryption key is not 32 bytes in base64 or hexadecimal",
            )
            .hint("A fresh key: openssl rand -base64 32")
        })
    }
}

fn parse(text: &Secret) -> Option<KeyBytes> {
    let text = text.expose().trim();
    let bytes = Zeroizing::new(match text.len() {
        64 => hex::decode(text).ok()?,
        _ => STANDARD.decode(text).ok()?,
    });
    let mut key = Zeroizing::new([0; 32]);
    if bytes.len() != key.len() {
        return None;
    }
    key.copy_from_slice(&bytes);
    Some(key)
}

/// Two servers may start at once, and either may be killed: the file appears whole or not at all,
/// and the first one stays.
fn generate_file(path: &Path, entropy: &dyn Entropy) -> Result<()> {
    let failed = |source: io::Error| {
        let message = format!("a new encryption key cannot be written to {path:?}");
        Error::new(Code::FailedPrecondition, message)
            .hint("Its folder must exist and be writable for the user that Freehold runs as.")
            .because(source)
    };
    let mut key = Zeroizing::new([0u8; 32]);
    entropy.fill(key.as_mut());
    let text = Zeroizing::new(STANDARD.encode(key.as_ref()) + "\n");
    let mut mark = [0u8; 8];
    entropy.fill(&mut mark);
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}.new", hex::encode(mark)));
    let draft = PathBuf::from(draft);
    let written =
        write_new(&draft, text.as_bytes()).and_then(|()| match fs::hard_link(&draft, path) {
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    let removed = fs::remove_file(&draft);
    written.and(removed).map_err(failed)
}

/// A new file that nobody else may read, on disk when this returns.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn check_permissions(path: &Path) -> Result<()> {
    let Ok(metadata) = fs::metadata(path) else {
        // Reading it gives the better error.
        return Ok(());
    };
    let mode = metadata.permissions().mode();
    if mode & 0o027 == 0 {
        return Ok(());
    }
    let message = format!(
        "the encryption key {path:?} may be read by other users or changed by its group (mode \
         {:o})",
        mode & 0o777
    );
    let hint = format!("chmod 600 {}", path.display());
    Err(Error::new(Code::FailedPrecondition, message).hint(hint))
}
