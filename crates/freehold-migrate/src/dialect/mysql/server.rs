//! What the runner says to MySQL and MariaDB.

use crate::dialect::{Dialect, HISTORY_TABLE};

const MYSQL: Dialect = Dialect::Mysql;

/// Schema, user, database, version, modes. The user is the part that Flyway writes.
pub(crate) const FACTS: &str = "SELECT DATABASE(), SUBSTRING_INDEX(USER(), '@', 1), DATABASE(), \
    VERSION(), @@SESSION.sql_mode";

/// Whether servers replicate each other's writes here, so that a named lock holds on one of them only.
pub(crate) const CLUSTER: &str =
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('wsrep_on', 'pxc_strict_mode')";

/// The statement that takes the modes away in which the server would read other statements than the
/// splitter does; None when there is none.
pub(crate) fn plain_modes(modes: &str) -> Option<String> {
    let kept: Vec<&str> = modes
        .split(',')
        .filter(|mode| !super::FOREIGN_MODES.contains(mode))
        .collect();
    let kept = kept.join(",");
    (kept != modes).then(|| format!("SET SESSION sql_mode = {}", MYSQL.literal(&kept)))
}

pub(crate) fn history_exists(schema: &str) -> String {
    format!(
        "SELECT COUNT(*) > 0 FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
        MYSQL.literal(schema),
        MYSQL.literal(HISTORY_TABLE)
    )
}

/// Whether the history's rows are kept and undone together with a transaction's.
pub(crate) fn history_is_transactional(schema: &str) -> String {
    format!(
        "SELECT COUNT(*) > 0 FROM information_schema.TABLES t JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE \
         WHERE t.TABLE_SCHEMA = {} AND t.TABLE_NAME = {} AND e.TRANSACTIONS = 'YES'",
        MYSQL.literal(schema),
        MYSQL.literal(HISTORY_TABLE)
    )
}

pub(crate) fn schema_is_empty(schema: &str) -> String {
    let schema = MYSQL.literal(schema);
    format!(
        "SELECT NOT EXISTS (SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = {schema}) \
         AND NOT EXISTS (SELECT 1 FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {schema})"
    )
}

/// On some MariaDB servers the events cannot be looked at while their scheduler is off.
pub(crate) fn has_no_events(schema: &str) -> String {
    format!(
        "SELECT COUNT(*) = 0 FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {}",
        MYSQL.literal(schema)
    )
}

/// The table as Flyway makes it, in one statement. The storage engine is named, as older Flyways did,
/// because a row that does not follow its transaction would be worth nothing.
pub(crate) fn create_history(schema: &str, version: &str) -> String {
    let key = if version.contains("MariaDB") {
        "PRIMARY KEY".to_owned()
    } else {
        let name = MYSQL.identifier(&format!("{HISTORY_TABLE}_pk"));
        format!("CONSTRAINT {name} PRIMARY KEY")
    };
    format!(
        "CREATE TABLE {table} (\n\
         `installed_rank` INT NOT NULL,\n\
         `version` VARCHAR(50),\n\
         `description` VARCHAR(200) NOT NULL,\n\
         `type` VARCHAR(20) NOT NULL,\n\
         `script` VARCHAR(1000) NOT NULL,\n\
         `checksum` INT,\n\
         `installed_by` VARCHAR(100) NOT NULL,\n\
         `installed_on` TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,\n\
         `execution_time` INT NOT NULL,\n\
         `success` BOOL NOT NULL,\n\
         {key} (`installed_rank`),\n\
         KEY {index} (`success`)\n\
         ) ENGINE=InnoDB",
        table = MYSQL.history_table(schema),
        index = MYSQL.identifier(&format!("{HISTORY_TABLE}_s_idx")),
    )
}

pub(crate) fn try_lock(name: &str) -> String {
    format!("SELECT GET_LOCK({}, 0)", MYSQL.literal(name))
}

pub(crate) fn unlock(name: &str) -> String {
    format!("SELECT RELEASE_LOCK({})", MYSQL.literal(name))
}

pub(crate) fn is_locked_by_us(name: &str) -> String {
    format!(
        "SELECT COALESCE(IS_USED_LOCK({}) = CONNECTION_ID(), 0)",
        MYSQL.literal(name)
    )
}

/// Connection, nothing, and login of the session that holds the lock.
pub(crate) fn lock_holders(name: &str) -> String {
    let name = MYSQL.literal(name);
    format!(
        "SELECT h.id, '', COALESCE(p.USER, '') FROM (SELECT IS_USED_LOCK({name}) AS id) h \
         LEFT JOIN information_schema.PROCESSLIST p ON p.ID = h.id WHERE h.id IS NOT NULL"
    )
}
