//! Flyway's history table in the server: made, read, written.

use freehold_engine::ScriptSession;

use super::failure::RunFailure;
use crate::{
    HistoryRow, Refusal, RefusalCode, RowKind, Script,
    name::stored_script,
    quote::{Identifier, Literal},
};

pub const HISTORY_TABLE: &str = "flyway_schema_history";

/// The history table of one schema.
#[derive(Debug, Clone)]
pub(super) struct HistoryTable {
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
    pub(super) fn of(schema: &str) -> Self {
        Self {
            schema: schema.to_owned(),
        }
    }

    fn qualified(&self) -> String {
        format!("{}.{}", Identifier(&self.schema), Identifier(HISTORY_TABLE))
    }

    /// All rows, or None when there is no table.
    pub(super) async fn read<S: ScriptSession>(
        &self,
        session: &mut S,
    ) -> Result<Option<Vec<HistoryRow>>, RunFailure> {
        let exists = format!(
            "SELECT (pg_catalog.to_regclass({}) IS NOT NULL)::text",
            Literal(&self.qualified())
        );
        if !self.ask(session, &exists).await? {
            return Ok(None);
        }
        let sql = format!(
            "SELECT installed_rank::text, version::text, description::text, type::text, \
             script::text, checksum::text, installed_by::text, installed_on::text, \
             execution_time::text, success::text FROM {} ORDER BY installed_rank",
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

    /// Whether the schema holds anything that an extension did not put there.
    pub(super) async fn schema_is_empty<S: ScriptSession>(
        &self,
        session: &mut S,
    ) -> Result<bool, RunFailure> {
        let schema = Literal(&self.schema);
        let own = "NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = o.oid AND d.deptype = 'e')";
        let sql = format!(
            "SELECT (NOT EXISTS ( \
             SELECT FROM pg_catalog.pg_class o JOIN pg_catalog.pg_namespace n ON n.oid = o.relnamespace \
             WHERE n.nspname = {schema} AND o.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND {own} \
             UNION ALL \
             SELECT FROM pg_catalog.pg_type o JOIN pg_catalog.pg_namespace n ON n.oid = o.typnamespace \
             WHERE n.nspname = {schema} AND o.typcategory NOT IN ('A', 'C') AND {own} \
             UNION ALL \
             SELECT FROM pg_catalog.pg_proc o JOIN pg_catalog.pg_namespace n ON n.oid = o.pronamespace \
             WHERE n.nspname = {schema} AND {own}))::text"
        );
        self.ask(session, &sql).await
    }

    async fn ask<S: ScriptSession>(&self, session: &mut S, sql: &str) -> Result<bool, RunFailure> {
        let rows = session
            .query(sql, &[])
            .await
            .map_err(|error| RunFailure::server("look at the schema", &error))?;
        let answer = rows.first().and_then(|row| row.first()).cloned().flatten();
        Ok(matches!(answer.as_deref(), Some("true" | "t")))
    }

    /// Makes the table exactly as Flyway does, names of key and index included.
    pub(super) async fn create<S: ScriptSession>(
        &self,
        session: &mut S,
    ) -> Result<String, RunFailure> {
        let table = self.qualified();
        let sql = format!(
            "BEGIN;\n\
             CREATE TABLE {table} (\n\
             \"installed_rank\" INT NOT NULL,\n\
             \"version\" VARCHAR(50),\n\
             \"description\" VARCHAR(200) NOT NULL,\n\
             \"type\" VARCHAR(20) NOT NULL,\n\
             \"script\" VARCHAR(1000) NOT NULL,\n\
             \"checksum\" INTEGER,\n\
             \"installed_by\" VARCHAR(100) NOT NULL,\n\
             \"installed_on\" TIMESTAMP NOT NULL DEFAULT now(),\n\
             \"execution_time\" INTEGER NOT NULL,\n\
             \"success\" BOOLEAN NOT NULL\n\
             );\n\
             ALTER TABLE {table} ADD CONSTRAINT {key} PRIMARY KEY (\"installed_rank\");\n\
             CREATE INDEX {index} ON {table} (\"success\");\n\
             COMMIT",
            key = Identifier(&format!("{HISTORY_TABLE}_pk")),
            index = Identifier(&format!("{HISTORY_TABLE}_s_idx")),
        );
        match session.execute_batch(&sql).await {
            Ok(_) => Ok(table),
            Err(interrupted) => {
                let _ = session.execute("ROLLBACK").await;
                Err(RunFailure::server(
                    "make the migration history table",
                    &interrupted.error,
                ))
            }
        }
    }

    /// The statement that records a script.
    pub(super) fn insert(&self, script: &Script<'_>, row: &NewRow<'_>) -> String {
        let version = script.name.version().map_or_else(
            || "NULL".to_owned(),
            |version| Literal(version.as_str()).to_string(),
        );
        format!(
            "INSERT INTO {} (\"installed_rank\", \"version\", \"description\", \"type\", \"script\", \
             \"checksum\", \"installed_by\", \"execution_time\", \"success\") \
             VALUES ({}, {version}, {}, {}, {}, {}, {}, {}, {})",
            self.qualified(),
            row.rank,
            Literal(&script.name.stored_description()),
            Literal(RowKind::Sql.as_str()),
            Literal(&stored_script(script.path)),
            script.checksum,
            Literal(&row.installed_by.chars().take(100).collect::<String>()),
            row.execution_time,
            row.success,
        )
    }
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
        success: matches!(success.as_deref(), Some("true" | "t")),
    })
}
