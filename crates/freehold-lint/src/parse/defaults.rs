//! Whether a `DEFAULT` gives one value for all rows.
//!
//! If it does, PostgreSQL and MariaDB note it in the catalog and touch no row. PostgreSQL decides by the volatility of
//! the functions in the expression, which is in its catalog; those that people use in defaults are
//! named here, and any other is unknown, because guessing either way would be a wrong answer for somebody.

use super::words::{Kind, Words};
use crate::{Product, change::Preset};

/// Functions of which each call gives another value.
const PER_ROW: &[&str] = &[
    "clock_timestamp",
    "currval",
    "gen_random_bytes",
    "gen_random_uuid",
    "lastval",
    "nextval",
    "random",
    "random_normal",
    "timeofday",
    "uuid_generate_v1",
    "uuid_generate_v1mc",
    "uuid_generate_v4",
    "uuidv4",
    "uuidv7",
    "gen_salt",
    "setval",
];

/// Words before a parenthesis that are no volatile call: functions with one answer during a statement, and types.
const STEADY: &[&str] = &[
    "abs",
    "age",
    "array",
    "array_fill",
    "bigint",
    "bit",
    "bool",
    "boolean",
    "bytea",
    "cast",
    "ceil",
    "char",
    "character",
    "coalesce",
    "concat",
    "concat_ws",
    "convert_from",
    "convert_to",
    "current_database",
    "current_schema",
    "current_setting",
    "current_time",
    "current_timestamp",
    "date",
    "date_part",
    "date_trunc",
    "daterange",
    "decimal",
    "decode",
    "digest",
    "encode",
    "extract",
    "float",
    "floor",
    "format",
    "greatest",
    "hstore",
    "inet",
    "int",
    "int4range",
    "int8range",
    "integer",
    "interval",
    "json",
    "json_build_array",
    "json_build_object",
    "jsonb",
    "jsonb_build_array",
    "jsonb_build_object",
    "least",
    "left",
    "length",
    "localtime",
    "localtimestamp",
    "lower",
    "lpad",
    "make_date",
    "make_interval",
    "make_timestamp",
    "make_timestamptz",
    "md5",
    "mod",
    "now",
    "nullif",
    "numeric",
    "numrange",
    "overlay",
    "pg_current_xact_id",
    "point",
    "position",
    "power",
    "regexp_replace",
    "repeat",
    "replace",
    "right",
    "round",
    "row",
    "rpad",
    "sha256",
    "smallint",
    "split_part",
    "statement_timestamp",
    "string_to_array",
    "substr",
    "substring",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "timezone",
    "to_char",
    "to_date",
    "to_json",
    "to_jsonb",
    "to_number",
    "to_timestamp",
    "to_tsvector",
    "transaction_timestamp",
    "translate",
    "trim",
    "trunc",
    "tsrange",
    "tstzrange",
    "txid_current",
    "upper",
    "uuid",
    "varchar",
    "varying",
    "xmlparse",
];

/// Words that may stand before a parenthesis and call nothing.
const OPERATORS: &[&str] = &[
    "and", "or", "not", "in", "is", "case", "when", "then", "else", "between", "any", "all",
];

/// What PostgreSQL makes of a default's expression.
pub(super) fn postgresql(expression: &str) -> Preset {
    let words = Words::of(Product::Postgres, expression);
    let tokens = &words.tokens;
    if let [one] = tokens.as_slice()
        && one.is("null")
    {
        return Preset::Null;
    }
    // `NULL::text`.
    if tokens.first().is_some_and(|token| token.is("null"))
        && tokens.get(1).is_some_and(|token| token.is_sign(":"))
    {
        return Preset::Null;
    }
    let mut unknown = None;
    for pair in tokens.windows(2) {
        let [name, paren] = pair else { continue };
        if !paren.is_sign("(") || !matches!(name.kind, Kind::Word | Kind::QuotedName) {
            continue;
        }
        let name = name.text.to_lowercase();
        if PER_ROW.contains(&name.as_str()) {
            return Preset::PerRow(name);
        }
        if !STEADY.contains(&name.as_str()) && !OPERATORS.contains(&name.as_str()) {
            unknown.get_or_insert(name);
        }
    }
    unknown.map_or(Preset::Constant, Preset::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_for_all_rows_is_constant() {
        for text in [
            "1",
            "-1",
            "(-1)",
            "'a'::text",
            "now()",
            "CURRENT_TIMESTAMP",
            "current_date",
            "'{}'::jsonb",
            "'x'::varchar(3)",
            "ARRAY[]::text[]",
            "(now() AT TIME ZONE 'utc')",
            "now() + interval '1 day'",
            "(1 + 2) * 3",
            "lower('A')",
            "CAST('1' AS numeric(3))",
        ] {
            assert_eq!(postgresql(text), Preset::Constant, "{text}");
        }
    }

    #[test]
    fn a_value_of_its_own_for_each_row_is_seen() {
        for (text, name) in [
            ("gen_random_uuid()", "gen_random_uuid"),
            ("pg_catalog.random ( ) * 3", "random"),
            ("lower(md5(Clock_Timestamp()::text))", "clock_timestamp"),
            ("nextval('a_seq'::regclass)", "nextval"),
        ] {
            assert_eq!(postgresql(text), Preset::PerRow(name.to_owned()), "{text}");
        }
        assert_eq!(
            postgresql("make_code(now())"),
            Preset::Unknown("make_code".to_owned())
        );
        assert_eq!(postgresql("null"), Preset::Null);
        assert_eq!(postgresql("NULL::text"), Preset::Null);
    }
}
