//! The inside of a database: schemas, objects, default privileges, extensions.
//!
//! The owner role owns every schema and everything that migrations make. Default privileges of the
//! owner role give the reader and writer roles their rights on what is still to be made; what exists
//! is compared group by group.

use std::collections::BTreeMap;

use freehold_model::kinds::{AccessLevel, AccessTarget};

use super::{
    Action, Goal, On,
    rights::{self, Judge, Rights, right},
};
use crate::postgres::{
    inside::{Defaults, Group, Inside, ObjectKind, Schema},
    observe::{Grant, Observed},
    quote::Identifier,
};

pub(super) fn inside(goal: &Goal<'_>, seen: &Observed, within: &Inside, actions: &mut Vec<Action>) {
    let plan = Plan { goal, seen, within };
    plan.owners(actions);
    plan.last_schema(actions);
    plan.extensions(actions);
    plan.reassignments(actions);
    plan.defaults(actions);
    plan.schemas(actions);
    plan.objects(actions);
    plan.columns(actions);
    plan.pending(actions);
}

struct Plan<'a> {
    goal: &'a Goal<'a>,
    seen: &'a Observed,
    within: &'a Inside,
}

/// The default privileges that are global to the owner role, and the ACL that PostgreSQL assumes
/// where none is stored.
const DEFAULT_KINDS: [(char, ObjectKind); 3] = [
    ('r', ObjectKind::Table),
    ('S', ObjectKind::Sequence),
    ('f', ObjectKind::Routine),
];

