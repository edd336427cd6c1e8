//! `UPDATE`, `DELETE`, `TRUNCATE` and settings, read from their words.
//!
//! A parser would have to understand every expression in them, and nothing of that is asked.

use super::{
    table_name,
    words::{Kind, Token, Words},
};
use crate::{
    Product,
    change::{Change, Effect},
};

/// `None` for a statement of another kind.
pub(super) fn read(product: Product, words: &Words<'_>) -> Option<Vec<Change>> {
    let tokens = &words.tokens;
    let first = tokens.first()?;
    if first.is("update") {
        let from = skip(
            tokens,
            1,
            &[
                "low_priority",
                "ignore",
                "only",
                "or",
                "rollback",
                "abort",
                "replace",
                "fail",
            ],
        );
        return Some(changed_rows(product, words, from, "UPDATE"));
    }
    if first.is("delete") {
        let from = tokens.iter().position(|token| token.is("from"))? + 1;
        return Some(changed_rows(
            product,
            words,
            skip(tokens, from, &["only"]),
            "DELETE",
        ));
    }
    if first.is("truncate") {
        return Some(truncated(product, tokens));
    }
    if first.is("set") || first.is("pragma") {
        return Some(setting(product, words).into_iter().collect());
    }
    None
}

fn skip(tokens: &[Token<'_>], from: usize, words: &[&str]) -> usize {
    let skipped = tokens.get(from..).unwrap_or_default();
    from + skipped
        .iter()
        .take_while(|token| words.iter().any(|word| token.is(word)))
        .count()
}

fn changed_rows(
    product: Product,
    words: &Words<'_>,
    from: usize,
    verb: &'static str,
) -> Vec<Change> {
    let Some((table, next)) = name_at(product, &words.tokens, from) else {
        return Vec::new();
    };
    // A join restricts as well, and so does LIMIT.
    let restricted = ["where", "limit", "join", "using"]
        .iter()
        .any(|word| words.has_outside(word))
        || (verb == "UPDATE" && words.has_outside("from"));
    let end = words.tokens[next - 1].end;
    vec![Change {
        at: 0..end,
        effect: Effect::ChangeRows {
            table,
            verb,
            restricted,
        },
    }]
}

fn truncated(product: Product, tokens: &[Token<'_>]) -> Vec<Change> {
    let cascade = tokens.iter().any(|token| token.is("cascade"));
    let mut at = skip(tokens, 1, &["table", "only"]);
    let mut changes = Vec::new();
    while let Some((table, next)) = name_at(product, tokens, at) {
        changes.push(Change {
            at: 0..tokens[next - 1].end,
            effect: Effect::Truncate { table, cascade },
        });
        let star = usize::from(tokens.get(next).is_some_and(|token| token.is_sign("*")));
        if !tokens
            .get(next + star)
            .is_some_and(|token| token.is_sign(","))
        {
            break;
        }
        at = skip(tokens, next + star + 1, &["only"]);
    }
    changes
}

/// The name at a token, and the token after it.
pub(super) fn name_at(
    product: Product,
    tokens: &[Token<'_>],
    at: usize,
) -> Option<(String, usize)> {
    let name = |at: usize| {
        let token = tokens.get(at)?;
        match token.kind {
            Kind::Word if product == Product::Postgres => Some(token.text.to_lowercase()),
            Kind::Word => Some(token.text.to_owned()),
            Kind::QuotedName => Some(token.text.replace("\"\"", "\"").replace("``", "`")),
            Kind::Text | Kind::Sign => None,
        }
    };
    let first = name(at)?;
    if tokens.get(at + 1).is_some_and(|token| token.is_sign("."))
        && let Some(second) = name(at + 2)
    {
        return Some((table_name(product, Some(&first), &second), at + 3));
    }
    Some((table_name(product, None, &first), at + 1))
}

/// `SET foreign_key_checks = 0`, `PRAGMA foreign_keys = OFF`.
fn setting(product: Product, words: &Words<'_>) -> Option<Change> {
    let name = match product {
        Product::Sqlite => "foreign_keys",
        _ => "foreign_key_checks",
    };
    let at = words.tokens.iter().position(|token| token.is(name))?;
    let value = words.tokens[at + 1..]
        .iter()
        .find(|token| token.kind == Kind::Word)?;
    let on = !["0", "off", "false", "no"].iter().any(|off| value.is(off));
    Some(Change {
        at: 0..value.end,
        effect: Effect::ForeignKeyChecks { on },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effects(product: Product, text: &str) -> Vec<Effect> {
        let changes = read(product, &Words::of(product, text)).unwrap();
        changes.into_iter().map(|change| change.effect).collect()
    }

    #[test]
    fn updates_and_deletes_are_read() {
        let rows = |table: &str, verb, restricted| Effect::ChangeRows {
            table: table.to_owned(),
            verb,
            restricted,
        };
        let pg = Product::Postgres;
        assert_eq!(
            effects(pg, "UPDATE ONLY Public.Orders SET a = 1"),
            [rows("orders", "UPDATE", false)]
        );
        assert_eq!(
            effects(pg, "delete from \"Or\".\"d\" where a"),
            [rows("Or.d", "DELETE", true)]
        );
        let my = Product::Mysql;
        assert_eq!(
            effects(my, "UPDATE IGNORE `T` SET a = (SELECT b FROM c WHERE d)"),
            [rows("t", "UPDATE", false)]
        );
        assert_eq!(
            effects(my, "UPDATE a JOIN b USING (c) SET d = 1"),
            [rows("a", "UPDATE", true)]
        );
        assert!(read(pg, &Words::of(pg, "SELECT 1")).is_none());
    }

    #[test]
    fn truncate_names_all_its_tables() {
        let found = effects(Product::Postgres, "TRUNCATE TABLE ONLY a *, s.b CASCADE");
        let truncate = |table: &str| Effect::Truncate {
            table: table.to_owned(),
            cascade: true,
        };
        assert_eq!(found, [truncate("a"), truncate("s.b")]);
    }

    #[test]
    fn foreign_key_settings_are_seen() {
        let off = [Effect::ForeignKeyChecks { on: false }];
        assert_eq!(
            effects(Product::Mariadb, "SET SESSION foreign_key_checks = 0"),
            off
        );
        assert_eq!(effects(Product::Sqlite, "PRAGMA foreign_keys=OFF"), off);
        assert_eq!(effects(Product::Sqlite, "PRAGMA user_version = 4"), []);
    }
}
