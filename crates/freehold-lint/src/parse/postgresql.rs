//! PostgreSQL's statements, through squawk's parser.
//!
//! Its tree keeps every word's place, so that a finding points at the action and not at the statement, and
//! it goes on after an error; a tree with errors is not trusted all the same.

use std::ops::Range;

use squawk_syntax::{
    Parse, SourceFile, SyntaxNode,
    ast::{self, AstNode, NameLike as _},
};

use super::{Read, defaults, plain_type, table_name};
use crate::{
    Product,
    change::{Change, Column, Constraint, ConstraintKind, Effect, Reference, Reindexed, TableName},
};

pub(super) fn read(text: &str) -> Read {
    let parsed: Parse<SourceFile> = SourceFile::parse(text);
    if let Some(error) = parsed.errors().first() {
        return Read::Unchecked(error.message().to_owned());
    }
    let mut changes = Vec::new();
    for statement in parsed.tree().stmts() {
        statement_changes(&statement, &mut changes);
    }
    Read::Changes(changes)
}

fn range(node: &SyntaxNode) -> Range<usize> {
    let range = node.text_range();
    range.start().into()..range.end().into()
}

fn change(node: &SyntaxNode, effect: Effect) -> Change {
    Change {
        at: range(node),
        effect,
    }
}

fn statement_changes(statement: &ast::Stmt, changes: &mut Vec<Change>) {
    let found = match statement {
        ast::Stmt::AlterTable(alter) => return alter_table(alter, changes),
        ast::Stmt::CreateTable(create) => create_table(create),
        ast::Stmt::CreateTableAs(create) => create_table_as(create),
        ast::Stmt::CreateIndex(create) => create_index(create),
        ast::Stmt::DropTable(drop) => {
            changes.extend(drop.table_name_refs().filter_map(|name| {
                let table = referred(&name)?;
                Some(change(drop.syntax(), Effect::DropTable { table }))
            }));
            None
        }
        ast::Stmt::DropIndex(drop) => {
            let concurrently = drop.concurrently_token().is_some();
            changes.extend(drop.index_refs().filter_map(|index| {
                let name = path_name(&index.path_ref()?)?;
                let effect = Effect::DropIndex {
                    name,
                    table: None,
                    concurrently,
                };
                Some(change(drop.syntax(), effect))
            }));
            None
        }
        ast::Stmt::Reindex(reindex) => reindex_of(reindex),
        ast::Stmt::Cluster(cluster) => cluster
            .table_name_ref()
            .and_then(|name| referred(&name))
            .map(|table| {
                let by = "CLUSTER";
                change(cluster.syntax(), Effect::Rewrite { table, by })
            }),
        ast::Stmt::Vacuum(vacuum) => return vacuum_full(vacuum, changes),
        _ => None,
    };
    changes.extend(found);
}

/// `VACUUM FULL a`, `VACUUM (FULL) a`.
fn vacuum_full(vacuum: &ast::Vacuum, changes: &mut Vec<Change>) {
    let is_full = vacuum.full_token().is_some()
        || vacuum.vacuum_option_list().is_some_and(|list| {
            let text = list.syntax().text().to_string();
            text.split(|c: char| !c.is_alphanumeric())
                .any(|word| word.eq_ignore_ascii_case("full"))
        });
    let Some(list) = vacuum.table_and_columns_list().filter(|_| is_full) else {
        return;
    };
    for named in list.table_and_columnss() {
        let table = named
            .table_relation_name()
            .and_then(|name| referred(&name.table_name_ref()?));
        if let Some(table) = table {
            let by = "VACUUM FULL";
            changes.push(change(vacuum.syntax(), Effect::Rewrite { table, by }));
        }
    }
}

fn path_name(path: &ast::PathRef) -> Option<TableName> {
    let name = path.segment()?.text();
    let schema = path.qualifier().and_then(|path| path.segment());
    let schema = schema.map(|segment| segment.text());
    Some(table_name(Product::Postgres, schema.as_deref(), &name))
}

