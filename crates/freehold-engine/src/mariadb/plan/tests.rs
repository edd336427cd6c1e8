//! Applying a plan and planning again gives nothing, from whatever the server looks like.
//!
//! The server is a model here: it does with the catalogs what MariaDB does with an action.

use std::collections::BTreeSet;

use freehold_model::{
    ControlPlaneId, Entropy, Name, Secret, ServerIdentity, Uid,
    kinds::{AccessLevel, AccessTarget, Limits, Slot},
};
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::{
    DesiredLogin, Migrator, Stamp,
    mariadb::{
        native,
        observe::{AccountFacts, DatabaseGrant, Registered, RoleGrant, TableGrant},
        registry::RegistryRow,
    },
};

#[derive(Debug)]
struct Fixed;

impl Entropy for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

fn uid() -> Uid {
    Uid::generate(Timestamp::UNIX_EPOCH, &Fixed)
}

fn login(slot: Slot, name: &str, open: bool) -> DesiredLogin {
    DesiredLogin {
        slot,
        name: name.into(),
        state: state(name, open),
    }
}

fn state(name: &str, open: bool) -> LoginState {
    if open {
        LoginState::Enabled {
            password: Secret::new(format!("pass of {name}")),
            valid_until: None,
        }
    } else {
        LoginState::Disabled
    }
}

fn desired(level: AccessLevel, tables: &[&str], slot_a: bool, open: bool) -> DesiredDatabase {
    let name = |text: &str| Name::new(text).expect("a name");
    DesiredDatabase {
        name: "team_a".into(),
        stamp: Stamp {
            control_plane: ControlPlaneId::generate(Timestamp::UNIX_EPOCH, &Fixed),
            environment: name("prod"),
            team: name("team"),
            database: name("a"),
            uid: uid(),
        },
        state: if open {
            DesiredState::Open
        } else {
            DesiredState::Closed
        },
        limits: Limits {
            connections: Some(5),
            ..Limits::default()
        },
        extensions: Vec::new(),
        schemas: Vec::new(),
        accesses: vec![DesiredAccess {
            uid: uid(),
            level,
            on: tables
                .iter()
                .map(|table| AccessTarget {
                    schema: String::new(),
                    table: Some((*table).to_owned()),
                })
                .collect(),
            logins: [
                login(Slot::A, "app_a", slot_a),
                login(Slot::B, "app_b", !slot_a),
            ],
        }],
        migrator: Migrator {
            login: "team_a_migrator".into(),
            state: LoginState::Disabled,
        },
    }
}

/// What the server holds when a name was reserved.
fn reserved(desired: &DesiredDatabase) -> Cluster {
    let row = RegistryRow {
        name: desired.name.clone(),
        stamp: desired.stamp.clone(),
        server: ServerIdentity("s".into()),
        epoch: 1,
        actor: "test".into(),
        state: RowState::Reserved,
    };
    Cluster {
        admin: "admin".into(),
        rows: [(desired.name.clone(), row)].into(),
        ..Cluster::default()
    }
}

