//! Statements of MySQL, MariaDB and SQLite, through sqlparser.
//!
//! Its dialects are wider than the products: what it accepts need not run. What it does not accept is said
//! to be unchecked.

use std::ops::Range;

use sqlparser::{
    ast::{
        self, AlterColumnOperation, AlterTableOperation, ColumnOption, Expr, ObjectType, Spanned,
        Statement, TableConstraint,
    },
    dialect::{Dialect, MySqlDialect, SQLiteDialect},
    parser::Parser,
    tokenizer::{Location, Span},
};

use super::{Read, plain_type, table_name};
use crate::{
    Product,
    change::{Change, Column, Constraint, ConstraintKind, Effect, Preset, Reference},
};

pub(super) fn read(product: Product, text: &str) -> Read {
    let dialect: &dyn Dialect = match product {
        Product::Sqlite => &SQLiteDialect {},
        _ => &MySqlDialect {},
    };
    match Parser::parse_sql(dialect, text) {
        Err(error) => Read::Unchecked(error.to_string()),
        Ok(statements) => {
            let tree = Tree { product, text };
            Read::Changes(
                statements
                    .iter()
                    .flat_map(|one| tree.changes(one))
                    .collect(),
            )
        }
    }
}

struct Tree<'a> {
    product: Product,
    text: &'a str,
}