fn referred(name: &ast::TableNameRef) -> Option<TableName> {
    path_name(&name.path_ref()?)
}

fn made(name: &ast::TableName) -> Option<TableName> {
    let path = name.path()?;
    let schema = path.qualifier().and_then(|path| path.segment());
    let schema = schema.map(|segment| segment.text());
    let name = path.segment()?.text();
    Some(table_name(Product::Postgres, schema.as_deref(), &name))
}

fn create_table(create: &ast::CreateTable) -> Option<Change> {
    let table = made(&create.table_name()?)?;
    let mut columns = Vec::new();
    let mut constraints = Vec::new();
    let mut derived = create.partition_of().is_some()
        || create.inherits().is_some()
        || create.of_type().is_some();
    for argument in create.table_arg_list().iter().flat_map(|list| list.args()) {
        match argument {
            ast::TableArg::Column(column) => {
                let Some(name) = column.name() else { continue };
                let inline = column.clauses().filter_map(|clause| match clause {
                    ast::ColumnClause::ColumnConstraint(constraint) => {
                        ast::Constraint::cast(constraint.syntax().clone())
                    }
                    _ => None,
                });
                columns.push(column_of(&name.text(), column.ty().as_ref(), inline));
            }
            ast::TableArg::LikeClause(_) => derived = true,
            ast::TableArg::TableConstraint(constraint) => {
                let constraint = ast::Constraint::cast(constraint.syntax().clone());
                constraints.extend(constraint.and_then(|found| constraint_of(&found)));
            }
        }
    }
    let temporary = matches!(create.persistence(), Some(ast::Persistence::Temp(_)));
    let effect = Effect::CreateTable {
        table,
        columns,
        constraints,
        derived,
        temporary,
    };
    Some(change(create.syntax(), effect))
}

fn create_table_as(create: &ast::CreateTableAs) -> Option<Change> {
    let effect = Effect::CreateTable {
        table: made(&create.table_name()?)?,
        columns: Vec::new(),
        constraints: Vec::new(),
        derived: true,
        temporary: matches!(create.persistence(), Some(ast::Persistence::Temp(_))),
    };
    Some(change(create.syntax(), effect))
}

fn create_index(create: &ast::CreateIndex) -> Option<Change> {
    let table = create.table_relation_name()?;
    let items = create.partition_item_list();
    let columns = items.iter().flat_map(|list| list.partition_items());
    let name = create.index().and_then(|index| index.path()?.segment());
    let effect = Effect::CreateIndex {
        table: referred(&table.table_name_ref()?)?,
        name: name.map(|name| name.text()),
        columns: columns
            .map_while(|item| match item.expr() {
                Some(ast::Expr::NameRef(name)) => Some(name.text()),
                _ => None,
            })
            .collect(),
        unique: create.unique_token().is_some(),
        concurrently: create.concurrently_token().is_some(),
        special: false,
    };
    Some(change(create.syntax(), effect))
}

fn reindex_of(reindex: &ast::Reindex) -> Option<Change> {
    let option = reindex.reindex_option_list().is_some_and(|list| {
        list.reindex_options()
            .any(|option| matches!(option, ast::ReindexOption::ReindexOptionConcurrently(_)))
    });
    let (what, concurrently) = match reindex.reindex_target()? {
        ast::ReindexTarget::ReindexTargetTable(target) => (
            Reindexed::Table(referred(&target.table_name_ref()?)?),
            target.concurrently_token().is_some(),
        ),
        ast::ReindexTarget::ReindexTargetIndex(target) => (
            Reindexed::Index(path_name(&target.index_ref()?.path_ref()?)?),
            target.concurrently_token().is_some(),
        ),
        _ => return None,
    };
    let effect = Effect::Reindex {
        what,
        concurrently: concurrently || option,
    };
    Some(change(reindex.syntax(), effect))
}

