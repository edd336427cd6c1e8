//! Statements of MySQL and MariaDB that sqlparser does not know and that are plain enough to be read from
//! their words.

use super::{row_changes::name_at, words::Words};
use crate::{
    Product,
    change::{Change, Effect},
};

/// `None` for everything that is left to the parser.
pub(super) fn read(words: &Words<'_>) -> Option<Vec<Change>> {
    let product = Product::Mysql;
    let tokens = &words.tokens;
    if words.begin(&["alter", "table"])
        && words.find(&["convert", "to", "character", "set"]).is_some()
    {
        let (table, next) = name_at(product, tokens, 2)?;
        return Some(vec![Change {
            at: 0..tokens[next - 1].end,
            effect: Effect::Rewrite {
                table,
                by: "CONVERT TO CHARACTER SET",
            },
        }]);
    }
    if words.begin(&["create", "fulltext", "index"]) || words.begin(&["create", "spatial", "index"])
    {
        let on = tokens.iter().position(|token| token.is("on"))?;
        let (table, next) = name_at(product, tokens, on + 1)?;
        let (name, _) = name_at(product, tokens, 3)?;
        return Some(vec![Change {
            at: 0..tokens[next - 1].end,
            effect: Effect::CreateIndex {
                table,
                name: Some(name),
                columns: Vec::new(),
                unique: false,
                concurrently: false,
                special: true,
            },
        }]);
    }
    if words.begin(&["drop", "index"]) {
        let on = tokens.iter().position(|token| token.is("on"))?;
        let (table, next) = name_at(product, tokens, on + 1)?;
        let (name, _) = name_at(product, tokens, 2)?;
        return Some(vec![Change {
            at: 0..tokens[next - 1].end,
            effect: Effect::DropIndex {
                name,
                table: Some(table),
                concurrently: false,
            },
        }]);
    }
    None
}
