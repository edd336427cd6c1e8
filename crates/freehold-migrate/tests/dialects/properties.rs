//! What holds for any text.

use freehold_migrate::{
    Dialect,
    Dialect::{Mysql, Sqlite},
    ScriptConfig, split,
};
use proptest::prelude::*;

use crate::{load, texts};

#[test]
fn large_scripts_and_evil_ones_take_linear_time() {
    let line = "INSERT INTO items (id, name) VALUES ('1','it\\'s; a name','$1 -- x');\n";
    for dialect in [Mysql, Sqlite] {
        let line = if dialect == Sqlite {
            line.replace("\\'", "''")
        } else {
            line.to_owned()
        };
        let script = line.repeat(200_000);
        assert_eq!(split(dialect, &script).expect("valid").len(), 200_000);
        for evil in [
            "/*",
            "/*!",
            "/*!50000",
            "((",
            "'",
            "`",
            "\\",
            "-",
            "--",
            "#",
            "DELIMITER x\n",
            "[",
            ";;",
            "create procedure p begin case ",
            "end ",
            "create trigger x begin ; ",
            "\"",
            "$",
        ] {
            let _ = split(dialect, &evil.repeat(200_000));
        }
    }
}

/// Something complete, as it may stand in a statement of either dialect.
fn piece(dialect: Dialect) -> impl Strategy<Value = String> {
    let blank = prop_oneof![
        "[a-z;'\"`() \\\\/-]{0,12}".prop_map(|text| format!("-- {text}\n")),
        "[a-z;'\"`()\\\\ -]{0,12}".prop_map(|text| format!("/* {text} */")),
        if dialect == Mysql {
            "[a-z;'\"`()\\\\*/ -]{0,12}"
                .prop_map(|text| format!("#{text}\n"))
                .boxed()
        } else {
            Just("\r\n".to_owned()).boxed()
        },
    ];
    let escape = move |text: String, quote: &str| {
        let doubled = text.replace(quote, &quote.repeat(2));
        if dialect == Mysql && quote != "`" {
            format!("{quote}{}{quote}", doubled.replace('\\', "\\\\"))
        } else {
            format!("{quote}{doubled}{quote}")
        }
    };
    let leaf = prop_oneof![
        "[a-z]{1,6}".prop_map(|word| format!("x{word}")),
        "[a-z;'\"`()\\\\/*#-]{0,12}".prop_map(move |text| escape(text, "'")),
        "[a-z;'\"`()\\\\/*#-]{0,12}".prop_map(move |text| escape(text, "\"")),
        "[a-z;'\"`()\\\\/*#-]{0,12}".prop_map(move |text| escape(text, "`")),
        Just("é😀".to_owned()),
        Just("1.5".to_owned()),
        blank,
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop::collection::vec(inner, 1..4).prop_map(|pieces| format!("({})", pieces.join(" ; ")))
    })
}

fn statements(dialect: Dialect) -> impl Strategy<Value = Vec<String>> {
    let statement = prop::collection::vec(piece(dialect), 0..5)
        .prop_map(|pieces| format!("stmt {} last", pieces.join(" ")));
    prop::collection::vec(statement, 0..8)
}

/// Each statement lies behind the one before, and between them there is nothing to be sent.
fn check_cover(dialect: Dialect, text: &str) -> Result<(), TestCaseError> {
    let Ok(statements) = split(dialect, text) else {
        return Ok(());
    };
    let mut at = 0;
    for statement in &statements {
        prop_assert!(at <= statement.start && statement.start < statement.end);
        prop_assert!(
            text.is_char_boundary(statement.start) && text.is_char_boundary(statement.end)
        );
        prop_assert_eq!(
            split(dialect, &text[at..statement.start]).map(|between| between.len()),
            Ok(0)
        );
        at = statement.end;
    }
    prop_assert_eq!(
        split(dialect, &text[at..]).map(|between| between.len()),
        Ok(0)
    );
    Ok(())
}

fn sql_words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "create",
        "or",
        "replace",
        "procedure",
        "trigger",
        "temp",
        "begin",
        "not",
        "atomic",
        "case",
        "end",
        "if",
        "loop",
        "delimiter",
        "//",
        ";",
        "\n",
        "\\",
        "\\N",
        "(",
        ")",
        "'",
        "\"",
        "`",
        "[",
        "]",
        "--",
        "-- ",
        "#",
        "/*",
        "/*!",
        "/*!50000",
        "*/",
        "\r",
        "é",
        "set",
        "autocommit",
        "sql_mode",
        "@",
        "=",
        ".",
        ",",
        "commit",
        "pragma",
        "foreign_keys",
        "vacuum",
        "into",
        "load",
        "statement",
        "for",
        "source",
        "${",
        "}",
        "grant",
        "definer",
    ]);
    let joiner = prop_oneof![Just(""), Just(" ")];
    (prop::collection::vec(word, 0..40), joiner).prop_map(|(words, joiner)| words.join(joiner))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn generated_statements_come_back_as_they_were(
        (dialect, statements) in prop::sample::select(vec![Mysql, Sqlite])
            .prop_flat_map(|dialect| (Just(dialect), statements(dialect))),
        separator in prop_oneof![
            Just(";"), Just(";\n"), Just(" ;;\r\n"), Just("; -- x;'\n"), Just(" /* ';' */ ;\n\n"),
        ],
    ) {
        let script = statements.join(separator);
        prop_assert_eq!(texts(dialect, &script), statements);
    }

    #[test]
    fn the_delimiter_does_not_change_the_statements(
        statements in statements(Mysql),
        delimiter in prop::sample::select(vec!["$$", "|", ";;", "@@", "%%x", "GO"]),
    ) {
        let body: Vec<String> = statements.iter().map(|text| format!("{text}\n{delimiter}\n")).collect();
        let script = format!("DELIMITER {delimiter}\n{}delimiter ;\nlast;", body.concat());
        let mut expected: Vec<&str> = statements.iter().map(String::as_str).collect();
        expected.push("last");
        prop_assert_eq!(texts(Mysql, &script), expected);
    }

    #[test]
    fn nothing_that_would_be_sent_stands_between_statements(
        dialect in prop::sample::select(vec![Mysql, Sqlite]),
        text in "[a-z$'\"`#;()/*\\\\!\\[\\]\n -]{0,60}",
    ) {
        check_cover(dialect, &text)?;
    }

    #[test]
    fn arbitrary_text_never_panics(
        dialect in prop::sample::select(vec![Mysql, Sqlite]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        words in sql_words(),
    ) {
        let _ = load(dialect, &words, ScriptConfig::default());
        if let Ok(text) = String::from_utf8(bytes) {
            let _ = load(dialect, &text, ScriptConfig::default());
        }
    }
}
