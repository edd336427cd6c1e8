//! The plan against a model of the catalog: whatever was there, applying plans ends, and ends with
//! exactly the rights that are desired.

use std::collections::{BTreeMap, BTreeSet};

use freehold_model::{
    ControlPlaneId, Entropy, Name, Secret, ServerIdentity, Uid,
    kinds::{AccessLevel, AccessTarget, Limits, Slot},
};
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::{
    DesiredAccess, DesiredLogin, Migrator, Stamp,
    postgres::{
        connect::Version,
        inside::{Defaults, Group, Inside, ObjectKind, Schema},
        observe::{Cluster, Grant, Grantee, Membership, RegisteredRole, RoleFacts, Setting},
        registry::{RegistryRow, RowState},
    },
};

const ADMIN: &str = "admin";

#[derive(Debug)]
struct Counting(u8);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0);
    }
}

fn uid(seed: u8) -> Uid {
    Uid::generate(Timestamp::UNIX_EPOCH, &Counting(seed))
}

fn stamp() -> Stamp {
    let name = |text: &str| Name::new(text).expect("a name");
    Stamp {
        control_plane: ControlPlaneId::generate(Timestamp::UNIX_EPOCH, &Counting(1)),
        environment: name("prod"),
        team: name("shop"),
        database: name("main"),
        uid: uid(1),
    }
}

/// The server before anything is made.
fn blank(major: u32, superuser: bool) -> Observed {
    let row = RegistryRow {
        name: "shop".into(),
        stamp: stamp(),
        server: ServerIdentity("1".into()),
        epoch: 1,
        actor: "test".into(),
        state: RowState::Reserved,
        database_oid: None,
    };
    Observed {
        version: Version {
            major,
            text: major.to_string(),
        },
        superuser,
        identity: ServerIdentity("1".into()),
        cluster: Cluster {
            admin: ADMIN.into(),
            may_limit_temp_files: superuser,
            rows: BTreeMap::from([("shop".to_owned(), row)]),
            registered_roles: BTreeMap::new(),
            databases: BTreeMap::new(),
            roles: BTreeMap::new(),
            memberships: Vec::new(),
            settings: Vec::new(),
            sessions: Vec::new(),
            verifiers: None,
        },
        inside: None,
    }
}

fn entry(acl: &mut Vec<Grant>, to: &Grantee, by: &str, privileges: &BTreeSet<String>) {
    for privilege in privileges {
        acl.retain(|grant| grant.to != *to || grant.privilege != *privilege);
        acl.push(Grant {
            to: to.clone(),
            by: by.to_owned(),
            privilege: privilege.clone(),
            grantable: false,
        });
    }
}

/// The list that a right is in, made as the server makes it when there is none.
fn list<'s>(seen: &'s mut Observed, on: &On) -> Option<&'s mut Vec<Grant>> {
    if *on == On::Database {
        return seen
            .cluster
            .databases
            .get_mut("shop")
            .map(|facts| &mut facts.acl);
    }
    let within = seen.inside.as_mut()?;
    match on {
        On::Database => None,
        On::Schema(name) => {
            let schema = within
                .schemas
                .iter_mut()
                .find(|schema| schema.name == *name)?;
            Some(&mut schema.acl)
        }
        On::Objects {
            schema,
            kind,
            names,
        } => {
            let group = within.groups.iter_mut().find(|group| {
                group.schema == *schema && group.kind == *kind && group.names == *names
            })?;
            Some(&mut group.acl)
        }
        On::Column {
            schema,
            table,
            column,
        } => {
            let found = within
                .columns
                .iter_mut()
                .find(|c| c.schema == *schema && c.table == *table && c.column == *column)?;
            Some(&mut found.acl)
        }
        On::Defaults { role, schema, kind } => {
            let at = within
                .defaults
                .iter()
                .position(|d| d.role == *role && d.schema == *schema && d.kind == *kind);
            let at = at.unwrap_or_else(|| {
                let mut acl = Vec::new();
                if schema.is_none() && *kind == 'f' {
                    entry(&mut acl, &None, role, &["EXECUTE".to_owned()].into());
                }
                within.defaults.push(Defaults {
                    role: role.clone(),
                    schema: schema.clone(),
                    kind: *kind,
                    acl,
                });
                within.defaults.len() - 1
            });
            Some(&mut within.defaults[at].acl)
        }
    }
}

