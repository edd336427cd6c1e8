//! Who owns what on this server, kept on the server itself, and who may act.
//!
//! Under keys that no login of ours may touch, in the numbered database 0:
//!
//! ```text
//! freehold:server            a random id of the server, and its place (folder and port)
//! freehold:databases         the names of all rows
//! freehold:database:shop     a row: stamp, server, highest epoch seen, who had it, state
//! freehold:creations         counted up whenever an account is made
//! ```
//!
//! **The row has a copy in the access list**: an account `freehold:database:shop` that is off, has no
//! password and no command, and whose key patterns are the row's fields. Keys and accounts are lost in
//! different ways (`FLUSHALL`, eviction, an old dump that was loaded; a restart without the ACL file, a
//! promoted replica, which gets no accounts from its primary), so what one has lost the other knows. The
//! one with the higher epoch counts. Both gone is `Missing`, and a person decides; one that carries
//! somebody else's stamp is `NameTaken`. Nothing is ever taken over in silence.
//!
//! **The fence.** An effect and its check are one transaction: the row is watched (`WATCH`), read and
//! compared, and then `MULTI … EXEC` writes our epoch into it, sets the accounts, and ends their
//! sessions. The server runs all of that at once or, when anybody wrote the row since, nothing of it.
//! So a worker that sleeps between its look and its effect changes nothing when a newer one has been
//! there, wherever it slept, and what it had sent arrives as a transaction that fails. Commands inside
//! are checked before, because the server undoes nothing when one of them fails.
//!
//! **Full memory** stops Freehold too: a server at its `maxmemory` that evicts nothing refuses to queue a
//! transaction, whatever is in it, and no account is set without one. That is `Exhausted`, and closing
//! the tenant that filled it needs `CONFIG SET maxmemory` first.
//!
//! **The server's identity** is the random id. A copy of the files that runs in another folder or on
//! another port has another place, calls itself another server and is refused (`ServerMismatch`) until a
//! person says `HSET freehold:server place FOLDER:PORT`. What cannot be told: a copy in a folder of the
//! same name and on the same port of another machine, such as a replica. Redis has no name for the
//! machine it runs on, and its `run_id` changes with every start.

mod row;

use std::collections::BTreeMap;

use freehold_model::Entropy;
use redis::{Cmd, Value};

use super::{
    connect::{Connection, command, refuse, unreadable},
    names::DatabaseName,
    observe::User,
    reply,
    rules::words,
};
use crate::{EngineError, Fault, Fence, Result, Stamp};

pub(super) use row::{Home, RegistryRow, RowCopy, RowState};

/// What all keys of the registry begin with, before a colon. No database may have this name.
pub(super) const RESERVED: &str = "freehold";

const SERVER: &str = "freehold:server";
const INDEX: &str = "freehold:databases";
/// Who makes an account watches this, so that two never make one of the same name.
pub(super) const CREATIONS: &str = "freehold:creations";

/// Tries at a transaction whose row somebody else writes at the same time.
const ATTEMPTS: u32 = 16;

/// All that the server knows about one name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) home: Option<Home>,
    pub(super) row: Option<RegistryRow>,
    pub(super) copy: Option<RowCopy>,
}

impl Found {
    fn commands(name: &DatabaseName) -> [Cmd; 3] {
        [
            command(&["HGETALL", SERVER]),
            command(&["HGETALL", &name.row()]),
            command(&["ACL", "GETUSER", &name.row()]),
        ]
    }

    fn read(replies: &[Value], doing: &str) -> Result<Self> {
        let [home, row, copy] = replies else {
            return Err(unreadable(doing));
        };
        let row = reply::hash(refuse(row, doing)?);
        Ok(Self {
            home: reply::hash(refuse(home, doing)?).and_then(|fields| Home::read(&fields)),
            row: row.map(|fields| RegistryRow::read(&fields)).transpose()?,
            copy: User::read(refuse(copy, doing)?).and_then(|user| RowCopy::of(&user)),
        })
    }

