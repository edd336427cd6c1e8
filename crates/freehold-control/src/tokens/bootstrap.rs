//! The first admin token.
//!
//! It must exist exactly once per store and must not get lost, whoever is killed when. So its text
//! is written to a draft beside the file first, then the token is saved together with a record that
//! says it was the first, and only then the draft takes the file's name. Who is killed in between
//! finds the draft of the token that the record names, and finishes. Of two servers that start at
//! once one saves its token; the other removes its draft.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use freehold_model::{Code, Error, Name, Result, kinds::Role};
use freehold_store::{PutMode, Value, Write};

use super::{
    Token, TokenId, TokenRequest, Tokens, failed,
    record::{self, BootstrapRecord},
};
use crate::{authorize::SubjectKind, secrets::write_private_file};

/// The subject of the first token.
const SUBJECT: &str = "admin";

impl Tokens {
    /// Creates the first admin token and writes it to `path` (0600), exactly once per store. Gives
    /// the token when this call made it. `with` gives what is saved in the same batch.
    pub async fn bootstrap(
        &self,
        path: &Path,
        with: impl FnOnce(&Token) -> Vec<Write>,
    ) -> Result<Option<Token>> {
        if let Some(first) = self.first().await? {
            finish(path, &first)?;
            return Ok(None);
        }
        let (record, secret) = self.mint(TokenRequest {
            subject: Name::new(SUBJECT).expect("a literal name"),
            kind: SubjectKind::Person,
            platform_role: Some(Role::Admin),
            expires_at: None,
            description: "made at the first start".to_owned(),
            created_by: "freehold".to_owned(),
        })?;
        let token = record.token.clone();
        let draft = draft_of(path, &token.id);
        let line = format!("{}\n", secret.expose());
        write_private_file(&draft, line.as_bytes()).map_err(|source| unwritable(path, source))?;

        let mut writes = with(&token);
        writes.push(mark(&token.id)?);
        let saved = self.save_new(&record, writes).await;
        match self.first().await? {
            Some(first) if first == token.id => {
                finish(path, &first)?;
                Ok(Some(token))
            }
            Some(_) => {
                fs::remove_file(&draft).map_err(|source| unwritable(path, source))?;
                Ok(None)
            }
            // Whether it was saved is not known; the draft stays for the next start.
            None => saved.map(|()| None),
        }
    }

    async fn first(&self) -> Result<Option<TokenId>> {
        let wrap = |error| failed("reading which token was the first", error);
        let found = self
            .store
            .get(&record::bootstrap(), &record::bootstrap_key())
            .await;
        let Some(found) = found.map_err(wrap)? else {
            return Ok(None);
        };
        let record: BootstrapRecord = found.value.decode().map_err(wrap)?;
        Ok(Some(record.token))
    }
}

fn mark(id: &TokenId) -> Result<Write> {
    let record = BootstrapRecord { token: id.clone() };
    let value = Value::encode(&record).map_err(|error| failed("creating the token", error))?;
    Ok(Write::Put {
        collection: record::bootstrap(),
        key: record::bootstrap_key(),
        value,
        mode: PutMode::Create,
        expires_at: None,
    })
}

fn draft_of(path: &Path, id: &TokenId) -> PathBuf {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{id}.new"));
    PathBuf::from(draft)
}

/// Gives the draft of the saved token its name. Nothing to do when that has happened already.
fn finish(path: &Path, id: &TokenId) -> Result<()> {
    match fs::rename(draft_of(path, id), path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(unwritable(path, source)),
        _ => Ok(()),
    }
}

fn unwritable(path: &Path, source: io::Error) -> Error {
    let message = format!("the first admin token cannot be written to {path:?}");
    Error::new(Code::FailedPrecondition, message)
        .hint("Its folder must exist and be writable for the user that Freehold runs as.")
        .because(source)
}
