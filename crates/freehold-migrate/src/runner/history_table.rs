//! Flyway's history table in the server: made, read, written.

use freehold_engine::ScriptSession;

use super::failure::RunFailure;
use crate::{
    Dialect, HISTORY_TABLE, HistoryRow, Refusal, RefusalCode, RowKind, Script, ScriptKind,
    dialect::{mysql_server, postgresql_server, sqlite_server},
    name::stored_script,
};

/// The history table of one schema.
#[derive(Debug, Clone)]
pub(super) struct HistoryTable {
    dialect: Dialect,
    schema: String,
}

/// What goes into a row.
pub(super) struct NewRow<'a> {
    pub(super) rank: i32,
    pub(super) installed_by: &'a str,
    pub(super) success: bool,
    /// SQL that gives milliseconds as an integer.
    pub(super) execution_time: &'a str,
}

impl HistoryTable {
    pub(super) fn of(dialect: Dialect, schema: &str) -> Self {
        Self {
            dialect,
            schema: schema.to_owned(),
        }
    }

    pub(super) fn qualified(&self) -> String {
        self.dialect.history_table(&self.schema)
    }

    fn column(&self, name: &str) -> String {
        self.dialect.identifier(name)
    }

    /// All rows, or None when there is no table.
    pub(super) async fn read<S: ScriptSession>(
        &self,
        session: &mut S,
    ) -> Result<Option<Vec<HistoryRow>>, RunFailure> {
        if !self.exists(session).await? {
            return Ok(None);
        }
        let columns = [
            "installed_rank",
            "version",
            "description",
            "type",
            "script",
            "checksum",
            "installed_by",
            "installed_on",
            "execution_time",
            "success",
        ]
        .map(|name| self.dialect.as_text(name));
        let sql = format!(
            "SELECT {} FROM {} ORDER BY installed_rank",
            columns.join(", "),
            self.qualified()
        );
        let rows = session
            .query(&sql, &[])
            .await
            .map_err(|error| RunFailure::server("read the migration history", &error))?;
        rows.into_iter()
            .map(parse_row)
            .collect::<Result<Vec<_>, _>>()
            .map(Some)
            .map_err(|refusal| RunFailure::Refused {
                refusals: vec![*refusal],
            })
    }

    async fn exists<S: ScriptSession>(&self, session: &mut S) -> Result<bool, RunFailure> {
        let exists = match self.dialect {
            Dialect::Postgresql => postgresql_server::history_exists(&self.schema),
            Dialect::Mysql => mysql_server::history_exists(&self.schema),
            Dialect::Sqlite => sqlite_server::history_exists(),
        };
        if !ask(session, &exists).await? {
            return Ok(false);
        }
        if self.dialect == Dialect::Mysql
            && !ask(
                session,
                &mysql_server::history_is_transactional(&self.schema),
            )
            .await?
        {
            return Err(RunFailure::Refused {
                refusals: vec![Refusal::new(
                    RefusalCode::InvalidHistory,
                    format!(
                        "the table {HISTORY_TABLE} has a storage engine without transactions, so its rows would not follow the scripts"
                    ),
                    format!(
                        "Run ALTER TABLE {} ENGINE=InnoDB once; Flyway reads it as before.",
                        self.qualified()
                    ),
                )],
            });
        }
        Ok(true)
    }

    /// Whether the schema holds nothing that somebody made.
    pub(super) async fn schema_is_empty<S: ScriptSession>(
        &self,
        session: &mut S,
    ) -> Result<bool, RunFailure> {
        match self.dialect {
            Dialect::Postgresql => {
                ask(session, &postgresql_server::schema_is_empty(&self.schema)).await
            }
            Dialect::Sqlite => ask(session, sqlite_server::schema_is_empty()).await,
            Dialect::Mysql => {
                if !ask(session, &mysql_server::schema_is_empty(&self.schema)).await? {
                    return Ok(false);
                }
                let events = mysql_server::has_no_events(&self.schema);
                Ok(ask(session, &events).await.unwrap_or(true))
            }
        }
    }

    /// Whether no row has this rank or a higher one.
    pub(super) async fn is_next<S: ScriptSession>(
        &self,
        session: &mut S,
        rank: i32,
    ) -> Result<bool, RunFailure> {
        let sql = format!(
            "SELECT COUNT(*) = 0 FROM {} WHERE installed_rank >= {rank}",
            self.qualified()
        );
        ask(session, &sql).await
    }

    /// The statements that make the table as Flyway does. `version` is the server's.
    pub(super) fn creation(&self, version: &str) -> String {
        match self.dialect {
            Dialect::Postgresql => postgresql_server::create_history(&self.schema),
            Dialect::Mysql => mysql_server::create_history(&self.schema, version),
            Dialect::Sqlite => sqlite_server::create_history(),
        }
    }