fn alter_table(alter: &ast::AlterTable, changes: &mut Vec<Change>) {
    let table = alter
        .table_relation_name()
        .and_then(|relation| referred(&relation.table_name_ref()?));
    let Some(table) = table else { return };
    for action in alter.actions() {
        let effect = action_effect(&table, &action);
        changes.extend(effect.map(|effect| change(action.syntax(), effect)));
    }
}

fn action_effect(table: &str, action: &ast::AlterTableAction) -> Option<Effect> {
    let table = table.to_owned();
    Some(match action {
        ast::AlterTableAction::AddColumn(add) => {
            let name = add.column_name()?.text();
            let column = column_of(&name, add.ty().as_ref(), add.constraints());
            Effect::AddColumn { table, column }
        }
        ast::AlterTableAction::DropColumn(drop) => Effect::DropColumn {
            table,
            column: drop.column_name_ref()?.text(),
        },
        ast::AlterTableAction::RenameColumn(rename) => Effect::RenameColumn {
            table,
            column: rename.column_name_ref()?.text(),
            to: rename.column_name()?.text(),
        },
        ast::AlterTableAction::TableRenameTo(rename) => {
            let to = made(&rename.table_name()?)?;
            // The new name is in the schema of the old one.
            let to = match table.rsplit_once('.') {
                Some((schema, _)) => format!("{schema}.{to}"),
                None => to,
            };
            Effect::RenameTable { table, to }
        }
        ast::AlterTableAction::AlterColumn(alter) => {
            let column = alter.column_name_ref()?.text();
            match alter.option()? {
                ast::AlterColumnOption::SetNotNull(_) => Effect::SetNotNull { table, column },
                ast::AlterColumnOption::SetType(set) => Effect::SetType {
                    table,
                    column,
                    data_type: type_of(set.ty().as_ref()),
                    converted: set.using_expr().is_some(),
                    not_null: None,
                },
                _ => return None,
            }
        }
        ast::AlterTableAction::AddConstraint(add) => Effect::AddConstraint {
            table,
            constraint: constraint_of(&add.constraint()?)?,
        },
        ast::AlterTableAction::ValidateConstraint(validate) => Effect::ValidateConstraint {
            table,
            name: validate
                .constraint_name_ref()?
                .path_ref()?
                .segment()?
                .text(),
        },
        ast::AlterTableAction::DropConstraint(drop) => Effect::DropConstraint {
            table,
            name: drop.constraint_name_ref()?.path_ref()?.segment()?.text(),
        },
        ast::AlterTableAction::DetachPartition(detach) => Effect::DetachPartition {
            table,
            concurrently: detach.detach_partition_option().is_some(),
        },
        _ => return None,
    })
}

fn type_of(data_type: Option<&ast::Type>) -> String {
    data_type.map_or_else(String::new, |data_type| {
        plain_type(&data_type.syntax().text().to_string())
    })
}

fn column_of(
    name: &str,
    data_type: Option<&ast::Type>,
    constraints: impl Iterator<Item = ast::Constraint>,
) -> Column {
    let mut column = Column {
        name: name.to_owned(),
        data_type: type_of(data_type),
        ..Column::default()
    };
    column.numbered = matches!(
        column.data_type.as_str(),
        "serial" | "bigserial" | "smallserial" | "serial2" | "serial4" | "serial8"
    );
    for constraint in constraints {
        match &constraint {
            ast::Constraint::NotNullConstraint(_) => column.not_null = true,
            ast::Constraint::PrimaryKeyConstraint(_) => column.primary_key = true,
            ast::Constraint::UniqueConstraint(_) => column.unique = true,
            ast::Constraint::CheckConstraint(_) => column.check = true,
            ast::Constraint::DefaultConstraint(default) => {
                if let Some(expression) = default.expr() {
                    column.default = defaults::postgresql(&expression.syntax().text().to_string());
                }
            }
            ast::Constraint::GeneratedConstraint(generated) => match generated.generated_as() {
                Some(ast::GeneratedAs::GeneratedIdentity(_)) => column.numbered = true,
                Some(ast::GeneratedAs::GeneratedStored(stored)) => {
                    // PostgreSQL 18 has virtual ones too.
                    let text = stored.syntax().text().to_string();
                    column.stored = text.to_ascii_lowercase().trim_end().ends_with("stored");
                }
                None => {}
            },
            ast::Constraint::ReferencesConstraint(references) => {
                let table = references.table().and_then(|name| referred(&name));
                column.references = table.map(|table| Reference {
                    table,
                    cascades: cascades(references.referential_actions()),
                });
            }
            ast::Constraint::ExcludeConstraint(_)
            | ast::Constraint::ForeignKeyConstraint(_)
            | ast::Constraint::NullConstraint(_) => {}
        }
    }
    column
}

