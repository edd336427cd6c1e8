//! Which change of a column's type leaves its rows as they are.
//!
//! Only what the manuals promise is listed; everything else counts as written anew.

use crate::Product;

/// Whether an engine changes the type in its catalog only. Types are written as in [`crate::parse::plain_type`].
pub(crate) fn keeps_rows(product: Product, old: &str, new: &str) -> bool {
    let (old, new) = (Type::of(product, old), Type::of(product, new));
    if old == new {
        return true;
    }
    match product {
        Product::Postgres => postgresql(&old, &new),
        Product::Mariadb | Product::Mysql => mysql(&old, &new),
        Product::Sqlite => false,
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Type<'a> {
    name: &'a str,
    /// What stands in parentheses.
    arguments: Vec<&'a str>,
    rest: &'a str,
}

impl<'a> Type<'a> {
    fn of(product: Product, text: &'a str) -> Self {
        let (name, arguments, rest) = match text.split_once('(') {
            None => (text, Vec::new(), ""),
            Some((name, after)) => {
                let (inside, rest) = after.rsplit_once(')').unwrap_or((after, ""));
                (
                    name,
                    inside.split(',').map(str::trim).collect(),
                    rest.trim(),
                )
            }
        };
        let name = match (product, name.trim()) {
            (_, "character varying" | "varchar") => "varchar",
            (_, "character" | "char") => "char",
            (_, "int" | "integer" | "int4") => "integer",
            (_, "int8" | "bigint") => "bigint",
            (_, "int2" | "smallint") => "smallint",
            (_, "decimal" | "numeric") => "numeric",
            (Product::Postgres, "bool") => "boolean",
            (Product::Postgres, "timestamptz") => "timestamp with time zone",
            (Product::Postgres, "timestamp") => "timestamp without time zone",
            (_, other) => other,
        };
        // MySQL's width of an integer is for show only.
        let shown = product.is_mysql_like()
            && matches!(name, "integer" | "bigint" | "smallint" | "mediumint");
        Self {
            name,
            arguments: if shown { Vec::new() } else { arguments },
            rest,
        }
    }

    fn number(&self, index: usize) -> Option<u64> {
        self.arguments.get(index)?.parse().ok()
    }
}

fn postgresql(old: &Type<'_>, new: &Type<'_>) -> bool {
    match (old.name, new.name) {
        ("varchar", "varchar") | ("varbit", "varbit") | ("bit varying", "bit varying") => {
            match (old.number(0), new.number(0)) {
                (_, None) => true,
                (Some(old), Some(new)) => new >= old,
                (None, Some(_)) => false,
            }
        }
        ("varchar", "text") | ("cidr", "inet") => true,
        ("text", "varchar") => new.arguments.is_empty(),
        ("numeric", "numeric") => match (old.number(0), new.number(0)) {
            (_, None) => true,
            (Some(before), Some(after)) => {
                after >= before && old.number(1).unwrap_or(0) == new.number(1).unwrap_or(0)
            }
            (None, Some(_)) => false,
        },
        _ => false,
    }
}

/// The most bytes of a character in the usual character set, utf8mb4.
const BYTES: u64 = 4;

fn mysql(old: &Type<'_>, new: &Type<'_>) -> bool {
    if old.rest != new.rest {
        return false;
    }
    match (old.name, new.name) {
        // The length of a value is kept in one byte up to 255 bytes, in two above.
        ("varchar", "varchar") => match (old.number(0), new.number(0)) {
            (Some(before), Some(after)) => {
                after >= before && (before * BYTES > 255) == (after * BYTES > 255)
            }
            _ => false,
        },
        // New members at the end, within the one byte that holds 255 of them.
        ("enum", "enum") => {
            new.arguments.starts_with(&old.arguments)
                && (old.arguments.len() > 255) == (new.arguments.len() > 255)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::plain_type;

    fn keeps(product: Product, old: &str, new: &str) -> bool {
        keeps_rows(product, &plain_type(old), &plain_type(new))
    }

    #[test]
    fn postgresql_keeps_rows_where_the_bytes_stay() {
        let pg = Product::Postgres;
        for (old, new) in [
            ("varchar(10)", "VARCHAR (20)"),
            ("character varying(10)", "text"),
            ("text", "varchar"),
            ("int4", "integer"),
            ("numeric(8, 2)", "numeric(12,2)"),
            ("numeric(8,2)", "numeric"),
            ("cidr", "inet"),
            ("timestamptz", "timestamp with time zone"),
        ] {
            assert!(keeps(pg, old, new), "{old} → {new}");
        }
        for (old, new) in [
            ("varchar(20)", "varchar(10)"),
            ("text", "varchar(10)"),
            ("integer", "bigint"),
            ("numeric(8,2)", "numeric(8,3)"),
            ("timestamp", "timestamptz"),
            ("char(3)", "text"),
            ("inet", "cidr"),
            ("integer", "integer[]"),
        ] {
            assert!(!keeps(pg, old, new), "{old} → {new}");
        }
    }

    #[test]
    fn mysql_keeps_rows_within_one_length_byte() {
        let my = Product::Mysql;
        for (old, new) in [
            ("varchar(10)", "varchar(63)"),
            ("varchar(64)", "varchar(4000)"),
            ("int(11)", "int"),
            ("enum('a','b')", "ENUM('a', 'b', 'c')"),
        ] {
            assert!(keeps(my, old, new), "{old} → {new}");
        }
        for (old, new) in [
            ("varchar(63)", "varchar(64)"),
            ("varchar(64)", "varchar(63)"),
            ("int", "bigint"),
            ("int unsigned", "int"),
            ("enum('a','b')", "enum('b','a')"),
            ("varchar(10)", "text"),
        ] {
            assert!(!keeps(my, old, new), "{old} → {new}");
        }
    }
}