    pub(super) fn home(&self) -> Option<&Home> {
        self.home
            .as_ref()
            .or(self.copy.as_ref().map(|copy| &copy.home))
    }

    /// The row that counts: of row and copy the one with the higher epoch.
    pub(super) fn row(&self) -> Option<&RegistryRow> {
        let copy = self.copy.as_ref().map(|copy| &copy.row);
        match (&self.row, copy) {
            (Some(row), Some(copy)) if copy.epoch > row.epoch => Some(copy),
            (Some(row), _) => Some(row),
            (None, copy) => copy,
        }
    }

    /// A stamp on this name that is not the given one.
    pub(super) fn other_owner(&self, ours: &Stamp) -> Option<&Stamp> {
        let copy = self.copy.as_ref().map(|copy| &copy.row);
        let stamps = self.row.iter().chain(copy).map(|row| &row.stamp);
        stamps.into_iter().find(|stamp| *stamp != ours)
    }
}

pub(super) async fn find(admin: &mut Connection, name: &DatabaseName) -> Result<Found> {
    let doing = "read the registry";
    let replies = admin.send(&Found::commands(name), doing).await?;
    Found::read(&replies, doing)
}

/// The server's id and recorded place. When its key is lost, any row's copy knows it.
pub(super) async fn home(admin: &mut Connection) -> Result<Option<Home>> {
    let doing = "look for the registry";
    let replies = admin.read(&[command(&["HGETALL", SERVER])], doing).await?;
    let read = replies.first().and_then(reply::hash);
    if let Some(home) = read.and_then(|fields| Home::read(&fields)) {
        return Ok(Some(home));
    }
    let users = super::observe::all(admin).await?;
    let copies = users
        .iter()
        .filter(|(name, _)| DatabaseName::of_row(name).is_some());
    let mut homes = copies.filter_map(|(_, user)| RowCopy::of(user));
    Ok(homes.next().map(|copy| copy.home))
}

/// Gives the server an id when it has none.
pub(super) async fn create(admin: &mut Connection, entropy: &dyn Entropy) -> Result<()> {
    let doing = "create the registry (keys freehold:*)";
    let fresh = Home::new(entropy, &admin.server.place.clone());
    let watch = command(&["WATCH", SERVER]);
    admin.read(&[watch], doing).await?;
    let home = match home(admin).await? {
        Some(known) => known,
        None => fresh,
    };
    let write = [
        command(&["MULTI"]),
        command(&["HSET", SERVER, "id", &home.id, "place", &home.place]),
        command(&["EXEC"]),
    ];
    // Whoever was faster made it: both are done.
    let replies = admin.change(&write, doing).await?;
    outcome(&replies, doing).map(|_| ())
}

pub(super) fn missing(doing: &str) -> EngineError {
    let what = "the registry (keys freehold:*, and the accounts that carry a copy)".to_owned();
    EngineError::new(Fault::Missing { what }, doing)
}

/// The names in the registry's index.
pub(super) async fn index(admin: &mut Connection) -> Result<Vec<DatabaseName>> {
    let asked = [command(&["SMEMBERS", INDEX])];
    let replies = admin.read(&asked, "read the registry").await?;
    let names = replies.first().map(reply::texts).unwrap_or_default();
    Ok(names
        .iter()
        .filter_map(|name| DatabaseName::new(name).ok())
        .collect())
}

/// Puts a name into the index. Before its row is there it says nothing.
///
/// It is no part of the transaction that takes the name, which then writes one key alone: Redis 7.0 loses
/// transactions of its append-only file at a restart when the account `default` lacks rights, and keeps
/// single commands (see `inspect`).
pub(super) async fn enlist(admin: &mut Connection, name: &DatabaseName) -> Result<()> {
    let doing = format!("list {:?} in the registry", name.as_str());
    let replies = admin.change(&[list(name)], &doing).await?;
    replies
        .first()
        .map_or(Ok(()), |reply| refuse(reply, &doing).map(|_| ()))
}