/// What the server would do.
#[expect(clippy::too_many_lines, reason = "one effect for each action")]
fn perform(seen: &mut Observed, goal: &Goal<'_>, action: &Action) {
    match action {
        Action::CreateRole { role, inherit, .. } => create_role(seen, role, *inherit),
        Action::AlterRole { role, changes } => {
            let facts = seen.cluster.roles.get_mut(role).expect("it exists");
            for change in changes {
                match change {
                    RoleChange::Login(login) => facts.login = *login,
                    RoleChange::Inherit(inherit) => facts.inherit = *inherit,
                    RoleChange::Without(power) => drop(facts.powers.remove(power)),
                    RoleChange::Connections => facts.connection_limit = -1,
                    RoleChange::ValidUntil(until) => facts.valid_until = *until,
                }
            }
        }
        Action::SetPassword {
            login, fingerprint, ..
        } => {
            let registered = seen
                .cluster
                .registered_roles
                .get_mut(login)
                .expect("registered");
            registered.verifier = Some(fingerprint.clone());
        }
        Action::GrantMembership {
            role,
            member,
            inherit,
            set,
        } => {
            let options = (seen.version.major >= 16).then_some((*inherit, *set));
            member_of(seen, role, member, ADMIN, options);
        }
        Action::RevokeMembership { role, member, by } => seen
            .cluster
            .memberships
            .retain(|m| m.role != *role || m.member != *member || m.by != *by),
        Action::Set {
            role,
            in_database,
            name,
            value,
        } => {
            let database = in_database.then(|| "shop".to_owned());
            seen.cluster
                .settings
                .retain(|s| s.role != *role || s.database != database || s.name != *name);
            if let Some(value) = value {
                seen.cluster.settings.push(Setting {
                    role: role.clone(),
                    database,
                    name: name.clone(),
                    value: value.clone(),
                });
            }
        }
        Action::CreateDatabase => {
            let mut facts = database::newborn(ADMIN);
            facts.oid = 77;
            seen.cluster.databases.insert("shop".into(), facts);
            let row = seen.cluster.rows.get_mut("shop").expect("reserved");
            (row.state, row.database_oid) = (RowState::Created, Some(77));
        }
        Action::DatabaseConnections { limit, .. } => {
            seen.cluster
                .databases
                .get_mut("shop")
                .expect("made")
                .connection_limit = *limit;
        }
        Action::DatabaseOwner { .. }
        | Action::DatabaseAllow
        | Action::RecordDatabase
        | Action::Report { .. } => {}
        Action::EndSessions { .. } => seen.cluster.sessions.clear(),
        Action::Grant { on, to, privileges } => {
            entry(
                list(seen, on).expect("it exists"),
                to,
                &goal.owner,
                privileges,
            );
        }
        Action::Revoke {
            on,
            from,
            privileges,
            option_only,
        } => {
            for grant in list(seen, on).expect("it exists") {
                if grant.to == *from && privileges.contains(&grant.privilege) {
                    grant.grantable = false;
                }
            }
            if !option_only {
                let acl = list(seen, on).expect("it exists");
                acl.retain(|grant| grant.to != *from || !privileges.contains(&grant.privilege));
            }
        }
        Action::CreateSchema { schema } => {
            let within = seen.inside.as_mut().expect("inside");
            let usual = within
                .defaults
                .iter()
                .find(|d| d.kind == 'n' && d.schema.is_none());
            let acl = usual.map_or(Vec::new(), |defaults| defaults.acl.clone());
            within.schemas.push(Schema {
                name: schema.clone(),
                owner: goal.owner.clone(),
                acl,
            });
        }
        Action::SchemaOwner { schema, .. } => {
            let within = seen.inside.as_mut().expect("inside");
            let found = within
                .schemas
                .iter_mut()
                .find(|s| s.name == *schema)
                .expect("it exists");
            found.owner.clone_from(&goal.owner);
        }
        Action::CreateExtension { extension } => {
            let within = seen.inside.as_mut().expect("inside");
            within.extensions.insert(extension.clone());
        }
        Action::Reassign { login, .. } => {
            let within = seen.inside.as_mut().expect("inside");
            for group in within
                .groups
                .iter_mut()
                .filter(|group| group.owner == *login)
            {
                group.owner.clone_from(&goal.owner);
            }
        }
    }
}

