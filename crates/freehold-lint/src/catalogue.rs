//! Every rule by its id, with what it says and why. `docs/rules/` has a page for each.
//!
//! Ids are stable: configurations and suppressions name them.

use crate::{
    Product::{self, Mariadb, Mysql, Postgres, Sqlite},
    Severity::{self, Error, Note, Warning},
};

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub id: &'static str,
    /// How bad it is where the gates are sure. Where they do not know a table's size, an error becomes a warning.
    pub severity: Severity,
    pub products: &'static [Product],
    pub title: &'static str,
    pub why: &'static str,
}

impl Rule {
    /// Where its page is, relative to the repository.
    pub fn page(&self) -> String {
        format!("docs/rules/{}.md", self.id)
    }
}

const ALL: &[Product] = &[Postgres, Mariadb, Mysql, Sqlite];
const SERVERS: &[Product] = &[Postgres, Mariadb, Mysql];

macro_rules! rules {
    ($($name:ident: $id:literal, $severity:expr, $products:expr, $title:literal, $why:literal;)*) => {
        $(pub(crate) const $name: Rule = Rule {
            id: $id,
            severity: $severity,
            products: $products,
            title: $title,
            why: $why,
        };)*

        /// All rules, ordered by what they are about.
        pub const RULES: &[Rule] = &[$($name),*];
    };
}

