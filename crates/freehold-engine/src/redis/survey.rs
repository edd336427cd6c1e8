//! Everything at once, for a round over all databases: one list of the accounts, one of the connections,
//! the registry's rows, and an estimate of what the keys of each database take.
//!
//! **Sizes are an estimate at a bounded cost.** Redis keeps no account of memory by prefix. `SCAN` goes
//! through keys in the order of their hashes, which is as good as random, so a part of them stands for
//! all: keys are counted by prefix, some of each are measured (`MEMORY USAGE`), and the whole is
//! calculated from the part. Up to [`KEYS_MAX`] keys the count is exact. A database with few large keys
//! among very many of others may be missed by a wide margin.

use std::{collections::BTreeMap, sync::Arc};

use redis::{Cmd, Value};

use super::{
    RedisEngine,
    connect::{AccountsKept, Connection, ServerFacts, command, unreadable},
    names::DatabaseName,
    observe::{self, Observed, User},
    plan::Goal,
    registry::{self, Claim, Found, Home, RegistryRow, RowCopy},
    reply,
    rules::Spelling,
};
use crate::{Result, Survey, SurveyedDatabase};

/// Keys that one survey looks at, at most.
const KEYS_MAX: usize = 20_000;
/// Keys of one message.
const PAGE: usize = 1_000;
/// Keys of one database that are measured in each message.
const MEASURED_OF_A_PAGE: usize = 20;

/// What `converge` takes from a survey.
pub(super) struct Surveyed {
    home: Home,
    users: BTreeMap<String, User>,
    rows: BTreeMap<String, RegistryRow>,
    sessions: BTreeMap<String, u32>,
    now: i64,
    admin: String,
    accounts_kept: AccountsKept,
}

pub(super) async fn survey(engine: &RedisEngine) -> Result<Survey> {
    let doing = "survey the server";
    let mut admin = engine.pool.lease().await?;
    let Some(home) = registry::home(&mut admin).await? else {
        return Err(registry::missing(doing));
    };
    let users = observe::all(&mut admin).await?;
    let mut names = registry::index(&mut admin).await?;
    names.extend(users.keys().filter_map(|user| DatabaseName::of_row(user)));
    names.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    names.dedup();
    let rows = registry::rows(&mut admin, &names).await?;
    let asked = [command(&["TIME"]), command(&["CLIENT", "LIST"])];
    let replies = admin.read(&asked, doing).await?;
    let [time, clients] = replies.as_slice() else {
        return Err(unreadable(doing));
    };
    let time = reply::texts(time)
        .first()
        .and_then(|time| time.parse().ok());
    let sizes = sizes(&mut admin).await;
    let surveyed = Surveyed {
        home,
        users,
        rows,
        sessions: reply::sessions(clients),
        now: time.unwrap_or(0),
        admin: admin.server.admin.clone(),
        accounts_kept: admin.server.accounts_kept,
    };
    let identity = surveyed.home.identity(&admin.server.place);
    admin.keep();
    let connections = surveyed.connections();
    // A name without a row is about to be taken.
    let databases = names.iter().filter_map(|name| {
        let found = surveyed.found(name);
        let row = found.row()?;
        let owner = row.stamp.uid;
        Some(SurveyedDatabase {
            name: name.as_str().to_owned(),
            // A prefix belongs to nobody.
            owner: String::new(),
            size_bytes: sizes
                .as_ref()
                .map(|sizes| sizes.get(name.as_str()).copied().unwrap_or(0)),
            connections: connections.get(&owner).copied().unwrap_or(0),
            stamp: Some(row.stamp.clone()),
            same_server: row.server == identity,
        })
    });
    Ok(Survey {
        databases: databases.collect(),
        identity,
        engine: Arc::new(surveyed),
    })
}

impl Surveyed {
    fn found(&self, name: &DatabaseName) -> Found {
        Found {
            home: Some(self.home.clone()),
            row: self.rows.get(name.as_str()).cloned(),
            copy: self.users.get(&name.row()).and_then(RowCopy::of),
        }
    }

    /// Of each owner's accounts together.
    fn connections(&self) -> BTreeMap<freehold_model::Uid, u32> {
        let mut connections = BTreeMap::new();
        for (login, count) in &self.sessions {
            let owners = self.users.get(login).into_iter().flat_map(User::owners);
            for owner in owners {
                *connections.entry(owner).or_insert(0) += count;
            }
        }
        connections
    }

