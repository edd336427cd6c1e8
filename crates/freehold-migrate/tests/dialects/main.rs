//! MySQL's and SQLite's scripts: where statements end, what they are, what is refused.

mod cases;
mod properties;

use freehold_migrate::{
    Dialect, Mode, RefusalCode, Script, ScriptConfig, ScriptKind, ScriptName, split,
};
pub(crate) fn texts(dialect: Dialect, script: &str) -> Vec<&str> {
    split(dialect, script)
        .unwrap_or_else(|error| panic!("{script:?}: {error}"))
        .iter()
        .map(|statement| &script[statement.range()])
        .collect()
}

pub(crate) fn load(
    dialect: Dialect,
    script: &str,
    config: ScriptConfig,
) -> Result<Mode, Vec<(RefusalCode, u32, u32)>> {
    let name = ScriptName {
        kind: ScriptKind::Versioned("1".parse().expect("a version")),
        description: "x".to_owned(),
    };
    Script::load(dialect, "V1__x.sql", &name, script.as_bytes(), config)
        .map(|script| script.mode)
        .map_err(|refusals| {
            refusals
                .iter()
                .map(|refusal| {
                    assert!(!refusal.advice.is_empty());
                    let line = refusal.line.expect("a line");
                    (refusal.code, line, refusal.column.expect("a column"))
                })
                .collect()
        })
}

pub(crate) fn mode(dialect: Dialect, script: &str) -> Mode {
    load(dialect, script, ScriptConfig::default())
        .unwrap_or_else(|refusals| panic!("{script:?}: {refusals:?}"))
}

pub(crate) fn refusals(dialect: Dialect, script: &str) -> Vec<(RefusalCode, u32, u32)> {
    load(dialect, script, ScriptConfig::default()).expect_err(script)
}

pub(crate) fn transaction(opening: &str) -> Mode {
    Mode::Transaction {
        opening: opening.to_owned(),
    }
}
