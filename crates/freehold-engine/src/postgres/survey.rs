//! Everything cluster-wide in a few queries, for a round over all databases.

use std::sync::Arc;

use super::{
    PostgresEngine,
    connect::{Connection, Version},
    observe::{self, Cluster, Scope},
    reserve,
};
use crate::{Result, Survey, SurveyedDatabase};

/// What `converge` takes from a survey.
pub(crate) struct Surveyed {
    pub(crate) version: Version,
    pub(crate) superuser: bool,
    pub(crate) cluster: Cluster,
}

pub(super) async fn survey(engine: &PostgresEngine) -> Result<Survey> {
    let permit = engine.pool.permit(1).await?;
    let admin = engine.registry(permit).await?;
    let identity = reserve::identity(&admin).await?;
    let cluster = observe::cluster(&admin, &Scope::Everything).await?;
    let sizes = sizes(&admin).await;
    let databases = cluster
        .databases
        .iter()
        .map(|(name, facts)| {
            let row = cluster.rows.get(name);
            SurveyedDatabase {
                name: name.clone(),
                owner: facts.owner.clone(),
                size_bytes: sizes.get(name).copied(),
                connections: cluster
                    .sessions
                    .iter()
                    .filter(|sessions| sessions.database == *name)
                    .map(|sessions| sessions.count)
                    .sum(),
                stamp: row.map(|row| row.stamp.clone()),
                same_server: row.is_none_or(|row| row.server == identity),
            }
        })
        .collect();
    let surveyed = Surveyed {
        version: admin.version.clone(),
        superuser: admin.superuser,
        cluster,
    };
    admin.keep();
    Ok(Survey {
        identity,
        databases,
        engine: Arc::new(surveyed),
    })
}

/// Sizes where the admin may ask for them. Asking reads every file's length: on a slow disk it may
/// take too long, and then there are none rather than no survey.
async fn sizes(admin: &Connection) -> std::collections::BTreeMap<String, u64> {
    let query = "SELECT datname::text, CASE WHEN has_database_privilege(oid, 'CONNECT') \
        OR pg_has_role('pg_read_all_stats', 'USAGE') THEN pg_database_size(oid) END \
        FROM pg_database WHERE datallowconn";
    match admin.read(query, &[], "measure the databases").await {
        Ok(rows) => rows
            .iter()
            .filter_map(|row| {
                let size: i64 = row.try_get::<_, Option<i64>>(1).ok()??;
                Some((row.get(0), u64::try_from(size).ok()?))
            })
            .collect(),
        Err(error) => {
            tracing::warn!(%error, "the sizes of the databases are unknown");
            std::collections::BTreeMap::new()
        }
    }
}

impl Cluster {
    /// The part that concerns one database and the given roles, as a look at it alone would give.
    pub(crate) fn of(&self, database: &str, roles: &[String]) -> Self {
        let named = |role: &String| {
            roles.contains(role)
                || self
                    .registered_roles
                    .get(role)
                    .is_some_and(|known| known.database == database)
        };
        let granted = self.databases.get(database).map(|facts| &facts.acl);
        let grantee = |role: &String| {
            granted.is_some_and(|acl| acl.iter().any(|grant| grant.to.as_ref() == Some(role)))
        };
        let mut part = self.clone();
        part.rows.retain(|name, _| name == database);
        part.registered_roles.retain(|role, known| {
            known.database == database || roles.contains(role) || grantee(role)
        });
        part.databases.retain(|name, _| name == database);
        part.roles.retain(|role, _| named(role));
        part.memberships
            .retain(|membership| named(&membership.role) || named(&membership.member));
        part.settings.retain(|setting| {
            setting.role.as_ref().is_some_and(named)
                || setting.database.as_deref() == Some(database)
        });
        part.sessions
            .retain(|sessions| sessions.database == database || named(&sessions.role));
        if let Some(verifiers) = &mut part.verifiers {
            verifiers.retain(|role, _| named(role));
        }
        part
    }
}