rules! {
    INDEX_BLOCKS_WRITES: "index-blocks-writes", Error, SERVERS,
        "an index is built while nobody can write",
        "the table takes no writes until the index is built, which takes as long as reading and sorting the whole table.";
    INDEX_DROP_BLOCKS: "index-drop-blocks", Warning, &[Postgres],
        "dropping an index locks its table",
        "DROP INDEX locks the whole table, waits for every running query on it, and everybody else queues behind it.";
    REINDEX_BLOCKS: "reindex-blocks", Error, &[Postgres],
        "an index is rebuilt while nobody can write",
        "REINDEX stops writes, and reads that would use the index, until the index is built anew.";
    TABLE_REWRITE_BLOCKS: "table-rewrite-blocks", Error, SERVERS,
        "a table is written anew while nobody can use it",
        "every row is copied, and until the copy is complete the table takes no writes, on PostgreSQL no reads either.";
    CONCURRENTLY_IN_TRANSACTION: "concurrently-in-transaction", Error, &[Postgres],
        "CONCURRENTLY inside a transaction",
        "the server refuses CONCURRENTLY in a transaction, and this script runs in one.";
    DETACH_BLOCKS: "detach-blocks", Warning, &[Postgres],
        "detaching a partition locks the whole table",
        "DETACH PARTITION locks the partitioned table with all its partitions, waits for every query on it, and everybody else queues behind it.";
    CONSTRAINT_SCANS_TABLE: "constraint-scans-table", Error, SERVERS,
        "a new constraint checks all rows under a lock",
        "all rows are checked while the table is locked against writes, for a foreign key the table referred to as well.";
    VALIDATE_IN_SAME_TRANSACTION: "validate-in-same-transaction", Warning, &[Postgres],
        "a constraint is added and validated in one transaction",
        "the lock of ADD CONSTRAINT stays until the transaction ends, so that the scan runs under it and NOT VALID has gained nothing.";
    UNIQUE_BLOCKS: "unique-blocks", Error, &[Postgres],
        "a unique constraint builds its index under a lock",
        "the index is built while the table is locked against reads and writes.";
    EXCLUSION_BLOCKS: "exclusion-blocks", Error, &[Postgres],
        "an exclusion constraint builds its index under a lock",
        "the index is built while the table is locked against reads and writes, and there is no concurrent way.";
    NOT_NULL_SCANS_TABLE: "not-null-scans-table", Error, &[Postgres],
        "SET NOT NULL reads the whole table under a lock",
        "every row is read while the table is locked against reads and writes, unless a validated CHECK proves it already.";
    COLUMN_REWRITES_TABLE: "column-rewrites-table", Error, SERVERS,
        "a new column writes the whole table anew",
        "each row gets a value of its own, so the whole table is written anew while it is locked.";
    TYPE_CHANGE_REWRITES_TABLE: "type-change-rewrites-table", Error, SERVERS,
        "a column's new type writes the whole table anew",
        "all rows and indexes are written anew while the table is locked, and programs that know the old type break.";
    REQUIRED_COLUMN: "required-column", Error, ALL,
        "a new column is NOT NULL and has no default",
        "rows that exist have no value for it, and programs that do not know it yet cannot insert.";
    ADD_COLUMN_REFUSED: "add-column-refused", Error, &[Sqlite],
        "a column that SQLite cannot add",
        "ALTER TABLE … ADD COLUMN of SQLite touches no row, so it refuses what would have to.";
    RENAME_BREAKS_READERS: "rename-breaks-readers", Warning, ALL,
        "a rename breaks programs that use the old name",
        "programs that run while the migration does, and those that are rolled back afterwards, use the old name.";
    DROP_LOSES_DATA: "drop-loses-data", Warning, ALL,
        "what is dropped cannot be brought back",
        "the data is gone, and programs that still name it fail.";
    TRUNCATE_LOSES_DATA: "truncate-loses-data", Warning, ALL,
        "TRUNCATE empties a table",
        "all rows are gone; no condition and no trigger stands in the way.";
    CHANGE_WITHOUT_WHERE: "change-without-where", Warning, ALL,
        "all rows are changed in one statement",
        "one transaction that changes every row holds its locks to the end, bloats the table, and stops replicas meanwhile.";
    BACKFILL_UNDER_LOCK: "backfill-under-lock", Warning, &[Postgres],
        "rows are changed while a strong lock is held",
        "ALTER TABLE has locked the table until the transaction ends, so reads and writes wait until all rows are changed.";
    FOREIGN_KEY_WITHOUT_INDEX: "foreign-key-without-index", Warning, &[Postgres],
        "a foreign key's columns have no index",
        "each DELETE, or UPDATE of the key, in the table referred to reads the whole referring table.";
    INLINE_FOREIGN_KEY_IGNORED: "inline-foreign-key-ignored", Error, &[Mysql],
        "MySQL ignores REFERENCES beside a column",
        "MySQL before 9.0 reads REFERENCES in a column's definition and makes no foreign key of it, without a word.";
    REBUILD_CASCADES: "rebuild-cascades", Error, &[Sqlite],
        "dropping the old table deletes rows that refer to it",
        "with foreign keys on, DROP TABLE deletes all rows first, and ON DELETE CASCADE or SET NULL follow in other tables.";
    NAME_TOO_LONG: "name-too-long", Warning, SERVERS,
        "a name is longer than the server keeps",
        "PostgreSQL cuts names at 63 bytes, silently, so that two may become one; MySQL and MariaDB refuse more than 64 characters.";
    FILE_NAME: "file-name", Error, ALL,
        "a file's name is no migration's",
        "a file that looks like a migration and never runs is worse than an error.";
    VERSION_DUPLICATE: "version-duplicate", Error, ALL,
        "two files are one migration",
        "only one of them could run, and nobody said which.";
    VERSION_GAP: "version-gap", Note, ALL,
        "a version is missing between two others",
        "a script that arrives later with the missing version is out of order, and refused.";
    SCRIPT_REFUSED: "script-refused", Error, ALL,
        "the runner would not run this script",
        "a run would end here before anything has happened.";
    UNCHECKED_STATEMENT: "unchecked-statement", Warning, ALL,
        "a statement could not be checked",
        "the parser does not understand it, so no rule has looked at it.";
    ALLOW_INVALID: "allow-invalid", Error, ALL,
        "a suppression that says too little",
        "a suppression names a rule, a last day, and a reason; without them nobody can tell later whether it still holds.";
    ALLOW_EXPIRED: "allow-expired", Error, ALL,
        "a suppression is past its last day",
        "what was acceptable until then has to be looked at again.";
    ALLOW_UNUSED: "allow-unused", Warning, ALL,
        "a suppression suppresses nothing",
        "it would hide the next finding of its rule, which nobody has looked at.";
}

/// The rule of an id.
pub fn rule(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_words_in_small_letters() {
        for (index, rule) in RULES.iter().enumerate() {
            assert!(
                RULES[..index].iter().all(|other| other.id != rule.id),
                "{}",
                rule.id
            );
            assert!(
                rule.id
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
            );
            assert!(
                rule.why.ends_with('.') && !rule.title.ends_with('.'),
                "{}",
                rule.id
            );
        }
    }
}
