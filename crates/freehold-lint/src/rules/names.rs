//! Names that the server does not keep as they are.

use super::{Hit, Step};
use crate::{Product, catalogue::NAME_TOO_LONG, change::Effect};

pub(super) fn look(step: &Step<'_>, hits: &mut Vec<Hit>) {
    let made: Vec<&str> = match &step.change.effect {
        Effect::CreateTable {
            table,
            columns,
            constraints,
            ..
        } => std::iter::once(table.as_str())
            .chain(columns.iter().map(|column| column.name.as_str()))
            .chain(
                constraints
                    .iter()
                    .filter_map(|constraint| constraint.name.as_deref()),
            )
            .collect(),
        Effect::RenameTable { to, .. } | Effect::RenameColumn { to, .. } => vec![to],
        Effect::AddColumn { column, .. } => vec![&column.name],
        Effect::AddConstraint { constraint, .. } => {
            constraint.name.as_deref().into_iter().collect()
        }
        Effect::CreateIndex { name, .. } => name.as_deref().into_iter().collect(),
        _ => return,
    };
    for name in made {
        let name = name.rsplit('.').next().unwrap_or(name);
        let (length, most, unit, what) = match step.product() {
            Product::Postgres => (name.len(), 63, "bytes", "is cut"),
            Product::Mariadb | Product::Mysql => {
                (name.chars().count(), 64, "characters", "is refused")
            }
            Product::Sqlite => continue,
        };
        if length > most {
            let message = format!("{name} has {length} {unit} and {what}: {most} are kept");
            hits.push(Hit::new(&NAME_TOO_LONG, true, message).advice("Choose a shorter name."));
        }
    }
}
