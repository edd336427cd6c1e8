//! The plan leads to where it should, whatever was seen, and asks for nothing once it is there.

use std::collections::BTreeMap;

use freehold_model::{ControlPlaneId, Entropy, Name, Secret, ServerIdentity, Uid, kinds::Slot};
use proptest::prelude::*;

use super::*;
use crate::{
    DesiredAccess, DesiredLogin, Migrator, Stamp,
    redis::{
        observe::Selector,
        registry::{Home, RegistryRow, Standing},
        rules::marked,
    },
};

#[derive(Debug)]
struct Zeroes;

impl Entropy for Zeroes {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

fn stamp() -> Stamp {
    let name = Name::new("shop").expect("a name");
    Stamp {
        control_plane: ControlPlaneId::generate(Timestamp::UNIX_EPOCH, &Zeroes),
        environment: name.clone(),
        team: name.clone(),
        database: name,
        uid: Uid::generate(Timestamp::UNIX_EPOCH, &Zeroes),
    }
}

fn desired(level: AccessLevel, open: bool, enabled: bool) -> DesiredDatabase {
    let login = |slot, name: &str, enabled: bool| DesiredLogin {
        slot,
        name: name.into(),
        state: if enabled {
            LoginState::Enabled {
                password: Secret::new("secret"),
                valid_until: None,
            }
        } else {
            LoginState::Disabled
        },
    };
    DesiredDatabase {
        name: "shop".into(),
        stamp: stamp(),
        state: if open {
            DesiredState::Open
        } else {
            DesiredState::Closed
        },
        limits: freehold_model::kinds::Limits::default(),
        extensions: Vec::new(),
        schemas: Vec::new(),
        accesses: vec![DesiredAccess {
            uid: stamp().uid,
            level,
            on: Vec::new(),
            logins: [
                login(Slot::A, "app_a", enabled),
                login(Slot::B, "app_b", false),
            ],
        }],
        migrator: Migrator {
            login: "shop_migrator".into(),
            state: LoginState::Disabled,
        },
    }
}

fn seen(state: RowState, unsaved: bool, lost: (bool, bool), kept: AccountsKept) -> Observed {
    let id = "one".to_owned();
    Observed {
        standing: Standing {
            home: Home {
                id: id.clone(),
                place: "here".into(),
            },
            row: RegistryRow {
                stamp: stamp(),
                server: ServerIdentity(id),
                epoch: 1,
                actor: "test".into(),
                state,
                unsaved,
            },
            row_lost: lost.0,
            copy_lost: lost.1,
        },
        users: BTreeMap::new(),
        sessions: BTreeMap::new(),
        now: 1_000,
        accounts_kept: kept,
        spelling: Spelling::test(),
        strangers: Vec::new(),
    }
}

/// An account as the server would have it after it was set.
fn set(wanted: &Wanted) -> User {
    let name = DatabaseName::new("shop").expect("a name");
    let mark = Selector {
        commands: "-@all".into(),
        keys: vec![format!("~{}", marked(stamp().uid))],
        channels: Vec::new(),
    };
    let (enabled, passwords, commands) = match wanted {
        Wanted::Open { level, hash } => (
            true,
            BTreeSet::from([hash.clone()]),
            Spelling::test().of(*level).to_owned(),
        ),
        Wanted::Closed => (false, BTreeSet::new(), "-@all".to_owned()),
    };
    User {
        enabled,
        open_to_all: false,
        passwords,
        commands,
        keys: wanted.keys(&name).into_iter().collect(),
        channels: wanted.channels(&name).into_iter().collect(),
        selectors: vec![mark],
    }
}

/// What the actions do, on values.
fn apply(goal: &Goal, seen: &mut Observed, actions: &[Action]) {
    for action in actions {
        match action {
            Action::RestoreRow => {
                (seen.standing.row_lost, seen.standing.copy_lost) = (false, false);
            }
            Action::RestoreCopy => seen.standing.copy_lost = false,
            Action::Create => seen.standing.row.state = RowState::Created,
            Action::MakeLogin { login } | Action::SetLogin { login, .. } => {
                let found = goal.logins.iter().find(|found| found.name == *login);
                let wanted = found.expect("a login of ours").wanted(seen.now).clone();
                let user = seen.users.get(login).cloned().unwrap_or_default();
                if ends_sessions(&user, &wanted) {
                    seen.sessions.remove(login);
                }
                seen.users.insert(login.clone(), set(&wanted));
                seen.standing.row.unsaved = true;
            }
            Action::EndSessions { login, .. } => {
                seen.sessions.remove(login);
            }
            Action::Save | Action::Report { .. } => {}
        }
    }
    if actions.contains(&Action::Save) {
        seen.standing.row.unsaved = false;
    }
}

fn users() -> impl Strategy<Value = Option<User>> {
    let any = (
        any::<bool>(),
        any::<bool>(),
        prop::collection::btree_set("[0-9a-f]{4}", 0..3),
        prop::sample::select(vec!["read", "write", "own", "-@all", "+@all"]),
        prop::collection::vec("[~%&a-z:*]{1,6}", 0..3),
        prop::collection::vec("[~%&a-z:*]{1,6}", 0..2),
    );
    prop::option::of(any).prop_map(|facts| {
        let (enabled, open_to_all, passwords, commands, keys, channels) = facts?;
        Some(User {
            enabled,
            open_to_all,
            passwords,
            commands: commands.to_owned(),
            keys,
            channels,
            // Ours, or it would be refused.
            selectors: set(&Wanted::Closed).selectors,
        })
    })
}

fn levels() -> impl Strategy<Value = AccessLevel> {
    prop::sample::select(vec![
        AccessLevel::ReadOnly,
        AccessLevel::ReadWrite,
        AccessLevel::Owner,
    ])
}

proptest! {
    #[test]
    fn a_plan_that_was_applied_leaves_nothing_to_do(
        level in levels(),
        (open, enabled, unsaved, row, copy) in any::<(bool, bool, bool, bool, bool)>(),
        (a, b) in (users(), users()),
        sessions in prop::collection::btree_map("app_[ab]", 1..3_u32, 0..3),
        reserved in any::<bool>(),
    ) {
        let goal = Goal::new(&desired(level, open, enabled)).expect("a goal");
        let state = if reserved { RowState::Reserved } else { RowState::Created };
        let mut seen = seen(state, unsaved, (row, copy), AccountsKept::InAclFile);
        seen.sessions = sessions;
        for (name, user) in [("app_a", a), ("app_b", b)] {
            seen.users.extend(user.map(|user| (name.to_owned(), user)));
        }
        for _ in 0..2 {
            let actions = plan(&goal, &seen).expect("a plan");
            apply(&goal, &mut seen, &actions);
        }
        prop_assert_eq!(plan(&goal, &seen).expect("a plan"), []);
        for login in &goal.logins {
            let closed = *login.wanted(seen.now) == Wanted::Closed;
            prop_assert!(!closed || !seen.sessions.contains_key(&login.name));
        }
    }
}

#[test]
fn an_account_without_our_mark_is_not_planned_for() {
    let goal = Goal::new(&desired(AccessLevel::Owner, true, true)).expect("a goal");
    let mut seen = seen(
        RowState::Created,
        false,
        (false, false),
        AccountsKept::InAclFile,
    );
    seen.users.insert("app_a".into(), User::default());
    let error = plan(&goal, &seen).expect_err("it is somebody's");
    assert!(matches!(error.fault, Fault::NameTaken { .. }), "{error}");
}

#[test]
fn a_server_that_keeps_nothing_is_told_of_and_not_asked_to_save() {
    let goal = Goal::new(&desired(AccessLevel::Owner, true, true)).expect("a goal");
    let mut seen = seen(
        RowState::Created,
        true,
        (false, false),
        AccountsKept::Nowhere,
    );
    for login in &goal.logins {
        let user = set(login.wanted(seen.now));
        seen.users.insert(login.name.clone(), user);
    }
    let actions = plan(&goal, &seen).expect("a plan");
    assert!(
        matches!(actions.as_slice(), [Action::Report { key, .. }] if key == "accounts.volatile:shop"),
        "{actions:?}"
    );
}

#[test]
fn what_redis_cannot_hold_is_refused() {
    let usual = || desired(AccessLevel::Owner, true, true);
    let mut asked = [usual(), usual(), usual(), usual()];
    asked[0].limits.connections = Some(3);
    asked[1].schemas = vec!["more".into()];
    asked[2].extensions = vec!["more".into()];
    asked[3].migrator.state = LoginState::Enabled {
        password: Secret::new("secret"),
        valid_until: None,
    };
    for desired in asked {
        let error = Goal::new(&desired).expect_err("it cannot");
        assert!(matches!(error.fault, Fault::Unsupported { .. }), "{error}");
    }
}