fn list(name: &DatabaseName) -> Cmd {
    command(&["SADD", INDEX, name.as_str()])
}

/// The rows of many names.
pub(super) async fn rows(
    admin: &mut Connection,
    names: &[DatabaseName],
) -> Result<BTreeMap<String, RegistryRow>> {
    let mut rows = BTreeMap::new();
    for part in names.chunks(500) {
        let asked: Vec<Cmd> = part
            .iter()
            .map(|name| command(&["HGETALL", &name.row()]))
            .collect();
        let replies = admin.read(&asked, "read the registry").await?;
        for (name, reply) in part.iter().zip(&replies) {
            if let Some(fields) = reply::hash(reply) {
                rows.insert(name.as_str().to_owned(), RegistryRow::read(&fields)?);
            }
        }
    }
    Ok(rows)
}

/// Everything that must be true of a row before its owner may act.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) name: DatabaseName,
    pub(super) stamp: Stamp,
    pub(super) fence: Fence,
}

/// What the registry says, once it is known to be ours.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Standing {
    pub(super) home: Home,
    pub(super) row: RegistryRow,
    /// The row's key is gone, or older than its copy.
    pub(super) row_lost: bool,
    /// The copy is gone, or does not say what the row says.
    pub(super) copy_lost: bool,
}

impl Claim {
    pub(super) fn new(name: &str, stamp: &Stamp, fence: &Fence) -> Result<Self> {
        Ok(Self {
            name: DatabaseName::new(name)?,
            stamp: stamp.clone(),
            fence: fence.clone(),
        })
    }

    /// Compares what was found with what it must be.
    pub(super) fn check(&self, found: &Found, place: &str) -> Result<Standing> {
        self.check_state(found, place, |state| state != RowState::Released)
    }

    /// As [`Claim::check`], for who may meet a row that was given up.
    pub(super) fn check_state(
        &self,
        found: &Found,
        place: &str,
        accepts: impl Fn(RowState) -> bool,
    ) -> Result<Standing> {
        let doing = "check the fence";
        let fail = |fault| Err(EngineError::new(fault, doing));
        if let Some(owner) = found.other_owner(&self.stamp) {
            return fail(Fault::NameTaken {
                name: self.name.as_str().to_owned(),
                owner: Some(Box::new(owner.clone())),
            });
        }
        let Some(home) = found.home() else {
            return Err(missing(doing));
        };
        let Some(row) = found.row() else {
            let what = format!("the registry's row of database {:?}", self.name.as_str());
            return fail(Fault::Missing { what });
        };
        let identity = home.identity(place);
        if row.server != identity {
            return fail(Fault::ServerMismatch {
                expected: row.server.clone(),
                found: identity,
            });
        }
        let (ours, theirs) = (self.fence.epoch, row.epoch);
        if theirs > ours || (theirs == ours && row.actor != self.fence.actor) {
            let found = theirs;
            return fail(Fault::Fenced { ours, found });
        }
        if !accepts(row.state) {
            let name = self.name.as_str();
            let what = format!("the reservation of database {name:?} (it was released)");
            return fail(Fault::Missing { what });
        }
        let copied = found.copy.as_ref();
        Ok(Standing {
            home: home.clone(),
            row_lost: found.home.is_none() || found.row.as_ref() != Some(row),
            copy_lost: copied.is_none_or(|copy| {
                let unsaved = row.unsaved;
                let copied = RegistryRow {
                    unsaved,
                    ..copy.row.clone()
                };
                copied != *row || copy.home != *home
            }),
            row: row.clone(),
        })
    }

    /// The row with our epoch in it.
    pub(super) fn raised(&self, row: &RegistryRow) -> RegistryRow {
        RegistryRow {
            epoch: self.fence.epoch,
            actor: self.fence.actor.clone(),
            ..row.clone()
        }
    }
}

/// What a transaction does beside writing the row.
pub(super) struct Deed {
    pub(super) home: Home,
    pub(super) row: RegistryRow,
    pub(super) commands: Vec<Cmd>,
    /// The commands set accounts.
    pub(super) sets_accounts: bool,
    /// The commands save the accounts as they are then.
    pub(super) saves: bool,
}

