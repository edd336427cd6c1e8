//! What a server says about itself, and what its admin login lacks.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    MariadbEngine,
    connect::{Connection, Row},
    plan::rights,
    registry,
};
use crate::{EngineError, Fault, InstanceFacts, Result};

/// Settings that matter for isolation, recovery and capacity.
const SETTINGS: &str = "'BINLOG_FORMAT', 'CHARACTER_SET_SERVER', 'COLLATION_SERVER', \
    'DEFAULT_PASSWORD_LIFETIME', 'EVENT_SCHEDULER', 'GTID_STRICT_MODE', 'INIT_CONNECT', \
    'INNODB_BUFFER_POOL_SIZE', 'INNODB_FLUSH_LOG_AT_TRX_COMMIT', 'LOCAL_INFILE', 'LOG_BIN', \
    'LOG_BIN_TRUST_FUNCTION_CREATORS', 'LOWER_CASE_TABLE_NAMES', 'MAX_CONNECTIONS', \
    'MAX_STATEMENT_TIME', 'READ_ONLY', 'REQUIRE_SECURE_TRANSPORT', 'SECURE_FILE_PRIV', 'SERVER_ID', \
    'SKIP_NAME_RESOLVE', 'SQL_MODE', 'STRICT_PASSWORD_VALIDATION', 'SYNC_BINLOG', 'TIME_ZONE', \
    'TX_ISOLATION', 'WAIT_TIMEOUT'";

/// The oldest supported version: the oldest that its makers support.
const OLDEST: (u32, u32) = (10, 11);

pub(super) async fn inspect(engine: &MariadbEngine) -> Result<InstanceFacts> {
    let doing = "inspect the server";
    let mut admin = engine.pool.lease().await?;
    let identity = match registry::home(&mut admin).await {
        Ok(home) => Some(home.identity.clone()),
        // Without a right on it, nobody can tell whether there is one.
        Err(error) if matches!(error.fault, Fault::Missing { .. } | Fault::Denied { .. }) => {
            let variables = admin.read_rows(registry::VARIABLES, doing).await?;
            registry::identity(&variables, None)
        }
        Err(error) => return Err(error),
    };
    let sets = admin.read(&query(), doing).await?;
    let missing_rights = missing_rights(&mut admin).await?;
    let size_bytes = size(&mut admin).await;
    let version = admin.version.clone();
    admin.keep();
    if (version.major, version.minor) < OLDEST {
        let what = format!(
            "administer MariaDB {}: {}.{} and later are supported",
            version.text, OLDEST.0, OLDEST.1
        );
        return Err(EngineError::new(Fault::Unsupported { what }, doing));
    }
    let number = |at: usize| -> u64 {
        let first = sets
            .get(at)
            .and_then(|rows| rows.first()?.first()?.as_deref());
        first.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let settings = sets.get(3).map(|rows| pairs(rows)).unwrap_or_default();
    if settings.get("wsrep_on").is_some_and(|on| on == "ON") {
        let what =
            "administer a Galera cluster: what keeps an outdated worker from acting is a named \
            lock, and each node has its own"
                .to_owned();
        return Err(EngineError::new(Fault::Unsupported { what }, doing));
    }
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(InstanceFacts {
        version: version.text,
        version_major: version.major,
        identity,
        databases: small(number(0)),
        size_bytes,
        connections: small(number(1)),
        connections_max: Some(small(number(2))),
        read_only: settings
            .get("read_only")
            .is_some_and(|value| value != "OFF" && value != "0"),
        missing_rights,
        settings,
        extensions_available: Vec::new(),
    })
}

fn query() -> String {
    format!(
        "SELECT COUNT(*) FROM information_schema.SCHEMATA \
         WHERE SCHEMA_NAME NOT IN ('information_schema', 'performance_schema', 'mysql', 'sys'); \
         SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE COMMAND <> 'Daemon'; \
         SELECT @@max_connections; \
         SELECT LOWER(VARIABLE_NAME), VARIABLE_VALUE FROM information_schema.GLOBAL_VARIABLES \
         WHERE VARIABLE_NAME IN ({SETTINGS}, 'WSREP_ON')"
    )
}

fn pairs(rows: &[Row]) -> BTreeMap<String, String> {
    let pairs = rows.iter().filter_map(|row| match row.as_slice() {
        [Some(name), Some(value)] => Some((name.clone(), value.clone())),
        _ => None,
    });
    pairs.collect()
}

/// Of all files of InnoDB tables; 0 where the admin may not ask, which [`missing_rights`] says.
async fn size(admin: &mut Connection) -> u64 {
    let query = "SELECT CAST(COALESCE(SUM(FILE_SIZE), 0) AS UNSIGNED) \
        FROM information_schema.INNODB_SYS_TABLESPACES";
    let asked = admin.read_rows(query, "measure the databases").await;
    let rows = asked.unwrap_or_default();
    let first = rows.first().and_then(|row| row.first()?.as_deref());
    first.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// By the rights on everything that the admin's account has, whatever managed service made it.
async fn missing_rights(admin: &mut Connection) -> Result<Vec<String>> {
    let query = "SELECT PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.USER_PRIVILEGES \
        WHERE GRANTEE = CONCAT(QUOTE(SUBSTRING_INDEX(CURRENT_USER(), '@', 1)), '@', \
        QUOTE(SUBSTRING_INDEX(CURRENT_USER(), '@', -1))); \
        SELECT CURRENT_USER(); \
        SELECT COUNT(*) FROM information_schema.PLUGINS \
        WHERE PLUGIN_TYPE = 'PASSWORD VALIDATION' AND PLUGIN_STATUS = 'ACTIVE' \
        AND @@strict_password_validation";
    let sets = admin.read(query, "read the admin's rights").await?;
    let rows = sets.first().map(Vec::as_slice).unwrap_or_default();
    let name = sets
        .get(1)
        .and_then(|rows| rows.first()?.first()?.clone())
        .unwrap_or_default();
    let has: BTreeSet<&str> = rows
        .iter()
        .filter_map(|row| row.first()?.as_deref())
        .collect();
    let grantable = rows
        .iter()
        .any(|row| row.get(1).and_then(Option::as_deref) == Some("YES"));
    let all = has.contains("SUPER");
    let mut missing = Vec::new();
    let wanted = rights::all();
    let lacking: Vec<&str> = wanted
        .iter()
        .map(String::as_str)
        .filter(|right| !has.contains(*right))
        .collect();
    if !lacking.is_empty() {
        missing.push(format!(
            "to give logins their rights: GRANT {} ON *.* TO {name} WITH GRANT OPTION",
            lacking.join(", ")
        ));
    } else if !grantable {
        missing.push(format!(
            "to pass on its rights: GRANT USAGE ON *.* TO {name} WITH GRANT OPTION"
        ));
    }
    if !has.contains("CREATE USER") {
        missing.push(format!(
            "to make logins: GRANT CREATE USER ON *.* TO {name}"
        ));
    }
    if !has.contains("PROCESS") {
        missing.push(format!(
            "to see sessions and sizes: GRANT PROCESS ON *.* TO {name}"
        ));
    }
    if !all && !has.contains("CONNECTION ADMIN") {
        missing.push(format!(
            "to end the sessions of a login that is disabled: GRANT CONNECTION ADMIN ON *.* TO {name}"
        ));
    }
    let validates = sets
        .get(2)
        .and_then(|rows| rows.first()?.first()?.as_deref())
        .is_some_and(|count| count != "0");
    if validates {
        missing.push(
            "to set passwords by their hashes: SET GLOBAL strict_password_validation = OFF".into(),
        );
    }
    Ok(missing)
}