fn create_role(seen: &mut Observed, role: &str, inherit: bool) {
    let oid = 1000 + u32::try_from(seen.cluster.roles.len()).expect("few");
    let facts = RoleFacts {
        oid,
        login: false,
        inherit,
        powers: BTreeSet::new(),
        connection_limit: -1,
        valid_until: None,
    };
    seen.cluster.roles.insert(role.to_owned(), facts);
    let registered = RegisteredRole {
        database: "shop".into(),
        oid,
        verifier: None,
    };
    seen.cluster
        .registered_roles
        .insert(role.to_owned(), registered);
    if !seen.superuser && seen.version.major >= 16 {
        member_of(seen, role, ADMIN, "postgres", Some((false, false)));
        seen.cluster.memberships.last_mut().expect("pushed").admin = true;
        member_of(seen, role, ADMIN, ADMIN, Some((true, true)));
    }
}

fn member_of(
    seen: &mut Observed,
    role: &str,
    member: &str,
    by: &str,
    options: Option<(bool, bool)>,
) {
    seen.cluster
        .memberships
        .retain(|m| m.role != role || m.member != member || m.by != by);
    seen.cluster.memberships.push(Membership {
        role: role.to_owned(),
        member: member.to_owned(),
        by: by.to_owned(),
        admin: false,
        keeper: member == ADMIN,
        inherit: options.map(|(inherit, _)| inherit),
        set: options.map(|(_, set)| set),
    });
}

