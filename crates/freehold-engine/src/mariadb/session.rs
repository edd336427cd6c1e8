//! One pinned connection of one login, for migration scripts.
//!
//! A statement travels by the text protocol, as the `mariadb` client sends it. The session is the
//! login's own: nothing is set that a program connecting as it would not have, `sql_mode` included,
//! and no statement has a time limit but the script's.
//!
//! [`reset`](ScriptSession::reset) does not reset the connection, because that would give back the
//! named lock which the runner of a migration holds on it. It rolls back, gives back table locks, sets
//! every variable of the session to what it was after the login, forgets user variables, and goes
//! back to the database. Temporary tables and prepared statements stay: the server has no list of
//! them.

use std::{collections::BTreeMap, sync::Arc};

use mysql_async::{Conn, prelude::Queryable};
use tokio::time::timeout;

use super::{
    connect::{self, Packets},
    errors,
    quote::{Identifier, Literal},
};
use crate::{
    ConnectTarget, CopySource, EngineError, Executed, Fault, Result, ScriptSession,
    SessionCanceller,
};

/// A script that warns per row must not fill our memory.
const NOTICES_MAX: usize = 1000;

/// A session for scripts on MariaDB.
pub struct MariadbSession {
    conn: Conn,
    target: ConnectTarget,
    notices: Vec<String>,
    /// The session's variables after the login.
    variables: BTreeMap<String, String>,
}

impl MariadbSession {
    /// Logs in.
    pub async fn connect(target: &ConnectTarget) -> Result<Self> {
        let mut session = Self {
            conn: connect::open(target, Packets::AsServer).await?,
            target: target.clone(),
            notices: Vec::new(),
            variables: BTreeMap::new(),
        };
        session.variables = session.read_variables().await?;
        Ok(session)
    }

    /// Those that a session can set.
    async fn read_variables(&mut self) -> Result<BTreeMap<String, String>> {
        let query = "SELECT VARIABLE_NAME, SESSION_VALUE FROM information_schema.SYSTEM_VARIABLES \
            WHERE VARIABLE_SCOPE IN ('SESSION', 'SESSION ONLY') AND READ_ONLY = 'NO' \
            AND SESSION_VALUE IS NOT NULL";
        let sets = self.rows(query).await?;
        let pairs = sets.into_iter().flatten().filter_map(|row| {
            let mut values = row.into_iter().flatten();
            Some((values.next()?, values.next()?))
        });
        Ok(pairs.collect())
    }

    async fn rows(&mut self, sql: &str) -> Result<Vec<Vec<connect::Row>>> {
        let answer = connect::rows(&mut self.conn, sql).await;
        answer.map_err(|error| errors::scripting(error, "run a statement"))
    }

    /// The server keeps the warnings of the last statement alone.
    async fn collect_warnings(&mut self) {
        let room = NOTICES_MAX.saturating_sub(self.notices.len());
        if room == 0 || self.conn.get_warnings() == 0 {
            return;
        }
        let Ok(sets) = connect::rows(&mut self.conn, &format!("SHOW WARNINGS LIMIT {room}")).await
        else {
            return;
        };
        for row in sets.into_iter().flatten() {
            if let [Some(level), Some(code), Some(message)] = row.as_slice() {
                self.notices.push(format!("{level} {code}: {message}"));
            }
        }
    }
}