/// What a transaction is about.
pub(super) struct Subject<'a> {
    pub(super) claim: &'a Claim,
    pub(super) doing: &'a str,
    /// Further keys that nobody may write in between.
    pub(super) watch: &'a [&'a str],
    /// What `decide` wants to have read under the watch.
    pub(super) look: Vec<Cmd>,
}

/// Runs one effect under the fence: watches the row, lets `decide` judge what is found now, and does all
/// of it at once. Returns the replies to the deed's commands, refusals among them.
pub(super) async fn transact(
    admin: &mut Connection,
    subject: &Subject<'_>,
    mut decide: impl FnMut(&Found, &[Value]) -> Result<Deed>,
) -> Result<Vec<Value>> {
    let (claim, doing) = (subject.claim, subject.doing);
    let row = claim.name.row();
    let mut watch = vec!["WATCH", SERVER, row.as_str()];
    watch.extend(subject.watch);
    let mut look = vec![command(&watch)];
    look.extend(Found::commands(&claim.name));
    look.extend(subject.look.iter().cloned());
    for _ in 0..ATTEMPTS {
        let replies = admin.read(&look, doing).await?;
        let found = Found::read(replies.get(1..4).unwrap_or_default(), doing)?;
        let mut deed = match decide(&found, replies.get(4..).unwrap_or_default()) {
            Ok(deed) => deed,
            Err(error) => {
                admin.read(&[command(&["UNWATCH"])], doing).await?;
                return Err(error);
            }
        };
        let (before, count) = (writing(claim, &found, &mut deed), deed.commands.len());
        let mut message = vec![command(&["MULTI"])];
        message.extend(before);
        message.append(&mut deed.commands);
        message.push(command(&["EXEC"]));
        let replies = admin.change(&message, doing).await?;
        if let Some(mut done) = outcome(&replies, doing)? {
            let rest = done.split_off(done.len().saturating_sub(count));
            for reply in &done {
                refuse(reply, doing)?;
            }
            return Ok(rest);
        }
    }
    let detail = "somebody else is working on this database".to_owned();
    Err(EngineError::new(Fault::Busy { detail }, doing))
}

/// The row and its copy, as commands.
fn writing(claim: &Claim, found: &Found, deed: &mut Deed) -> Vec<Cmd> {
    let key = claim.name.row();
    let patterns = deed.row.patterns(&deed.home);
    let copied = found.copy.as_ref();
    let stale = copied.is_none_or(|copy| copy.row.patterns(&copy.home) != patterns);
    deed.row.unsaved = !deed.saves && (deed.row.unsaved || stale || deed.sets_accounts);
    let mut row = words(&["HSET", &key]);
    for (name, value) in deed.row.fields() {
        row.extend([name.to_owned(), value]);
    }
    let unsaved = if deed.row.unsaved { "1" } else { "0" };
    row.extend(words(&["unsaved", unsaved]));
    let mut commands = vec![command(&row)];
    if found.row.is_none() {
        commands.push(list(&claim.name));
    }
    if found.home.is_none() {
        let Home { id, place } = &deed.home;
        commands.push(command(&["HSET", SERVER, "id", id, "place", place]));
    }
    if stale {
        let mut copy = words(&["ACL", "SETUSER", &key, "reset", "resetchannels"]);
        copy.extend(patterns);
        commands.push(command(&copy));
    }
    commands
}

/// What came of a transaction: its replies, or nothing when a watched key was written by others.
fn outcome(replies: &[Value], doing: &str) -> Result<Option<Vec<Value>>> {
    match replies.last() {
        Some(Value::Array(done)) => Ok(Some(done.clone())),
        Some(Value::Nil) => Ok(None),
        _ => {
            // What could not be queued says why; that nothing was done is what the last one says.
            for reply in replies {
                refuse(reply, doing)?;
            }
            Err(unreadable(doing))
        }
    }
}
