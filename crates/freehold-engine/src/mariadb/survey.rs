//! Everything server-wide in one message of one query per catalog, for a round over all databases.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    MariadbEngine,
    connect::Connection,
    observe::{self, Cluster, DatabaseGrant, Scope},
    quote, registry,
};
use crate::{Result, Survey, SurveyedDatabase};

/// What `converge` takes from a survey: the catalogs, and where in them each user and each database
/// is.
pub(super) struct Surveyed {
    cluster: Cluster,
    registered_of: BTreeMap<String, Vec<String>>,
    grants_to: BTreeMap<String, Vec<usize>>,
    /// Grants on exactly one database.
    grants_on: BTreeMap<String, Vec<usize>>,
    /// Grants whose pattern has wildcards.
    wild: Vec<usize>,
}

pub(super) async fn survey(engine: &MariadbEngine) -> Result<Survey> {
    let mut admin = engine.pool.lease().await?;
    let identity = registry::home(&mut admin).await?.identity.clone();
    let cluster = observe::cluster(&mut admin, &Scope::Everything).await?;
    let sizes = sizes(&mut admin).await;
    let connections = connections(&mut admin).await?;
    admin.keep();
    let databases = cluster
        .databases
        .keys()
        .map(|name| {
            let row = cluster.rows.get(name);
            SurveyedDatabase {
                name: name.clone(),
                // A database of MariaDB belongs to nobody; its migrator defines what is in it.
                owner: migrator_of(&cluster, name).unwrap_or_default(),
                size_bytes: sizes.get(name).copied(),
                connections: connections.get(name).copied().unwrap_or(0),
                stamp: row.map(|row| row.stamp.clone()),
                same_server: row.is_none_or(|row| row.server == identity),
            }
        })
        .collect();
    Ok(Survey {
        identity,
        databases,
        engine: Arc::new(Surveyed::new(cluster)),
    })
}

fn migrator_of(cluster: &Cluster, database: &str) -> Option<String> {
    let logins = cluster.registered.iter();
    let mut of = logins.filter(|(_, known)| known.database == database && known.migrator);
    of.next().map(|(login, _)| login.clone())
}

/// Sizes of the files of each database, where the admin may ask (`PROCESS`). Only InnoDB tells them
/// without opening every table.
async fn sizes(admin: &mut Connection) -> BTreeMap<String, u64> {
    let query = "SELECT CONVERT(CONVERT(BINARY d USING filename) USING utf8mb4), SUM(bytes) FROM ( \
        SELECT SUBSTRING_INDEX(NAME, '/', 1) AS d, FILE_SIZE AS bytes \
        FROM information_schema.INNODB_SYS_TABLESPACES WHERE NAME LIKE '%/%') t GROUP BY d";
    match admin.read_rows(query, "measure the databases").await {
        Ok(rows) => pairs(rows),
        Err(error) => {
            tracing::warn!(%error, "the sizes of the databases are unknown");
            BTreeMap::new()
        }
    }
}

async fn connections(admin: &mut Connection) -> Result<BTreeMap<String, u32>> {
    let query = "SELECT DB, COUNT(*) FROM information_schema.PROCESSLIST \
        WHERE DB IS NOT NULL AND COMMAND <> 'Daemon' GROUP BY DB";
    Ok(pairs(
        admin.read_rows(query, "count the connections").await?,
    ))
}

fn pairs<N: std::str::FromStr>(rows: Vec<super::connect::Row>) -> BTreeMap<String, N> {
    let pairs = rows.into_iter().filter_map(|row| {
        let mut values = row.into_iter().flatten();
        Some((values.next()?, values.next()?.parse().ok()?))
    });
    pairs.collect()
}

impl Surveyed {
    fn new(cluster: Cluster) -> Self {
        let mut surveyed = Self {
            registered_of: BTreeMap::new(),
            grants_to: BTreeMap::new(),
            grants_on: BTreeMap::new(),
            wild: Vec::new(),
            cluster,
        };
        for (login, known) in &surveyed.cluster.registered {
            let of = surveyed.registered_of.entry(known.database.clone());
            of.or_default().push(login.clone());
        }
        for (at, grant) in surveyed.cluster.database_grants.iter().enumerate() {
            let to = surveyed.grants_to.entry(grant.to.user.clone());
            to.or_default().push(at);
            match quote::exact(&grant.pattern) {
                Some(name) => surveyed.grants_on.entry(name).or_default().push(at),
                None => surveyed.wild.push(at),
            }
        }
        surveyed
    }

    /// The part that concerns one database and the given logins, as a look at it alone would give.
    pub(super) fn part(&self, database: &str, logins: &[String]) -> Cluster {
        let all = &self.cluster;
        let registered = self.registered_of.get(database).into_iter().flatten();
        let mut users: Vec<&String> = registered.chain(logins).collect();
        users.sort_unstable();
        users.dedup();
        let of_us = |user: &String| users.binary_search(&user).is_ok();
        let mut places: Vec<usize> = users
            .iter()
            .filter_map(|user| self.grants_to.get(*user))
            .chain(self.grants_on.get(database))
            .flatten()
            .copied()
            .collect();
        let wild = self.wild.iter().copied();
        places.extend(wild.filter(|at| {
            let grant = all.database_grants.get(*at);
            grant.is_some_and(|grant| quote::matches(&grant.pattern, database))
        }));
        places.sort_unstable();
        places.dedup();
        let grants: Vec<DatabaseGrant> = places
            .into_iter()
            .filter_map(|at| all.database_grants.get(at).cloned())
            .collect();
        let entry = |name: &String| Some((name.clone(), all.registered.get(name)?.clone()));
        Cluster {
            admin: all.admin.clone(),
            now: all.now,
            rows: one(&all.rows, database),
            registered: users.iter().filter_map(|user| entry(user)).collect(),
            databases: one(&all.databases, database),
            accounts: users
                .iter()
                .filter_map(|user| Some(((*user).clone(), all.accounts.get(*user)?.clone())))
                .collect(),
            database_grants: grants,
            table_grants: keep(&all.table_grants, |grant| {
                grant.database == database || of_us(&grant.to.user)
            }),
            column_grants: keep(&all.column_grants, |grant| {
                grant.database == database || of_us(&grant.to.user)
            }),
            routine_grants: keep(&all.routine_grants, |grant| {
                grant.database == database || of_us(&grant.to.user)
            }),
            roles: keep(&all.roles, |grant| {
                of_us(&grant.to.user) || of_us(&grant.role)
            }),
            proxies: keep(&all.proxies, |grant| {
                of_us(&grant.account.user) || of_us(&grant.proxied.user)
            }),
            sessions: users
                .iter()
                .filter_map(|user| Some(((*user).clone(), *all.sessions.get(*user)?)))
                .collect(),
        }
    }
}

fn one<V: Clone>(all: &BTreeMap<String, V>, name: &str) -> BTreeMap<String, V> {
    let found = all.get_key_value(name);
    found
        .map(|(name, value)| (name.clone(), value.clone()))
        .into_iter()
        .collect()
}

fn keep<T: Clone>(all: &[T], which: impl Fn(&T) -> bool) -> Vec<T> {
    all.iter().filter(|item| which(item)).cloned().collect()
}