impl ScriptSession for MariadbSession {
    fn canceller(&self) -> SessionCanceller {
        let (target, id) = (self.target.clone(), self.conn.id());
        SessionCanceller(Arc::new(move || {
            let target = target.clone();
            Box::pin(async move {
                let doing = "cancel the running statement";
                // An account may always end what it has started itself.
                let mut conn = connect::open(&target, Packets::Small).await?;
                let killing = conn.query_drop(format!("KILL QUERY {id}"));
                match timeout(target.connect_timeout, killing).await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(error)) => Err(errors::reading(error, doing)),
                    Err(_) => Err(connect::unreachable_after(target.connect_timeout, doing)),
                }
            })
        }))
    }

    async fn execute(&mut self, statement: &str) -> Result<Executed> {
        let mut rows = 0;
        let doing = "run a statement";
        let failed = |error| errors::scripting(error, doing);
        let mut result = self.conn.query_iter(statement).await.map_err(failed)?;
        while let Some(columns) = result.columns() {
            if columns.is_empty() {
                rows += result.affected_rows();
            }
            let returned: Vec<mysql_async::Row> = result.collect().await.map_err(failed)?;
            rows += returned.len() as u64;
        }
        // The error of a later statement waits to be taken.
        result.drop_result().await.map_err(failed)?;
        self.collect_warnings().await;
        Ok(Executed { rows })
    }

    async fn copy_in(&mut self, _: &str, _: CopySource<'_>) -> Result<Executed> {
        let what = "copy data in from a script; write INSERT statements".to_owned();
        Err(EngineError::new(
            Fault::Unsupported { what },
            "copy data in",
        ))
    }

    async fn query(
        &mut self,
        statement: &str,
        parameters: &[Option<&str>],
    ) -> Result<Vec<Vec<Option<String>>>> {
        if parameters.is_empty() {
            let mut sets = self.rows(statement).await?;
            return Ok(if sets.is_empty() {
                Vec::new()
            } else {
                sets.swap_remove(0)
            });
        }
        // By the server's own preparation, so that a question mark in a text is none of ours.
        let values: Vec<String> = parameters
            .iter()
            .map(|parameter| match parameter {
                Some(text) => Literal(text).to_string(),
                None => "NULL".into(),
            })
            .collect();
        let using = values.join(", ");
        let execute = format!("EXECUTE IMMEDIATE {} USING {using}", Literal(statement));
        let mut sets = self.rows(&execute).await?;
        Ok(if sets.is_empty() {
            Vec::new()
        } else {
            sets.swap_remove(0)
        })
    }

    async fn in_transaction(&mut self) -> Result<bool> {
        let sets = self.rows("SELECT @@in_transaction").await?;
        let word = sets.into_iter().flatten().flatten().flatten().next();
        Ok(word.as_deref() == Some("1"))
    }

    fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    async fn reset(&mut self) -> Result<()> {
        self.rows("ROLLBACK; UNLOCK TABLES; SET @@SESSION.sql_mode = ''")
            .await?;
        let now = self.read_variables().await?;
        let mut statements = Vec::new();
        for (name, value) in &self.variables {
            if now.get(name) != Some(value) && !OF_THE_MOMENT.contains(&name.as_str()) {
                statements.push(set(name, value));
            }
        }
        let known = "SELECT VARIABLE_NAME FROM information_schema.USER_VARIABLES";
        for name in self.rows(known).await?.into_iter().flatten().flatten() {
            let name = name.unwrap_or_default();
            let name = Identifier::from_catalog(&name);
            statements.push(format!("SET @{name} = NULL"));
        }
        if !self.target.database.is_empty() {
            let database = Identifier::new(&self.target.database)?;
            statements.push(format!("USE {database}"));
        }
        for statement in statements {
            self.rows(&statement).await?;
        }
        Ok(())
    }
}

/// Variables that are set for the next statement only, or tell what the last one did.
const OF_THE_MOMENT: [&str; 6] = [
    "TIMESTAMP",
    "INSERT_ID",
    "LAST_INSERT_ID",
    "IDENTITY",
    "RAND_SEED1",
    "RAND_SEED2",
];

/// The name is the server's own word. A number must not be written as a text.
fn set(name: &str, value: &str) -> String {
    let name = Identifier::from_catalog(name);
    let number = value.parse::<f64>().is_ok_and(f64::is_finite);
    if number
        && value
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        format!("SET @@SESSION.{name} = {value}")
    } else {
        format!("SET @@SESSION.{name} = {}", Literal(value))
    }
}
