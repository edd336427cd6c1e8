//! What the registry holds, as values, and both ways in which it is written: a hash, and the key patterns
//! of an account.

use std::{collections::BTreeMap, str::FromStr};

use freehold_model::{Entropy, ServerIdentity};

use crate::{EngineError, Fault, Result, Stamp, redis::observe::User};

/// Which server this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::redis) struct Home {
    pub(in crate::redis) id: String,
    /// Where it was when the id was given.
    pub(in crate::redis) place: String,
}

impl Home {
    pub(super) fn new(entropy: &dyn Entropy, place: &str) -> Self {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        Self {
            id: format!("{:032x}", u128::from_be_bytes(bytes)),
            place: place.to_owned(),
        }
    }

    pub(super) fn read(fields: &BTreeMap<String, String>) -> Option<Self> {
        Some(Self {
            id: fields.get("id")?.clone(),
            place: fields.get("place")?.clone(),
        })
    }

    /// Another one than the stamps say when the server is not where it was.
    pub(in crate::redis) fn identity(&self, place: &str) -> ServerIdentity {
        if self.place == place {
            ServerIdentity(self.id.clone())
        } else {
            ServerIdentity(format!("{}@{place}", self.id))
        }
    }
}

/// How far a database has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::redis) enum RowState {
    /// The name is taken, nobody has been let in.
    Reserved,
    Created,
    /// Given up by Freehold; keys and accounts stay.
    Released,
}

/// One row of the registry.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::redis) struct RegistryRow {
    pub(in crate::redis) stamp: Stamp,
    /// The id of the server that it was made on.
    pub(in crate::redis) server: ServerIdentity,
    pub(in crate::redis) epoch: u64,
    /// Who had that epoch. An epoch belongs to one worker: when another one comes with the same, one
    /// of them took it from an old copy of the store.
    pub(in crate::redis) actor: String,
    pub(in crate::redis) state: RowState,
    /// Accounts were set since they were last saved.
    pub(in crate::redis) unsaved: bool,
}

impl RegistryRow {
    pub(super) fn read(fields: &BTreeMap<String, String>) -> Result<Self> {
        let doing = "read the registry";
        let unreadable = |what: &str| {
            let detail = format!("a row of the registry cannot be read: {what}");
            EngineError::new(Fault::Invalid { detail }, doing)
        };
        let field = |name: &'static str| fields.get(name).ok_or_else(|| unreadable(name));
        fn parsed<T: FromStr>(text: &str) -> Option<T> {
            text.parse().ok()
        }
        let state = match field("state")?.as_str() {
            "reserved" => RowState::Reserved,
            "created" => RowState::Created,
            "released" => RowState::Released,
            _ => return Err(unreadable("state")),
        };
        let stamp = || -> Result<Stamp, &'static str> {
            let get = |name: &'static str| fields.get(name).ok_or(name);
            Ok(Stamp {
                control_plane: parsed(get("control_plane")?).ok_or("control_plane")?,
                environment: parsed(get("environment")?).ok_or("environment")?,
                team: parsed(get("team")?).ok_or("team")?,
                database: parsed(get("database")?).ok_or("database")?,
                uid: parsed(get("uid")?).ok_or("uid")?,
            })
        };
        Ok(Self {
            stamp: stamp().map_err(unreadable)?,
            server: ServerIdentity(field("server")?.clone()),
            epoch: parsed(field("epoch")?).ok_or_else(|| unreadable("epoch"))?,
            actor: field("actor")?.clone(),
            state,
            unsaved: fields.get("unsaved").is_some_and(|unsaved| unsaved == "1"),
        })
    }

    /// What row and copy have in common, in this order.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        let stamp = &self.stamp;
        vec![
            ("control_plane", stamp.control_plane.to_string()),
            ("environment", stamp.environment.to_string()),
            ("team", stamp.team.to_string()),
            ("database", stamp.database.to_string()),
            ("uid", stamp.uid.to_string()),
            ("server", self.server.0.clone()),
            ("epoch", self.epoch.to_string()),
            ("actor", self.actor.clone()),
            (
                "state",
                match self.state {
                    RowState::Reserved => "reserved",
                    RowState::Created => "created",
                    RowState::Released => "released",
                }
                .to_owned(),
            ),
        ]
    }

    /// The patterns of the account that carries the copy.
    pub(super) fn patterns(&self, home: &Home) -> Vec<String> {
        let mut fields = self.fields();
        fields.push(("id", home.id.clone()));
        fields.push(("place", home.place.clone()));
        fields
            .into_iter()
            .map(|(name, value)| format!("~{name}={}", escaped(&value)))
            .collect()
    }
}

/// A value as a pattern can hold it: no white space, nothing that begins or ends a rule.
fn escaped(value: &str) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_./:@".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02x}");
        }
    }
    text
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// A row's copy, from the account that carries it.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::redis) struct RowCopy {
    pub(in crate::redis) row: RegistryRow,
    pub(in crate::redis) home: Home,
}

impl RowCopy {
    pub(in crate::redis) fn of(user: &User) -> Option<Self> {
        let fields: BTreeMap<String, String> = user
            .keys
            .iter()
            .filter_map(|pattern| {
                let (name, value) = pattern.strip_prefix('~')?.split_once('=')?;
                Some((name.to_owned(), unescaped(value)?))
            })
            .collect();
        Some(Self {
            row: RegistryRow {
                // Whether it was saved is not in it, so it is taken not to be.
                unsaved: true,
                ..RegistryRow::read(&fields).ok()?
            },
            home: Home::read(&fields)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_survives_a_pattern(text in ".{0,40}") {
            let pattern = escaped(&text);
            prop_assert!(pattern.chars().all(|c| c.is_ascii_graphic() && !"()\"'*?[".contains(c)));
            prop_assert_eq!(unescaped(&pattern), Some(text));
        }
    }

    #[test]
    fn a_server_that_moved_is_another_one() {
        let home = Home {
            id: "a1".into(),
            place: "/var/lib/redis:6379".into(),
        };
        assert_eq!(home.identity("/var/lib/redis:6379").0, "a1");
        assert_eq!(home.identity("/tmp/copy:6379").0, "a1@/tmp/copy:6379");
    }
}