impl Plan<'_> {
    fn compare(
        &self,
        on: &On,
        owner: &str,
        expected: &Rights,
        found: &[Grant],
        actions: &mut Vec<Action>,
    ) {
        let tenants = |role: &str| {
            self.within.tenants.contains(role)
                || self.seen.cluster.registered_roles.contains_key(role)
                || self.goal.role_names().iter().any(|ours| ours == role)
        };
        let judge = Judge {
            owner,
            admin: &self.seen.cluster.admin,
            is_tenant: &tenants,
        };
        rights::compare(on, expected, found, &judge, actions);
    }

    fn is_managed(&self, schema: &str) -> bool {
        schema == "public"
            || self
                .goal
                .desired
                .schemas
                .iter()
                .any(|wanted| wanted == schema)
    }

    /// Whether the admin may give the schema another owner. The schema public of a database belongs
    /// to the database's owner as of 15, and to a superuser before.
    fn may_take(&self, schema: &Schema) -> bool {
        let admin = &self.seen.cluster.admin;
        let database = self.seen.cluster.databases.get(&self.goal.desired.name);
        self.seen.superuser
            || schema.owner == *admin
            || schema.owner == "pg_database_owner"
                && database.is_some_and(|facts| facts.owner == *admin)
    }

    /// A login's objects belong to the owner role: it could make them by `SET ROLE NONE`.
    fn is_login_of_ours(&self, role: &str) -> bool {
        let registered = self.seen.cluster.registered_roles.get(role);
        self.goal.logins().iter().any(|login| login.name == role)
            || registered.is_some_and(|known| known.database == self.goal.desired.name)
                && role != self.goal.owner
    }

    fn owners(&self, actions: &mut Vec<Action>) {
        for schema in &self.within.schemas {
            if schema.owner == self.goal.owner || self.is_login_of_ours(&schema.owner) {
                continue;
            }
            if self.is_managed(&schema.name) && self.may_take(schema) {
                actions.push(Action::SchemaOwner {
                    schema: schema.name.clone(),
                    found: schema.owner.clone(),
                });
            } else if self.is_managed(&schema.name) {
                actions.push(out_of_reach(schema));
            } else {
                actions.push(foreign_owner("schema", &schema.name, &schema.owner));
            }
        }
        for group in &self.within.groups {
            if group.owner == self.goal.owner || self.is_login_of_ours(&group.owner) {
                continue;
            }
            for name in group.names.iter().take(20) {
                let name = format!("{}.{name}", group.schema);
                actions.push(foreign_owner("object", &name, &group.owner));
            }
            if group.names.len() > 20 {
                let name = format!("{}.*", group.schema);
                let count = format!("{} more objects", group.names.len() - 20);
                actions.push(foreign_owner(&count, &name, &group.owner));
            }
        }
    }

    /// A database without any schema is good for nothing: no migration finds a place, no extension
    /// either. `DROP OWNED BY` leaves one behind. A manifest that names schemas may do without `public`.
    fn last_schema(&self, actions: &mut Vec<Action>) {
        let exists = |schema: &Schema| schema.name == "public";
        if self.goal.desired.schemas.is_empty() && !self.within.schemas.iter().any(exists) {
            actions.push(Action::CreateSchema {
                schema: "public".to_owned(),
            });
        }
    }

    fn extensions(&self, actions: &mut Vec<Action>) {
        for extension in &self.goal.desired.extensions {
            if !self.within.extensions.contains(extension) {
                actions.push(Action::CreateExtension {
                    extension: extension.clone(),
                });
            }
        }
    }

    fn reassignments(&self, actions: &mut Vec<Action>) {
        let mut owned: BTreeMap<&str, usize> = BTreeMap::new();
        for schema in &self.within.schemas {
            *owned.entry(&schema.owner).or_default() += 1;
        }
        for group in &self.within.groups {
            *owned.entry(&group.owner).or_default() += group.names.len();
        }
        for (login, objects) in owned {
            if self.is_login_of_ours(login) {
                actions.push(Action::Reassign {
                    login: login.to_owned(),
                    objects,
                });
            }
        }
    }

    fn defaults(&self, actions: &mut Vec<Action>) {
        let owner = self.goal.owner.as_str();
        let found = |role: &str, schema: Option<&str>, kind: char| {
            self.within.defaults.iter().find(|defaults| {
                defaults.role == role
                    && defaults.schema.as_deref() == schema
                    && defaults.kind == kind
            })
        };
        for (kind, object) in DEFAULT_KINDS {
            let on = On::Defaults {
                role: owner.to_owned(),
                schema: None,
                kind,
            };
            let acl = match found(owner, None, kind) {
                Some(defaults) => defaults.acl.clone(),
                // Without an entry everybody may execute what the owner role makes.
                None if kind == 'f' => vec![public("EXECUTE", owner)],
                None => Vec::new(),
            };
            self.compare(
                &on,
                owner,
                &self.expected_objects(object, None, None),
                &acl,
                actions,
            );
        }
        let on = On::Defaults {
            role: owner.to_owned(),
            schema: None,
            kind: 'n',
        };
        let acl = found(owner, None, 'n').map_or(Vec::new(), |defaults| defaults.acl.clone());
        let mut usage = Rights::new();
        right(&mut usage, &self.goal.reader, &["USAGE"]);
        right(&mut usage, &self.goal.writer, &["USAGE"]);
        self.compare(&on, owner, &usage, &acl, actions);
        self.schema_defaults(actions);
        self.other_defaults(actions);
    }

    /// Default privileges in single schemas: those of accesses to a whole schema.
    fn schema_defaults(&self, actions: &mut Vec<Action>) {
        let owner = self.goal.owner.as_str();
        for schema in &self.within.schemas {
            for (kind, object) in DEFAULT_KINDS {
                let expected = self.limited_rights(object, &schema.name, None);
                let found = self.within.defaults.iter().find(|defaults| {
                    defaults.role == owner
                        && defaults.schema.as_deref() == Some(schema.name.as_str())
                        && defaults.kind == kind
                });
                let on = On::Defaults {
                    role: owner.to_owned(),
                    schema: Some(schema.name.clone()),
                    kind,
                };
                let acl = found.map_or(&[][..], |defaults| &defaults.acl);
                self.compare(&on, owner, &expected, acl, actions);
            }
        }
    }

    /// Default privileges that no access asks for: of kinds that we do not use, or of other roles.
    fn other_defaults(&self, actions: &mut Vec<Action>) {
        for defaults in &self.within.defaults {
            let of_owner = defaults.role == self.goal.owner;
            let global = defaults.schema.is_none();
            let handled = of_owner
                && (DEFAULT_KINDS.iter().any(|(kind, _)| *kind == defaults.kind)
                    || defaults.kind == 'n' && global);
            if handled {
                continue;
            }
            let on = On::Defaults {
                role: defaults.role.clone(),
                schema: defaults.schema.clone(),
                kind: defaults.kind,
            };
            let mut expected = Rights::new();
            if global && matches!(defaults.kind, 'T' | 'f') {
                // Types are usable and routines executable by everybody unless somebody decides
                // otherwise, and an entry repeats that.
                for grant in defaults.acl.iter().filter(|grant| grant.to.is_none()) {
                    expected
                        .entry(None)
                        .or_default()
                        .insert(grant.privilege.clone());
                }
            }
            let mut differences = Vec::new();
            self.compare(
                &on,
                &defaults.role,
                &expected,
                &defaults.acl,
                &mut differences,
            );
            if of_owner {
                actions.append(&mut differences);
            } else if !differences.is_empty() {
                actions.push(foreign_defaults(defaults));
            }
        }
    }

    fn schemas(&self, actions: &mut Vec<Action>) {
        for schema in &self.goal.desired.schemas {
            if !self
                .within
                .schemas
                .iter()
                .any(|found| found.name == *schema)
            {
                actions.push(Action::CreateSchema {
                    schema: schema.clone(),
                });
            }
        }
        for schema in &self.within.schemas {
            let coming = self.is_managed(&schema.name) && self.may_take(schema);
            if schema.owner != self.goal.owner && !coming {
                continue;
            }
            let acl = with_owner(schema, &self.goal.owner);
            let expected = self.expected_schema(&schema.name);
            let on = On::Schema(schema.name.clone());
            self.compare(&on, &self.goal.owner, &expected, &acl, actions);
        }
    }

    fn expected_schema(&self, schema: &str) -> Rights {
        let mut rights = Rights::new();
        right(&mut rights, &self.goal.reader, &["USAGE"]);
        right(&mut rights, &self.goal.writer, &["USAGE"]);
        for access in self.goal.limited() {
            if access
                .desired
                .on
                .iter()
                .any(|target| target.schema == schema)
            {
                right(&mut rights, &access.group, &["USAGE"]);
            }
        }
        if schema == "public" {
            // Extensions live here; without this a limited access could not use their types.
            rights.insert(None, ["USAGE".to_owned()].into());
        }
        rights
    }

    fn objects(&self, actions: &mut Vec<Action>) {
        for group in &self.within.groups {
            if group.owner != self.goal.owner {
                continue;
            }
            let expected =
                self.expected_objects(group.kind, Some(&group.schema), group.target.as_deref());
            let on = On::Objects {
                schema: group.schema.clone(),
                kind: group.kind,
                names: group.names.clone(),
            };
            self.compare(&on, &self.goal.owner, &expected, &group.acl, actions);
        }
    }

    fn columns(&self, actions: &mut Vec<Action>) {
        for column in self
            .within
            .columns
            .iter()
            .filter(|column| column.owner == self.goal.owner)
        {
            let on = On::Column {
                schema: column.schema.clone(),
                table: column.table.clone(),
                column: column.column.clone(),
            };
            self.compare(&on, &self.goal.owner, &Rights::new(), &column.acl, actions);
        }
    }

    /// Accesses to what does not exist yet. They are granted once it does.
    fn pending(&self, actions: &mut Vec<Action>) {
        let mut targets = self.goal.targets();
        targets.sort();
        targets.dedup();
        for AccessTarget { schema, table } in targets {
            let schema_exists = self
                .within
                .schemas
                .iter()
                .any(|found| found.name == *schema);
            let coming = self.goal.desired.schemas.contains(schema);
            let is_table = |group: &Group| {
                group.kind == ObjectKind::Table && group.schema == *schema && group.target == *table
            };
            let (key, what) = match table {
                None if schema_exists || coming => continue,
                Some(_) if self.within.groups.iter().any(is_table) => continue,
                None => (schema.clone(), format!("The schema {schema:?}")),
                Some(table) => (
                    format!("{schema}.{table}"),
                    format!("The table {schema}.{table}"),
                ),
            };
            actions.push(Action::Report {
                key: format!("target.pending:{key}"),
                message: format!("{what} does not exist yet; its access is granted once it does."),
            });
        }
    }

    /// Rights on objects of a kind: of everything when `schema` is absent, of one schema's objects,
    /// or of one named table.
    fn expected_objects(
        &self,
        kind: ObjectKind,
        schema: Option<&str>,
        target: Option<&str>,
    ) -> Rights {
        let mut rights = match schema {
            Some(schema) => self.limited_rights(kind, schema, target),
            None => Rights::new(),
        };
        right(
            &mut rights,
            &self.goal.reader,
            privileges(kind, AccessLevel::ReadOnly),
        );
        right(
            &mut rights,
            &self.goal.writer,
            privileges(kind, AccessLevel::ReadWrite),
        );
        rights
    }

    fn limited_rights(&self, kind: ObjectKind, schema: &str, target: Option<&str>) -> Rights {
        let mut rights = Rights::new();
        for access in self.goal.limited() {
            let meant = access.desired.on.iter().any(|on| {
                on.schema == schema && (on.table.is_none() || on.table.as_deref() == target)
            });
            if meant {
                right(
                    &mut rights,
                    &access.group,
                    privileges(kind, access.desired.level),
                );
            }
        }
        rights
    }
}

