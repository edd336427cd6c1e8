//! What every engine must do, whatever its server: the contract of [`Engine`](crate::Engine) as checks.
//!
//! An engine's tests start a server and call [`check`] with the engine and a [`LoginProbe`] that tries
//! logins the way a program would. What the engine claims ([`Capabilities`](crate::Capabilities)) is
//! exercised; what it does not claim must be refused. An engine without logins is judged by whether a
//! program that knows where the database is can open it.
//!
//! It leaves out what is particular to a server: names that it cannot hold, drift, the admin's rights.

use std::future::Future;

use freehold_model::{
    ControlPlaneId, Entropy, Gate, Name, Secret, Uid,
    kinds::{AccessLevel, AccessTarget, Limits, Slot},
};
use jiff::Timestamp;

use crate::{
    ConvergeMode, DesiredAccess, DesiredDatabase, DesiredLogin, DesiredState, EngineHandle, Fault,
    Fence, LoginState, Migrator, Stamp,
};

/// Tries a login as a program would: connects, and reports whether the server let it in. Where there
/// are no logins, it tries to open the database anew, and takes no notice of login and password.
pub trait LoginProbe: Sync {
    fn can_log_in(
        &self,
        database: &str,
        login: &str,
        password: &Secret,
    ) -> impl Future<Output = bool> + Send;
}

/// Ids that are the same in every run.
#[derive(Debug)]
struct Fixed(u8);

impl Entropy for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0);
    }
}

fn uid(seed: u8) -> Uid {
    Uid::generate(Timestamp::UNIX_EPOCH, &Fixed(seed))
}

fn stamp(seed: u8) -> Stamp {
    let name = |text: &str| Name::new(text).expect("a name");
    Stamp {
        control_plane: ControlPlaneId::generate(Timestamp::UNIX_EPOCH, &Fixed(1)),
        environment: name("prod"),
        team: name("conformance"),
        database: name("main"),
        uid: uid(seed),
    }
}

fn enabled(login: &str) -> LoginState {
    LoginState::Enabled {
        password: password(login),
        valid_until: None,
    }
}

fn password(login: &str) -> Secret {
    Secret::new(format!("password of {login}"))
}

fn desired() -> DesiredDatabase {
    let login = |slot, name: &str, state| DesiredLogin {
        slot,
        name: name.into(),
        state,
    };
    DesiredDatabase {
        name: "conformance".into(),
        stamp: stamp(2),
        state: DesiredState::Open,
        limits: Limits::default(),
        extensions: Vec::new(),
        schemas: Vec::new(),
        accesses: vec![DesiredAccess {
            uid: uid(3),
            level: AccessLevel::ReadWrite,
            on: Vec::new(),
            logins: [
                login(Slot::A, "conformance_a", enabled("conformance_a")),
                login(Slot::B, "conformance_b", LoginState::Disabled),
            ],
        }],
        migrator: Migrator {
            login: "conformance_m".into(),
            state: LoginState::Disabled,
        },
    }
}

fn fence(epoch: u64) -> Fence {
    Fence {
        epoch,
        actor: "conformance".into(),
    }
}

/// Runs every check on a server that holds nothing of Freehold's yet.
///
/// # Panics
/// With the promise that is broken.
pub async fn check(engine: &EngineHandle, probe: &impl LoginProbe) {
    what_is_not_reserved_is_missing(engine).await;
    reserving_is_idempotent_and_exclusive(engine).await;
    observing_changes_nothing_and_applying_settles(engine, probe).await;
    a_survey_names_the_owner(engine).await;
    an_old_survey_says_nothing_false(engine).await;
    a_closed_database_lets_nobody_in(engine, probe).await;
    if engine.capabilities().logins && engine.capabilities().migrations {
        the_migrator_is_let_in_alone(engine, probe).await;
    }
    if engine.capabilities().logins {
        a_rotated_slot_is_closed(engine, probe).await;
    } else {
        logins_change_nothing_where_there_are_none(engine, probe).await;
    }
    what_is_not_claimed_is_refused(engine).await;
    an_older_epoch_is_refused_everywhere(engine).await;
    what_is_released_can_be_taken_back(engine).await;
}

async fn apply(
    engine: &EngineHandle,
    desired: &DesiredDatabase,
    epoch: u64,
) -> Vec<freehold_model::kinds::Difference> {
    engine
        .converge(
            desired,
            ConvergeMode::Apply,
            None,
            &fence(epoch),
            &Gate::open(),
        )
        .await
        .expect("converge succeeds")
}

async fn what_is_not_reserved_is_missing(engine: &EngineHandle) {
    engine
        .inspect()
        .await
        .expect("a server can be inspected before anything is on it");
    let result = engine
        .converge(
            &desired(),
            ConvergeMode::Apply,
            None,
            &fence(1),
            &Gate::open(),
        )
        .await;
    let error = result.expect_err("nothing is made without a reservation");
    assert!(matches!(error.fault, Fault::Missing { .. }), "{error}");
}