/// Does what the server does.
#[expect(clippy::too_many_lines, reason = "one arm for each action")]
fn perform(cluster: &mut Cluster, desired: &DesiredDatabase, action: &Action) {
    let account = |login: &str| Account::from_catalog(login, "%");
    match action {
        Action::CreateAccount {
            login,
            birthmark,
            limits,
            ..
        } => {
            cluster.registered.insert(
                login.clone(),
                Registered {
                    database: desired.name.clone(),
                    made: true,
                    migrator: false,
                    birthmark: birthmark.clone(),
                    stale_sessions: false,
                },
            );
            let facts = AccountFacts {
                account: account(login),
                plugin: native::PLUGIN.into(),
                auth: birthmark.clone(),
                other_ways: false,
                expired: false,
                locked: true,
                global: 0,
                connections: limits.connections,
                statement_ms: limits.statement_ms,
                lasting: true,
            };
            cluster
                .accounts
                .entry(login.clone())
                .or_default()
                .push(facts);
        }
        Action::RecordAccount { login } => {
            cluster.registered.get_mut(login).expect("known").made = true;
        }
        Action::AlterAccount { login, changes } => {
            let facts = &mut cluster.accounts.get_mut(login).expect("it exists")[0];
            for change in changes {
                match change {
                    AccountChange::Lock(locked) => facts.locked = *locked,
                    AccountChange::Connections { limit, .. } => facts.connections = *limit,
                    AccountChange::StatementTime { limit, .. } => facts.statement_ms = *limit,
                    AccountChange::Lasting => facts.lasting = true,
                }
            }
        }
        Action::SetPassword { login, hash } => {
            let facts = &mut cluster.accounts.get_mut(login).expect("it exists")[0];
            hash.expose().clone_into(&mut facts.auth);
            native::PLUGIN.clone_into(&mut facts.plugin);
            facts.other_ways = false;
            facts.expired = false;
        }
        Action::CreateDatabase | Action::RecordDatabase | Action::MarkDatabase => {
            cluster
                .databases
                .insert(desired.name.clone(), mark(desired));
            let row = cluster.rows.get_mut(&desired.name).expect("reserved");
            row.state = RowState::Created;
        }
        Action::Grant { on, to, privileges } => grant(cluster, desired, on, to, privileges),
        Action::Revoke {
            on,
            from,
            privileges,
            ends,
        } => {
            revoke(cluster, desired, on, from, privileges);
            if let Some(known) = cluster.registered.get_mut(&from.user) {
                known.stale_sessions |= ends;
            }
        }
        Action::RevokeRole { role, from } => cluster
            .roles
            .retain(|grant| grant.role != *role || grant.to != *from),
        Action::RevokeProxy { account, proxied } => cluster
            .proxies
            .retain(|grant| grant.account != *account || grant.proxied != *proxied),
        Action::EndSessions { login, .. } => {
            cluster.sessions.remove(login);
            if let Some(known) = cluster.registered.get_mut(login) {
                known.stale_sessions = false;
            }
        }
        Action::Report { .. } => {}
    }
}

fn pattern(desired: &DesiredDatabase, on: &On) -> String {
    match on {
        On::Pattern(pattern) => pattern.clone(),
        _ => Pattern::of(&desired.name)
            .expect("short")
            .as_str()
            .to_owned(),
    }
}

fn grant(
    cluster: &mut Cluster,
    desired: &DesiredDatabase,
    on: &On,
    to: &str,
    privileges: &BTreeSet<String>,
) {
    let to = Account::from_catalog(to, "%");
    if let On::Table { database, table } = on {
        let found = cluster
            .table_grants
            .iter_mut()
            .find(|grant| grant.to == to && grant.database == *database && grant.table == *table);
        match found {
            Some(found) => found.privileges.extend(privileges.iter().cloned()),
            None => cluster.table_grants.push(TableGrant {
                to,
                database: database.clone(),
                table: table.clone(),
                privileges: privileges.clone(),
            }),
        }
        return;
    }
    let pattern = pattern(desired, on);
    let mut grants = cluster.database_grants.iter_mut();
    match grants.find(|grant| grant.to == to && grant.pattern == pattern) {
        Some(found) => found.privileges.extend(privileges.iter().cloned()),
        None => cluster.database_grants.push(DatabaseGrant {
            to,
            pattern,
            privileges: privileges.clone(),
        }),
    }
}

fn revoke(
    cluster: &mut Cluster,
    desired: &DesiredDatabase,
    on: &On,
    from: &Account,
    privileges: &BTreeSet<String>,
) {
    match on {
        On::Server => {
            let accounts = cluster.accounts.get_mut(&from.user).into_iter().flatten();
            for facts in accounts.filter(|facts| facts.account == *from) {
                facts.global = 0;
            }
        }
        On::Table { database, table } => {
            for grant in &mut cluster.table_grants {
                if grant.to == *from && grant.database == *database && grant.table == *table {
                    grant.privileges.retain(|right| !privileges.contains(right));
                }
            }
        }
        On::Database | On::Pattern(_) => {
            let pattern = pattern(desired, on);
            for grant in &mut cluster.database_grants {
                if grant.to == *from && grant.pattern == pattern {
                    grant.privileges.retain(|right| !privileges.contains(right));
                }
            }
            cluster
                .database_grants
                .retain(|grant| !grant.privileges.is_empty());
        }
        On::Column { .. } | On::Routine { .. } => {}
    }
}