    /// The part that concerns one database, as a look at it alone would give.
    pub(super) fn part(
        &self,
        goal: &Goal,
        claim: &Claim,
        spelling: Spelling,
        server: &ServerFacts,
    ) -> Result<Observed> {
        let logins = goal.logins.iter().map(|login| &login.name);
        Ok(Observed {
            standing: claim.check(&self.found(&claim.name), &server.place)?,
            users: logins
                .filter_map(|login| Some((login.clone(), self.users.get(login)?.clone())))
                .collect(),
            sessions: self.sessions.clone(),
            now: self.now,
            accounts_kept: self.accounts_kept,
            spelling,
            strangers: observe::strangers_to(&claim.name, &self.admin, &self.users),
        })
    }
}

/// Bytes by prefix; nothing where the admin may not ask.
async fn sizes(admin: &mut Connection) -> Option<BTreeMap<String, u64>> {
    match measure(admin).await {
        Ok(sizes) => Some(sizes),
        Err(error) => {
            tracing::warn!(%error, "the sizes of the databases are unknown");
            None
        }
    }
}

/// What was met of one database.
#[derive(Debug, Default, Clone, Copy)]
struct Met {
    keys: u64,
    measured: u64,
    bytes: u64,
}

async fn measure(admin: &mut Connection) -> Result<BTreeMap<String, u64>> {
    let doing = "measure the databases";
    let replies = admin.read(&[command(&["DBSIZE"])], doing).await?;
    let total = replies.first().and_then(reply::text);
    let total: u64 = total.and_then(|total| total.parse().ok()).unwrap_or(0);
    let mut met: BTreeMap<String, Met> = BTreeMap::new();
    let (mut cursor, mut looked) = ("0".to_owned(), 0);
    loop {
        let asked = [command(&["SCAN", &cursor, "COUNT", &PAGE.to_string()])];
        let replies = admin.read(&asked, doing).await?;
        let Some([next, keys]) = replies.first().map(reply::list) else {
            return Err(unreadable(doing));
        };
        let keys = reply::list(keys);
        looked += keys.len();
        page(admin, keys, &mut met, doing).await?;
        cursor = reply::text(next).unwrap_or_default();
        if cursor == "0" {
            return Ok(estimate(&met, 1.0));
        }
        if looked >= KEYS_MAX {
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let share = total.max(1) as f64 / looked as f64;
            return Ok(estimate(&met, share.max(1.0)));
        }
    }
}

/// Counts a page's keys and measures some of each database.
async fn page(
    admin: &mut Connection,
    keys: &[Value],
    met: &mut BTreeMap<String, Met>,
    doing: &str,
) -> Result<()> {
    let mut measuring: BTreeMap<String, usize> = BTreeMap::new();
    let mut asked: Vec<(String, Cmd)> = Vec::new();
    for key in keys {
        let Value::BulkString(bytes) = key else {
            continue;
        };
        let name = bytes.split(|byte| *byte == b':').next().unwrap_or_default();
        let Ok(name) = std::str::from_utf8(name) else {
            continue;
        };
        met.entry(name.to_owned()).or_default().keys += 1;
        let measured = measuring.entry(name.to_owned()).or_default();
        if *measured < MEASURED_OF_A_PAGE && name != registry::RESERVED {
            *measured += 1;
            let mut usage = command(&["MEMORY", "USAGE"]);
            usage.arg(bytes.as_slice());
            asked.push((name.to_owned(), usage));
        }
    }
    let commands: Vec<Cmd> = asked.iter().map(|(_, command)| command.clone()).collect();
    if commands.is_empty() {
        return Ok(());
    }
    let replies = admin.read(&commands, doing).await?;
    for ((name, _), reply) in asked.iter().zip(&replies) {
        // A key that has gone since says nothing.
        if let (Value::Int(bytes), Some(met)) = (reply, met.get_mut(name)) {
            met.measured += 1;
            met.bytes += u64::try_from(*bytes).unwrap_or(0);
        }
    }
    Ok(())
}

/// `share`: how many keys there are for each that was looked at.
fn estimate(met: &BTreeMap<String, Met>, share: f64) -> BTreeMap<String, u64> {
    let sizes = met.iter().filter(|(_, met)| met.measured > 0);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate"
    )]
    sizes
        .map(|(name, met)| {
            let mean = met.bytes as f64 / met.measured as f64;
            (name.clone(), (mean * met.keys as f64 * share) as u64)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_stands_for_the_whole() {
        let met = BTreeMap::from([(
            "shop".to_owned(),
            Met {
                keys: 100,
                measured: 10,
                bytes: 500,
            },
        )]);
        assert_eq!(estimate(&met, 1.0)["shop"], 5_000);
        assert_eq!(estimate(&met, 4.0)["shop"], 20_000);
    }
}