async fn reserving_is_idempotent_and_exclusive(engine: &EngineHandle) {
    let gate = Gate::open();
    for _ in 0..2 {
        engine
            .reserve("conformance", &stamp(2), &fence(1), &gate)
            .await
            .expect("the same stamp reserves again");
    }
    let error = engine
        .reserve("conformance", &stamp(9), &fence(9), &gate)
        .await
        .expect_err("another stamp does not");
    let by_ours =
        matches!(&error.fault, Fault::NameTaken { owner: Some(owner), .. } if **owner == stamp(2));
    assert!(by_ours, "{error}");
}

async fn observing_changes_nothing_and_applying_settles(
    engine: &EngineHandle,
    probe: &impl LoginProbe,
) {
    let desired = desired();
    for _ in 0..2 {
        let seen = engine
            .converge(
                &desired,
                ConvergeMode::Observe,
                None,
                &fence(1),
                &Gate::open(),
            )
            .await
            .expect("observe succeeds");
        assert!(
            !seen.is_empty() && seen.iter().all(|found| !found.repaired),
            "{seen:?}"
        );
    }
    let made = apply(engine, &desired, 1).await;
    assert!(made.iter().all(|found| found.repaired), "{made:?}");
    assert_eq!(
        apply(engine, &desired, 1).await,
        [],
        "the second time there is nothing to do"
    );
    assert!(
        probe
            .can_log_in("conformance", "conformance_a", &password("conformance_a"))
            .await
    );
    if engine.capabilities().logins {
        assert!(
            !probe
                .can_log_in("conformance", "conformance_a", &Secret::new("wrong"))
                .await
        );
        assert!(
            !probe
                .can_log_in("conformance", "conformance_b", &password("conformance_b"))
                .await
        );
    }
}

async fn a_survey_names_the_owner(engine: &EngineHandle) {
    let survey = engine.survey().await.expect("a survey");
    let found = survey
        .databases
        .iter()
        .find(|found| found.name == "conformance")
        .expect("it is listed");
    assert_eq!(found.stamp.as_ref(), Some(&stamp(2)));
    assert!(found.same_server);
    let with = engine
        .converge(
            &desired(),
            ConvergeMode::Apply,
            Some(&survey),
            &fence(1),
            &Gate::open(),
        )
        .await
        .expect("converge succeeds");
    assert_eq!(with, [], "a survey does not invent work");
}

/// Surveys from before a database was reserved, made and opened again are about another past.
async fn an_old_survey_says_nothing_false(engine: &EngineHandle) {
    let mut later = desired();
    later.name = "conformance_later".into();
    later.stamp = stamp(4);
    later.accesses.clear();
    later.migrator.login = "conformance_later_m".into();
    let mut closed = later.clone();
    closed.state = DesiredState::Closed;
    let gate = Gate::open();
    let survey = async || engine.survey().await.expect("a survey");
    let mut old = vec![survey().await];
    engine
        .reserve(&later.name, &later.stamp, &fence(1), &gate)
        .await
        .expect("the name is free");
    old.push(survey().await);
    apply(engine, &later, 1).await;
    apply(engine, &closed, 2).await;
    old.push(survey().await);
    apply(engine, &later, 3).await;
    for survey in &old {
        for mode in [ConvergeMode::Observe, ConvergeMode::Apply] {
            let found = engine
                .converge(&later, mode, Some(survey), &fence(3), &gate)
                .await
                .expect("it is there by now");
            assert_eq!(found, [], "{mode:?}");
        }
    }
}

async fn a_closed_database_lets_nobody_in(engine: &EngineHandle, probe: &impl LoginProbe) {
    let mut closed = desired();
    closed.state = DesiredState::Closed;
    apply(engine, &closed, 1).await;
    assert_eq!(apply(engine, &closed, 1).await, []);
    let login = "conformance_a";
    assert!(
        !probe
            .can_log_in("conformance", login, &password(login))
            .await
    );
    apply(engine, &desired(), 1).await;
    assert!(
        probe
            .can_log_in("conformance", login, &password(login))
            .await
    );
}

/// Where a database is only observed, a migration changes nothing but the migrator's own.
async fn the_migrator_is_let_in_alone(engine: &EngineHandle, probe: &impl LoginProbe) {
    let mut asked = desired();
    asked.accesses[0].logins[0].state = LoginState::Disabled;
    for open in [true, false] {
        asked.migrator.state = match open {
            true => enabled("conformance_m"),
            false => LoginState::Disabled,
        };
        let found = engine
            .converge(
                &asked,
                ConvergeMode::Migrator,
                None,
                &fence(1),
                &Gate::open(),
            )
            .await
            .expect("the migrator is set");
        let (migrators, others): (Vec<_>, Vec<_>) = found
            .iter()
            .partition(|found| found.key.ends_with(":conformance_m"));
        assert!(!migrators.is_empty(), "{found:?}");
        assert!(migrators.iter().all(|found| found.repaired), "{found:?}");
        assert!(!others.is_empty(), "{found:?}");
        assert!(others.iter().all(|found| !found.repaired), "{found:?}");
        for (login, lets_in) in [("conformance_m", open), ("conformance_a", true)] {
            let entered = probe
                .can_log_in("conformance", login, &password(login))
                .await;
            assert_eq!(entered, lets_in, "{login}");
        }
    }
    assert_eq!(apply(engine, &desired(), 1).await, []);
}