/// Plans and performs, at most thrice, and returns what is left.
fn settle(cluster: &mut Cluster, desired: &DesiredDatabase, within: &Inside) -> Vec<Action> {
    let goal = Goal::new(desired).expect("valid");
    for _ in 0..3 {
        let actions = plan(&goal, cluster, Some(within)).expect("planned");
        for action in &actions {
            perform(cluster, desired, action);
        }
    }
    plan(&goal, cluster, Some(within)).expect("planned")
}

fn words() -> impl Strategy<Value = BTreeSet<String>> {
    let all: Vec<String> = rights::all().into_iter().collect();
    proptest::sample::subsequence(all, 1..4).prop_map(|words| words.into_iter().collect())
}

/// What a hand may have done.
#[derive(Debug, Clone)]
enum Hand {
    Grant(&'static str, &'static str, BTreeSet<String>),
    GrantTable(&'static str, &'static str, BTreeSet<String>),
    Role(&'static str),
    Global(&'static str),
    Unlock(&'static str),
    Password(&'static str),
    Expire(&'static str),
    Sessions(&'static str),
    Drop(&'static str),
    Mark,
}

const WHO: [&str; 4] = ["app_a", "app_b", "team_a_migrator", "snoop"];

fn hand() -> impl Strategy<Value = Hand> {
    let who = || proptest::sample::select(WHO.to_vec());
    let ours = || proptest::sample::select(WHO[..3].to_vec());
    let patterns = vec!["team\\_a", "team_a", "other", "team\\_a%"];
    prop_oneof![
        (proptest::sample::select(patterns), who(), words())
            .prop_map(|(on, who, words)| Hand::Grant(on, who, words)),
        (proptest::sample::select(vec!["t", "u"]), who(), words())
            .prop_map(|(on, who, words)| Hand::GrantTable(on, who, words)),
        ours().prop_map(Hand::Role),
        ours().prop_map(Hand::Global),
        ours().prop_map(Hand::Unlock),
        ours().prop_map(Hand::Password),
        ours().prop_map(Hand::Expire),
        ours().prop_map(Hand::Sessions),
        ours().prop_map(Hand::Drop),
        Just(Hand::Mark),
    ]
}

fn meddle(cluster: &mut Cluster, desired: &DesiredDatabase, hand: &Hand) {
    let first = |cluster: &mut Cluster, login: &str, with: fn(&mut AccountFacts)| {
        if let Some(facts) = cluster
            .accounts
            .get_mut(login)
            .and_then(|all| all.first_mut())
        {
            with(facts);
        }
    };
    match hand {
        Hand::Grant(on, who, words) => {
            grant(cluster, desired, &On::Pattern((*on).into()), who, words);
        }
        Hand::GrantTable(table, who, words) => {
            let on = On::Table {
                database: desired.name.clone(),
                table: (*table).into(),
            };
            grant(cluster, desired, &on, who, words);
        }
        Hand::Role(who) => cluster.roles.push(RoleGrant {
            role: "r".into(),
            to: Account::from_catalog(who, "%"),
        }),
        Hand::Global(who) => first(cluster, who, |facts| facts.global = 3),
        Hand::Unlock(who) => first(cluster, who, |facts| facts.locked = false),
        Hand::Password(who) => first(cluster, who, |facts| facts.other_ways = true),
        Hand::Expire(who) => first(cluster, who, |facts| facts.expired = true),
        Hand::Sessions(who) => {
            cluster.sessions.insert((*who).into(), 2);
        }
        Hand::Drop(who) => {
            cluster.accounts.remove(*who);
        }
        Hand::Mark => {
            cluster.databases.insert(desired.name.clone(), "x".into());
        }
    }
}

fn level() -> impl Strategy<Value = AccessLevel> {
    proptest::sample::select(vec![AccessLevel::ReadOnly, AccessLevel::ReadWrite])
}

proptest! {
    #[test]
    fn a_plan_settles_whatever_hands_did(
        first in (level(), any::<bool>(), any::<bool>()),
        second in (level(), any::<bool>(), any::<bool>(), any::<bool>()),
        hands in proptest::collection::vec(hand(), 0..6),
    ) {
        let tables: &[&str] = if first.1 { &["t", "u"] } else { &[] };
        let before = desired(first.0, tables, first.2, true);
        let within = Inside { tables: ["t".to_owned()].into(), ..Inside::default() };
        let mut cluster = reserved(&before);
        settle(&mut cluster, &before, &within);
        for hand in &hands {
            meddle(&mut cluster, &before, hand);
        }
        let tables: &[&str] = if second.1 { &["t", "u"] } else { &[] };
        let after = desired(second.0, tables, second.2, second.3);
        let left = settle(&mut cluster, &after, &within);
        let reports = left.iter().all(|action| matches!(action, Action::Report { .. }));
        prop_assert!(reports, "{left:?}");

        // Nobody but the active slot may enter, and it has what its access says and no more.
        let active = if second.2 { "app_a" } else { "app_b" };
        for (login, facts) in &cluster.accounts {
            let open = second.3 && login == active;
            prop_assert_eq!(facts[0].locked, !open, "{}", login);
            prop_assert_eq!(facts[0].global, 0);
            if !open {
                prop_assert_eq!(cluster.sessions.get(login), None);
            }
        }
        for grant in &cluster.database_grants {
            if WHO[..2].contains(&grant.to.user.as_str()) {
                prop_assert_eq!(&grant.pattern, "team\\_a");
                prop_assert_eq!(&grant.privileges, &rights::on_database(second.0));
                prop_assert!(!second.1);
            }
        }
    }
}

#[test]
fn logins_are_opened_after_everything_else() {
    let wanted = desired(AccessLevel::ReadWrite, &[], true, true);
    let cluster = reserved(&wanted);
    let goal = Goal::new(&wanted).expect("valid");
    let actions = plan(&goal, &cluster, None).expect("planned");
    let unlock = actions.iter().position(|action| {
        matches!(action, Action::AlterAccount { changes, .. }
            if changes.contains(&AccountChange::Lock(false)))
    });
    let last_grant = actions
        .iter()
        .rposition(|action| matches!(action, Action::Grant { .. } | Action::SetPassword { .. }));
    assert!(unlock > last_grant && last_grant.is_some(), "{actions:?}");
}

#[test]
fn nobody_elses_account_is_taken() {
    let wanted = desired(AccessLevel::ReadWrite, &[], true, true);
    let mut cluster = reserved(&wanted);
    settle(&mut cluster, &wanted, &Inside::default());
    let goal = Goal::new(&wanted).expect("valid");
    // Half made, with another birthmark than ours.
    let known = cluster.registered.get_mut("app_a").expect("known");
    known.made = false;
    let error = plan(&goal, &cluster, None).expect_err("it is not the one that we made");
    assert!(matches!(error.fault, Fault::NameTaken { .. }), "{error}");
    // Half made, with ours: the next look finishes it.
    let facts = &mut cluster.accounts.get_mut("app_a").expect("it exists")[0];
    facts.auth = native::birthmark(wanted.stamp.uid, "app_a");
    let actions = plan(&goal, &cluster, None).expect("planned");
    assert!(actions.contains(&Action::RecordAccount {
        login: "app_a".into()
    }));
    // Not registered at all.
    cluster.registered.remove("app_a");
    plan(&goal, &cluster, None).expect_err("it is somebody's");
}