fn cascades(actions: impl Iterator<Item = ast::ReferentialAction>) -> bool {
    let mut actions = actions;
    actions.any(|action| {
        let text = action.syntax().text().to_string().to_ascii_lowercase();
        text.contains("delete") && (text.contains("cascade") || text.contains("set"))
    })
}

fn constraint_of(constraint: &ast::Constraint) -> Option<Constraint> {
    let listed = |list: Option<ast::ConstraintColumnRefList>| -> Vec<String> {
        list.iter()
            .flat_map(|list| list.column_name_refs())
            .map(|name| name.text())
            .collect()
    };
    let kind = match constraint {
        ast::Constraint::CheckConstraint(check) => ConstraintKind::Check {
            not_null: check
                .expr()
                .and_then(|expression| kept_from_null(&expression)),
        },
        ast::Constraint::ForeignKeyConstraint(foreign) => ConstraintKind::Foreign {
            columns: foreign
                .from_columns()
                .iter()
                .flat_map(|list| list.column_name_refs())
                .map(|name| name.text())
                .collect(),
            reference: Reference {
                table: referred(&foreign.table_name_ref()?)?,
                cascades: cascades(foreign.referential_actions()),
            },
        },
        ast::Constraint::UniqueConstraint(unique) => ConstraintKind::Unique {
            columns: listed(
                unique
                    .index_parameters()
                    .and_then(|index| index.column_list()),
            ),
            using_index: unique.using_index().is_some(),
        },
        ast::Constraint::PrimaryKeyConstraint(primary) => ConstraintKind::Primary {
            columns: listed(
                primary
                    .index_parameters()
                    .and_then(|index| index.column_list()),
            ),
            using_index: primary.using_index().is_some(),
        },
        ast::Constraint::ExcludeConstraint(_) => ConstraintKind::Exclude,
        // PostgreSQL 18: a named NOT NULL, which can be NOT VALID.
        ast::Constraint::NotNullConstraint(not_null) => ConstraintKind::Check {
            not_null: not_null.column_name_ref().map(|name| name.text()),
        },
        _ => return None,
    };
    Some(Constraint {
        name: constraint.constraint_name().map(|name| name.text()),
        kind,
        not_valid: constraint.is_not_valid(),
    })
}

/// The column, where the expression is `column IS NOT NULL` and no more.
fn kept_from_null(expression: &ast::Expr) -> Option<String> {
    let text = expression.syntax().text().to_string();
    let words = super::words::Words::of(Product::Postgres, &text);
    let inside: Vec<_> = words
        .tokens
        .iter()
        .filter(|token| !token.is_sign("(") && !token.is_sign(")"))
        .collect();
    let [column, is, not, null] = inside.as_slice() else {
        return None;
    };
    if !(is.is("is") && not.is("not") && null.is("null")) {
        return None;
    }
    Some(match column.kind {
        super::words::Kind::QuotedName => column.text.replace("\"\"", "\""),
        _ => column.text.to_lowercase(),
    })
}