impl Tree<'_> {
    fn name(&self, name: &ast::ObjectName) -> String {
        let parts: Vec<&str> = name
            .0
            .iter()
            .filter_map(|part| part.as_ident())
            .map(|part| part.value.as_str())
            .collect();
        match parts.as_slice() {
            [.., schema, name] => table_name(self.product, Some(schema), name),
            [name] => table_name(self.product, None, name),
            [] => String::new(),
        }
    }

    fn column_name(ident: &ast::Ident) -> String {
        ident.value.to_lowercase()
    }

    /// Where a piece of the tree stands; the whole statement where the tree does not know.
    fn at(&self, span: Span) -> Range<usize> {
        let (start, end) = (self.offset(span.start), self.offset(span.end));
        match (start, end) {
            (Some(start), Some(end)) if start < end => start..end,
            _ => 0..self.text.len(),
        }
    }

    fn offset(&self, location: Location) -> Option<usize> {
        let line = usize::try_from(location.line).ok()?.checked_sub(1)?;
        let column = usize::try_from(location.column).ok()?.checked_sub(1)?;
        let start = match line.checked_sub(1) {
            None => 0,
            Some(earlier) => self.text.match_indices('\n').nth(earlier)?.0 + 1,
        };
        let rest = &self.text[start..];
        let characters = rest.char_indices().map(|(at, _)| at);
        let at = characters.chain([rest.len()]).nth(column)?;
        Some(start + at)
    }

    fn changes(&self, statement: &Statement) -> Vec<Change> {
        let whole = |effect| {
            vec![Change {
                at: 0..self.text.len(),
                effect,
            }]
        };
        match statement {
            Statement::CreateTable(create) => whole(self.create_table(create)),
            Statement::CreateIndex(create) => whole(Effect::CreateIndex {
                table: self.name(&create.table_name),
                name: create.name.as_ref().map(|name| self.name(name)),
                columns: index_columns(&create.columns),
                unique: create.unique,
                concurrently: false,
                special: false,
            }),
            Statement::AlterTable(alter) => {
                let table = self.name(&alter.name);
                let operations = alter.operations.iter();
                operations
                    .flat_map(|operation| self.operation(&table, operation))
                    .collect()
            }
            Statement::RenameTable(renames) => renames
                .iter()
                .map(|rename| Change {
                    at: 0..self.text.len(),
                    effect: Effect::RenameTable {
                        table: self.name(&rename.old_name),
                        to: self.name(&rename.new_name),
                    },
                })
                .collect(),
            Statement::Drop {
                object_type, names, ..
            } => names
                .iter()
                .filter_map(|name| self.drop(object_type, name))
                .map(|effect| Change {
                    at: 0..self.text.len(),
                    effect,
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    fn drop(&self, what: &ObjectType, name: &ast::ObjectName) -> Option<Effect> {
        match what {
            ObjectType::Table => Some(Effect::DropTable {
                table: self.name(name),
            }),
            ObjectType::Index => Some(Effect::DropIndex {
                name: self.name(name),
                table: None,
                concurrently: false,
            }),
            _ => None,
        }
    }

    fn create_table(&self, create: &ast::CreateTable) -> Effect {
        let constraints = create.constraints.iter();
        Effect::CreateTable {
            table: self.name(&create.name),
            columns: create
                .columns
                .iter()
                .map(|column| self.column(column))
                .collect(),
            constraints: constraints
                .filter_map(|found| self.constraint(found))
                .collect(),
            derived: create.query.is_some() || create.like.is_some() || create.columns.is_empty(),
            temporary: create.temporary,
        }
    }

    fn column(&self, column: &ast::ColumnDef) -> Column {
        self.column_of(
            &column.name,
            &column.data_type,
            column.options.iter().map(|option| &option.option),
        )
    }

    fn column_of<'o>(
        &self,
        name: &ast::Ident,
        data_type: &ast::DataType,
        options: impl Iterator<Item = &'o ColumnOption>,
    ) -> Column {
        let mut column = Column {
            name: Self::column_name(name),
            data_type: plain_type(&data_type.to_string()),
            ..Column::default()
        };
        for option in options {
            match option {
                ColumnOption::NotNull => column.not_null = true,
                ColumnOption::Default(expression) => column.default = self.default(expression),
                ColumnOption::PrimaryKey(_) => column.primary_key = true,
                ColumnOption::Unique(_) => column.unique = true,
                ColumnOption::Check(_) => column.check = true,
                ColumnOption::ForeignKey(foreign) => {
                    column.references = Some(self.reference(foreign));
                }
                ColumnOption::Generated {
                    generation_expr: Some(_),
                    generation_expr_mode,
                    ..
                } => {
                    column.stored =
                        *generation_expr_mode == Some(ast::GeneratedExpressionMode::Stored);
                    // Whatever it is, the engine knows what to put there.
                    column.default = Preset::Constant;
                }
                ColumnOption::DialectSpecific(tokens) => {
                    let text = tokens.iter().map(ToString::to_string).collect::<String>();
                    if text.replace('_', "").eq_ignore_ascii_case("autoincrement") {
                        column.numbered = true;
                    }
                }
                _ => {}
            }
        }
        column
    }

    /// What a default is where it matters: SQLite takes constants only, MySQL's expressions are evaluated for each row.
    fn default(&self, expression: &Expr) -> Preset {
        match expression {
            Expr::Value(value) if value.value == ast::Value::Null => Preset::Null,
            Expr::Value(_) | Expr::UnaryOp { .. } | Expr::TypedString { .. } => Preset::Constant,
            Expr::Nested(inside) => self.default(inside),
            // SQLite takes a bare word for a string.
            Expr::Identifier(ident) if !is_current(&ident.value) => Preset::Constant,
            _ => {
                let text = expression.to_string();
                if self.product.is_mysql_like()
                    && is_current(text.trim_end_matches(['(', ')', '6', '3']))
                {
                    return Preset::Constant;
                }
                Preset::PerRow(text)
            }
        }
    }

    fn reference(&self, foreign: &ast::ForeignKeyConstraint) -> Reference {
        Reference {
            table: self.name(&foreign.foreign_table),
            cascades: matches!(
                foreign.on_delete,
                Some(
                    ast::ReferentialAction::Cascade
                        | ast::ReferentialAction::SetNull
                        | ast::ReferentialAction::SetDefault
                )
            ),
        }
    }

    fn constraint(&self, constraint: &TableConstraint) -> Option<Constraint> {
        let (name, kind) = match constraint {
            TableConstraint::Unique(unique) => (
                unique.name.as_ref().or(unique.index_name.as_ref()),
                ConstraintKind::Unique {
                    columns: index_columns(&unique.columns),
                    using_index: false,
                },
            ),
            TableConstraint::PrimaryKey(primary) => (
                primary.name.as_ref(),
                ConstraintKind::Primary {
                    columns: index_columns(&primary.columns),
                    using_index: false,
                },
            ),
            TableConstraint::ForeignKey(foreign) => (
                foreign.name.as_ref(),
                ConstraintKind::Foreign {
                    columns: foreign.columns.iter().map(Self::column_name).collect(),
                    reference: self.reference(foreign),
                },
            ),
            TableConstraint::Check(check) => (
                check.name.as_ref(),
                ConstraintKind::Check { not_null: None },
            ),
            TableConstraint::Index(index) => (
                index.name.as_ref(),
                ConstraintKind::Index {
                    columns: index_columns(&index.columns),
                },
            ),
            _ => return None,
        };
        Some(Constraint {
            name: name.map(|name| name.value.clone()),
            kind,
            not_valid: false,
        })
    }

    fn operation(&self, table: &str, operation: &AlterTableOperation) -> Vec<Change> {
        let at = self.at(operation.span());
        let effects = self.effects(table.to_owned(), operation);
        let changes = effects.into_iter().map(|effect| Change {
            at: at.clone(),
            effect,
        });
        changes.collect()
    }

    fn effects(&self, table: String, operation: &AlterTableOperation) -> Vec<Effect> {
        let one = match operation {
            AlterTableOperation::AddColumn { column_def, .. } => Effect::AddColumn {
                table,
                column: self.column(column_def),
            },
            AlterTableOperation::DropColumn { column_names, .. } => {
                let dropped = column_names.iter().map(|name| Effect::DropColumn {
                    table: table.clone(),
                    column: Self::column_name(name),
                });
                return dropped.collect();
            }
            AlterTableOperation::RenameColumn {
                old_column_name,
                new_column_name,
            } => Effect::RenameColumn {
                table,
                column: Self::column_name(old_column_name),
                to: Self::column_name(new_column_name),
            },
            AlterTableOperation::RenameTable {
                table_name: ast::RenameTableNameKind::As(to) | ast::RenameTableNameKind::To(to),
            } => Effect::RenameTable {
                table,
                to: self.name(to),
            },
            AlterTableOperation::AddConstraint { constraint, .. } => {
                let Some(constraint) = self.constraint(constraint) else {
                    return Vec::new();
                };
                Effect::AddConstraint { table, constraint }
            }
            AlterTableOperation::DropConstraint { name, .. }
            | AlterTableOperation::DropForeignKey { name, .. } => Effect::DropConstraint {
                table,
                name: name.value.clone(),
            },
            AlterTableOperation::DropIndex { name } => Effect::DropIndex {
                name: name.value.clone(),
                table: Some(table),
                concurrently: false,
            },
            AlterTableOperation::ModifyColumn {
                col_name,
                data_type,
                options,
                ..
            } => self.modified(table, col_name, data_type, options),
            AlterTableOperation::ChangeColumn {
                old_name,
                new_name,
                data_type,
                options,
                ..
            } => {
                let (column, to) = (Self::column_name(old_name), Self::column_name(new_name));
                let modified = self.modified(table.clone(), old_name, data_type, options);
                if column == to {
                    return vec![modified];
                }
                return vec![modified, Effect::RenameColumn { table, column, to }];
            }
            AlterTableOperation::AlterColumn {
                column_name,
                op: AlterColumnOperation::SetNotNull,
            } => Effect::SetNotNull {
                table,
                column: Self::column_name(column_name),
            },
            _ => return Vec::new(),
        };
        vec![one]
    }

    fn modified(
        &self,
        table: String,
        name: &ast::Ident,
        data_type: &ast::DataType,
        options: &[ColumnOption],
    ) -> Effect {
        let column = self.column_of(name, data_type, options.iter());
        Effect::SetType {
            table,
            column: column.name,
            data_type: column.data_type,
            converted: false,
            not_null: Some(column.not_null),
        }
    }
}

fn is_current(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    matches!(
        text.as_str(),
        "current_timestamp"
            | "current_date"
            | "current_time"
            | "now"
            | "localtime"
            | "localtimestamp"
    )
}

/// The leading plain columns of an index.
fn index_columns(columns: &[ast::IndexColumn]) -> Vec<String> {
    let columns = columns.iter();
    columns
        .map_while(|column| match &column.column.expr {
            Expr::Identifier(ident) => Some(ident.value.to_lowercase()),
            _ => None,
        })
        .collect()
}