    /// The statement that records a script.
    pub(super) fn insert(&self, script: &Script<'_>, row: &NewRow<'_>) -> String {
        let literal = |text: &str| self.dialect.literal(text);
        let version = script
            .name
            .version()
            .map_or_else(|| "NULL".to_owned(), |version| literal(version.as_str()));
        let columns = [
            "installed_rank",
            "version",
            "description",
            "type",
            "script",
            "checksum",
            "installed_by",
            "execution_time",
            "success",
        ]
        .map(|name| self.column(name));
        format!(
            "INSERT INTO {} ({}) VALUES ({}, {version}, {}, {}, {}, {}, {}, {}, {})",
            self.qualified(),
            columns.join(", "),
            row.rank,
            literal(&script.name.stored_description()),
            literal(kind_of(script).as_str()),
            literal(&stored_script(script.path)),
            script.checksum,
            literal(&row.installed_by.chars().take(100).collect::<String>()),
            row.execution_time,
            self.dialect.boolean(row.success),
        )
    }

    /// The statement that records that a schema was found at a version.
    pub(super) fn insert_baseline(
        &self,
        rank: i32,
        version: &str,
        description: &str,
        installed_by: &str,
    ) -> String {
        let literal = |text: &str| self.dialect.literal(text);
        let description: String = description.chars().take(200).collect();
        let columns = [
            "installed_rank",
            "version",
            "description",
            "type",
            "script",
            "checksum",
            "installed_by",
            "execution_time",
            "success",
        ]
        .map(|name| self.column(name));
        format!(
            "INSERT INTO {} ({}) VALUES ({rank}, {}, {}, {}, {}, NULL, {}, 0, {})",
            self.qualified(),
            columns.join(", "),
            literal(version),
            literal(&description),
            literal(RowKind::Baseline.as_str()),
            literal(&description),
            literal(&installed_by.chars().take(100).collect::<String>()),
            self.dialect.boolean(true),
        )
    }

    /// The statement that says how a claimed script has ended.
    pub(super) fn settle(&self, rank: i32, success: bool, execution_time: &str) -> String {
        format!(
            "UPDATE {} SET {} = {}, {} = {execution_time} WHERE {} = {rank}",
            self.qualified(),
            self.column("success"),
            self.dialect.boolean(success),
            self.column("execution_time"),
            self.column("installed_rank"),
        )
    }
}

fn kind_of(script: &Script<'_>) -> RowKind {
    match script.name.kind {
        ScriptKind::Baseline(_) => RowKind::SqlBaseline,
        ScriptKind::Versioned(_) | ScriptKind::Repeatable => RowKind::Sql,
    }
}

async fn ask<S: ScriptSession>(session: &mut S, sql: &str) -> Result<bool, RunFailure> {
    let rows = session
        .query(sql, &[])
        .await
        .map_err(|error| RunFailure::server("look at the schema", &error))?;
    Ok(is_true(&rows))
}

/// The first field of the first row, as each product writes a yes.
pub(super) fn is_true(rows: &[Vec<Option<String>>]) -> bool {
    rows.first()
        .and_then(|row| row.first())
        .and_then(Option::as_deref)
        .is_some_and(|text| matches!(text, "true" | "t" | "1"))
}

fn parse_row(row: Vec<Option<String>>) -> Result<HistoryRow, Box<Refusal>> {
    let invalid = |what: &str| {
        Box::new(Refusal::new(
            RefusalCode::InvalidHistory,
            format!("the migration history holds {what}"),
            "Flyway did not write that. Compare the table with a backup.",
        ))
    };
    let fields: [Option<String>; 10] = row.try_into().map_err(|_| invalid("too few columns"))?;
    let [
        rank,
        version,
        description,
        kind,
        script,
        checksum,
        by,
        on,
        time,
        success,
    ] = fields;
    let number = |text: Option<String>| text.and_then(|text| text.parse::<i32>().ok());
    Ok(HistoryRow {
        installed_rank: number(rank).ok_or_else(|| invalid("a row without a rank"))?,
        version: version
            .map(|text| text.parse())
            .transpose()
            .map_err(|error| invalid(&format!("a version that is none: {error}")))?,
        description: description.unwrap_or_default(),
        kind: RowKind::from(kind.unwrap_or_default()),
        script: script.unwrap_or_default(),
        checksum: number(checksum),
        installed_by: by.unwrap_or_default(),
        installed_on: on.unwrap_or_default(),
        execution_time_ms: number(time).unwrap_or_default(),
        success: matches!(success.as_deref(), Some("true" | "t" | "1")),
    })
}