/// A database of the goal's roles as a migration and a careless hand may have left it.
fn lived_in(owner: &str, mess: &[(usize, usize)]) -> Inside {
    let acl = |entries: &[(Option<&str>, &str)]| -> Vec<Grant> {
        entries
            .iter()
            .map(|(to, privilege)| Grant {
                to: to.map(str::to_owned),
                by: owner.to_owned(),
                privilege: (*privilege).to_owned(),
                grantable: mess.len() % 2 == 1,
            })
            .collect()
    };
    let who = [
        None,
        Some("shop_reader"),
        Some("shop_writer"),
        Some("a0_a"),
        Some("tenant"),
    ];
    let what = ["SELECT", "INSERT", "TRUNCATE", "REFERENCES"];
    let entries: Vec<_> = mess
        .iter()
        .map(|(to, privilege)| (who[to % who.len()], what[privilege % what.len()]))
        .collect();
    let group = |schema: &str, kind, target: Option<&str>, names: &[&str]| Group {
        schema: schema.into(),
        kind,
        owner: owner.to_owned(),
        target: target.map(str::to_owned),
        acl: if kind == ObjectKind::Table {
            acl(&entries)
        } else {
            Vec::new()
        },
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    Inside {
        schemas: vec![Schema {
            name: "public".into(),
            owner: "pg_database_owner".into(),
            acl: acl(&[(None, "USAGE"), (None, "CREATE")]),
        }],
        groups: vec![
            group("public", ObjectKind::Table, Some("item"), &["item"]),
            group(
                "public",
                ObjectKind::Sequence,
                Some("item"),
                &["item_id_seq"],
            ),
            group("public", ObjectKind::Table, None, &["x", "y"]),
            group("public", ObjectKind::Routine, None, &["f(integer)"]),
        ],
        tenants: ["tenant".to_owned()].into(),
        ..Inside::default()
    }
}

fn desire() -> impl Strategy<Value = DesiredDatabase> {
    let level = prop_oneof![
        Just(AccessLevel::ReadOnly),
        Just(AccessLevel::ReadWrite),
        Just(AccessLevel::Owner)
    ];
    let on = prop_oneof![
        Just(vec![]),
        Just(vec![("public", Some("item"))]),
        Just(vec![("public", None)]),
        Just(vec![("later", Some("none")), ("stock", None)]),
    ];
    let accesses = prop::collection::vec((level, on, any::<bool>()), 0..4);
    (
        accesses,
        any::<bool>(),
        any::<bool>(),
        prop::option::of(1_u32..9),
        any::<bool>(),
    )
        .prop_map(
            |(accesses, open, migrating, limit, schema)| DesiredDatabase {
                name: "shop".into(),
                stamp: stamp(),
                state: if open {
                    DesiredState::Open
                } else {
                    DesiredState::Closed
                },
                limits: Limits {
                    connections: limit,
                    statement_timeout_ms: limit,
                    temp_files_mib: limit,
                    ..Limits::default()
                },
                extensions: Vec::new(),
                schemas: schema.then(|| "stock".to_owned()).into_iter().collect(),
                accesses: accesses
                    .into_iter()
                    .enumerate()
                    .map(|(at, (level, on, enabled))| desired_access(at, level, &on, enabled))
                    .collect(),
                migrator: Migrator {
                    login: "shop_migrator".into(),
                    state: state(migrating),
                },
            },
        )
}

fn state(enabled: bool) -> LoginState {
    if enabled {
        LoginState::Enabled {
            password: Secret::new("x"),
            valid_until: None,
        }
    } else {
        LoginState::Disabled
    }
}

fn desired_access(
    at: usize,
    level: AccessLevel,
    on: &[(&str, Option<&str>)],
    enabled: bool,
) -> DesiredAccess {
    let on = if level == AccessLevel::Owner {
        &[][..]
    } else {
        on
    };
    let login = |slot, suffix: &str, enabled| DesiredLogin {
        slot,
        name: format!("a{at}_{suffix}"),
        state: state(enabled),
    };
    DesiredAccess {
        uid: uid(10 + u8::try_from(at).expect("few")),
        level,
        on: on
            .iter()
            .map(|(schema, table)| AccessTarget {
                schema: (*schema).into(),
                table: table.map(str::to_owned),
            })
            .collect(),
        logins: [login(Slot::A, "a", enabled), login(Slot::B, "b", !enabled)],
    }
}

/// Plans and performs until there is nothing to do; the number of rounds is bounded.
fn settle(
    goal: &Goal<'_>,
    seen: &mut Observed,
    mess: &[(usize, usize)],
) -> Result<(), TestCaseError> {
    for _ in 0..5 {
        let actions = plan(goal, seen).expect("it is ours");
        if actions
            .iter()
            .all(|action| matches!(action, Action::Report { .. }))
        {
            return Ok(());
        }
        for action in &actions {
            perform(seen, goal, action);
        }
        let made = seen.cluster.databases.contains_key("shop");
        if made && seen.inside.is_none() {
            seen.inside = Some(lived_in(&goal.owner, mess));
        }
    }
    let left = plan(goal, seen).expect("it is ours");
    Err(TestCaseError::fail(format!(
        "it does not settle: {left:#?}"
    )))
}

fn privileges_of(seen: &Observed, role: &str) -> BTreeSet<String> {
    let within = seen.inside.as_ref();
    let acls = within
        .into_iter()
        .flat_map(|within| within.groups.iter().map(|group| &group.acl));
    let grants = acls
        .flatten()
        .filter(|grant| grant.to.as_deref() == Some(role));
    grants.map(|grant| grant.privilege.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn applying_the_plan_leaves_nothing_to_plan(
        first in desire(),
        second in desire(),
        major in 14_u32..=18,
        superuser in any::<bool>(),
        mess in prop::collection::vec((0_usize..5, 0_usize..4), 0..6),
    ) {
        let mut seen = blank(major, superuser);
        for desired in [&first, &second] {
            let goal = Goal::new(desired).expect("it is right");
            settle(&goal, &mut seen, &mess)?;
            if !goal.is_open() {
                let facts = seen.cluster.databases.get("shop");
                prop_assert!(facts.is_none_or(|facts| facts.connection_limit == 0));
                prop_assert!(facts.is_none_or(|facts| facts.acl.iter().all(|g| g.to.as_deref() == Some(ADMIN))));
            } else {
                let reader = privileges_of(&seen, &goal.reader);
                prop_assert_eq!(reader, ["EXECUTE", "SELECT"].map(str::to_owned).into());
                prop_assert!(!privileges_of(&seen, &goal.writer).contains("TRUNCATE"));
                // A login has no right of its own; before it is ours, it is a stranger's.
                if goal.role_names().contains(&"a0_a".to_owned()) {
                    prop_assert!(privileges_of(&seen, "a0_a").is_empty());
                }
                prop_assert!(privileges_of(&seen, "tenant").is_empty());
            }
            for login in goal.logins() {
                let enabled = matches!(login.state, LoginState::Enabled { .. });
                prop_assert_eq!(seen.cluster.roles[login.name].login, enabled);
            }
        }
    }
}