/// What a level may do with an object. No level below owner may define, truncate or refer to one.
fn privileges(kind: ObjectKind, level: AccessLevel) -> &'static [&'static str] {
    match (kind, level) {
        (ObjectKind::Table | ObjectKind::Sequence, AccessLevel::ReadOnly) => &["SELECT"],
        (ObjectKind::Table, _) => &["SELECT", "INSERT", "UPDATE", "DELETE"],
        (ObjectKind::Sequence, _) => &["SELECT", "USAGE", "UPDATE"],
        (ObjectKind::Routine, _) => &["EXECUTE"],
    }
}

/// A schema's list as it will be once the owner role owns it: the server rewrites the old owner's
/// entries in the same way.
fn with_owner(schema: &Schema, owner: &str) -> Vec<Grant> {
    let renamed = |name: &str| if name == schema.owner { owner } else { name }.to_owned();
    let grants = schema.acl.iter().map(|grant| Grant {
        to: grant.to.as_deref().map(renamed),
        by: renamed(&grant.by),
        ..grant.clone()
    });
    grants.collect()
}

fn public(privilege: &str, by: &str) -> Grant {
    Grant {
        to: None,
        by: by.to_owned(),
        privilege: privilege.to_owned(),
        grantable: false,
    }
}

fn out_of_reach(schema: &Schema) -> Action {
    let everybody = |grant: &Grant| grant.to.is_none() && grant.privilege == "CREATE";
    let danger = if schema.acl.iter().any(everybody) {
        " and everybody who may connect can create objects in it"
    } else {
        ""
    };
    Action::Report {
        key: format!("schema.owner:{}", schema.name),
        message: format!(
            "The schema {:?} belongs to {:?}{danger}. The admin may not change that; a superuser can: \
             ALTER SCHEMA {} OWNER TO the owner role of the database.",
            schema.name,
            schema.owner,
            Identifier::from_catalog(&schema.name)
        ),
    }
}

/// Another role's rule for what it is still to make. What it makes belongs to it, so nothing of ours
/// is opened by it; but somebody has made it, and should know that it is seen.
fn foreign_defaults(defaults: &Defaults) -> Action {
    let within = defaults
        .schema
        .as_ref()
        .map(|schema| format!(" in the schema {schema:?}"))
        .unwrap_or_default();
    Action::Report {
        key: format!(
            "defaults.foreign:{}:{}:{}",
            defaults.role,
            defaults.schema.as_deref().unwrap_or_default(),
            defaults.kind
        ),
        message: format!(
            "The role {:?} has default privileges of its own{within}, which Freehold does not manage; \
             ALTER DEFAULT PRIVILEGES FOR ROLE {} … REVOKE … takes them back.",
            defaults.role,
            Identifier::from_catalog(&defaults.role)
        ),
    }
}

fn foreign_owner(what: &str, name: &str, owner: &str) -> Action {
    Action::Report {
        key: format!("owner.foreign:{name}:{owner}"),
        message: format!(
            "The {what} {name} belongs to {owner:?}; Freehold manages no rights on it."
        ),
    }
}