async fn a_rotated_slot_is_closed(engine: &EngineHandle, probe: &impl LoginProbe) {
    let mut rotated = desired();
    let [a, b] = &mut rotated.accesses[0].logins;
    (a.state, b.state) = (LoginState::Disabled, enabled("conformance_b"));
    apply(engine, &rotated, 1).await;
    for (login, open) in [("conformance_a", false), ("conformance_b", true)] {
        assert_eq!(
            probe
                .can_log_in("conformance", login, &password(login))
                .await,
            open,
            "{login}"
        );
    }
    let retired = ["conformance_b".to_owned()];
    for _ in 0..2 {
        engine
            .disable_logins("conformance", &stamp(2), &retired, &fence(1), &Gate::open())
            .await
            .expect("logins can be disabled again");
    }
    assert!(
        !probe
            .can_log_in("conformance", "conformance_b", &password("conformance_b"))
            .await
    );
}

async fn logins_change_nothing_where_there_are_none(
    engine: &EngineHandle,
    probe: &impl LoginProbe,
) {
    let mut without = desired();
    without.accesses.clear();
    assert_eq!(apply(engine, &without, 1).await, []);
    let retired = ["conformance_a".to_owned()];
    for _ in 0..2 {
        engine
            .disable_logins("conformance", &stamp(2), &retired, &fence(1), &Gate::open())
            .await
            .expect("there is nothing to disable");
    }
    assert!(
        probe
            .can_log_in("conformance", "conformance_a", &password("conformance_a"))
            .await
    );
}

/// By the desired database that asks for it: looking and applying both say so, and nothing changes.
async fn what_is_not_claimed_is_refused(engine: &EngineHandle) {
    let claims = engine.capabilities();
    let limited = |table: Option<&str>| AccessTarget {
        schema: "conformance".into(),
        table: table.map(str::to_owned),
    };
    let mut unclaimed = Vec::new();
    let mut ask = |claimed: bool, asking: &dyn Fn(&mut DesiredDatabase)| {
        if !claimed {
            let mut asked = desired();
            asking(&mut asked);
            unclaimed.push(asked);
        }
    };
    ask(claims.schemas, &|asked| asked.schemas = vec!["more".into()]);
    ask(claims.extensions, &|asked| {
        asked.extensions = vec!["more".into()];
    });
    ask(claims.table_grants, &|asked| {
        asked.accesses[0].on = vec![limited(Some("item"))];
    });
    ask(claims.table_grants || claims.schemas, &|asked| {
        asked.accesses[0].on = vec![limited(None)];
    });
    apply(engine, &desired(), 1).await;
    for asked in unclaimed {
        for mode in [ConvergeMode::Observe, ConvergeMode::Apply] {
            let error = engine
                .converge(&asked, mode, None, &fence(1), &Gate::open())
                .await
                .expect_err("what is not claimed is refused");
            assert!(matches!(error.fault, Fault::Unsupported { .. }), "{error}");
        }
        assert_eq!(apply(engine, &desired(), 1).await, []);
    }
}

async fn an_older_epoch_is_refused_everywhere(engine: &EngineHandle) {
    let gate = Gate::open();
    let (name, owner, old) = ("conformance", stamp(2), fence(4));
    engine
        .reserve(name, &owner, &fence(5), &gate)
        .await
        .expect("a newer epoch");
    let refused = [
        engine.reserve(name, &owner, &old, &gate).await.err(),
        engine
            .converge(&desired(), ConvergeMode::Apply, None, &old, &gate)
            .await
            .err(),
        engine
            .disable_logins(name, &owner, &["conformance_a".into()], &old, &gate)
            .await
            .err(),
        engine.release(name, &owner, &old, &gate).await.err(),
    ];
    for error in refused {
        let error = error.expect("an older epoch is refused");
        assert!(
            matches!(error.fault, Fault::Fenced { ours: 4, found: 5 }),
            "{error}"
        );
    }
}

async fn what_is_released_can_be_taken_back(engine: &EngineHandle) {
    let gate = Gate::open();
    let (name, owner) = ("conformance", stamp(2));
    for _ in 0..2 {
        engine
            .release(name, &owner, &fence(5), &gate)
            .await
            .expect("it can be released again");
    }
    let error = engine
        .reserve(name, &stamp(9), &fence(9), &gate)
        .await
        .expect_err("the data is there");
    assert!(matches!(error.fault, Fault::NameTaken { .. }), "{error}");
    engine
        .reserve(name, &owner, &fence(6), &gate)
        .await
        .expect("its owner takes it back");
    apply(engine, &desired(), 6).await;
    assert_eq!(apply(engine, &desired(), 6).await, []);
}
