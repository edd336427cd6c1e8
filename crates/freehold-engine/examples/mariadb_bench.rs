//! Provisioning on MariaDB through the engine against the same statements by hand, and a round over
//! many databases.
//!
//! `cargo run --release -p freehold-engine --example mariadb_bench -- HOST PORT USER [RUNS [DATABASES]]`
//!
//! The password is taken from `MYSQL_PWD`, so that no list of processes shows it.
//!
//! * The engine: `reserve` and `converge`, registry and fence included.
//! * By hand: what a careful operator's script does, each statement by itself, on one connection that is
//!   open already: three accounts, a database, their grants. No registry, no fence, no look at what is
//!   there; the password goes as clear text, so that the server computes what the engine computes.
//!
//! They take turns, and medians are compared. What both made is compared first, by the server's
//! catalogs. Then DATABASES are made and looked at in one round with one survey, as drift detection
//! does.

#![expect(clippy::print_stdout, reason = "it prints its result")]

use std::time::{Duration, Instant};

use freehold_engine::{
    ConnectTarget, ConvergeMode, DesiredAccess, DesiredDatabase, DesiredLogin, DesiredState,
    EngineHandle, Fence, LoginState, Migrator, ScriptSession as _, Stamp, Tls,
    mariadb::{MariadbEngine, MariadbSession},
};
use freehold_model::{
    Clock as _, ControlPlaneId, Gate, Name, Secret, SystemClock, SystemEntropy, Uid,
    kinds::{AccessLevel, Limits, Slot},
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PASSWORD: &str = "correct horse battery staple";

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, port, username, rest @ ..] = arguments.as_slice() else {
        return Err("give HOST PORT USER [RUNS [DATABASES]], and the password in MYSQL_PWD".into());
    };
    let number = |at: usize, default: usize| -> Result<usize> {
        Ok(rest.get(at).map_or(Ok(default), |text| text.parse())?)
    };
    let (runs, databases) = (number(0, 15)?, number(1, 200)?);
    let target = ConnectTarget {
        host: host.clone(),
        port: port.parse()?,
        username: username.clone(),
        password: Some(Secret::new(std::env::var("MYSQL_PWD").unwrap_or_default())),
        database: String::new(),
        tls: Tls::Prefer,
        application_name: "freehold/bench".into(),
        connect_timeout: Duration::from_secs(5),
    };
    let engine = EngineHandle::new(MariadbEngine::new(target.clone()));
    let mut session = MariadbSession::connect(&target).await?;
    let (ours, theirs) = (fresh("e", 0), fresh("h", 0));
    by_engine(&engine, &database(&ours)?).await?;
    by_hand(&mut session, &theirs).await?;
    let made = [
        state(&mut session, &ours).await?,
        state(&mut session, &theirs).await?,
    ];
    if made[0] != made[1] {
        return Err(format!("not the same was made:\n{}\n{}", made[0], made[1]).into());
    }
    let (mut engine_ms, mut hand_ms) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        let desired = database(&fresh("e", run))?;
        let began = Instant::now();
        by_engine(&engine, &desired).await?;
        engine_ms.push(began.elapsed().as_secs_f64() * 1e3);
        let name = fresh("h", run);
        let began = Instant::now();
        by_hand(&mut session, &name).await?;
        hand_ms.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let (engine_ms, hand_ms) = (median(engine_ms), median(hand_ms));
    println!("one database, {runs} interleaved runs: medians");
    println!("engine   {engine_ms:6.1} ms");
    println!("by hand  {hand_ms:6.1} ms");
    println!("engine to by hand  {:.2}", engine_ms / hand_ms);
    round(&engine, databases).await
}

/// Makes many, then looks at all of them as a round of drift detection does.
async fn round(engine: &EngineHandle, databases: usize) -> Result<()> {
    let wanted: Vec<DesiredDatabase> = (0..databases)
        .map(|at| database(&fresh("r", at)))
        .collect::<Result<_>>()?;
    let began = Instant::now();
    for desired in &wanted {
        by_engine(engine, desired).await?;
    }
    let made = began.elapsed();
    let began = Instant::now();
    let survey = engine.survey().await?;
    let surveyed = began.elapsed();
    for desired in &wanted {
        let mode = ConvergeMode::Observe;
        let found = engine
            .converge(desired, mode, Some(&survey), &fence(), &Gate::open())
            .await?;
        if !found.is_empty() {
            return Err(format!("{}: {found:?}", desired.name).into());
        }
    }
    println!(
        "{databases} databases: made one after another in {:.1} s; a round over them in {:.2} s, \
         {:.0} ms of it the survey",
        made.as_secs_f64(),
        began.elapsed().as_secs_f64(),
        surveyed.as_secs_f64() * 1e3
    );
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn fresh(side: &str, at: usize) -> String {
    format!("b{side}{}x{at:04}", SystemClock.now().as_millisecond())
}

fn fence() -> Fence {
    Fence {
        epoch: 1,
        actor: "bench".into(),
    }
}

async fn by_engine(engine: &EngineHandle, desired: &DesiredDatabase) -> Result<()> {
    let (fence, gate) = (fence(), Gate::open());
    engine
        .reserve(&desired.name, &desired.stamp, &fence, &gate)
        .await?;
    engine
        .converge(desired, ConvergeMode::Apply, None, &fence, &gate)
        .await?;
    Ok(())
}

async fn by_hand(session: &mut MariadbSession, name: &str) -> Result<()> {
    let rights =
        "SELECT, SHOW VIEW, INSERT, UPDATE, DELETE, EXECUTE, CREATE TEMPORARY TABLES, LOCK TABLES";
    let all = format!(
        "{rights}, CREATE, DROP, REFERENCES, INDEX, ALTER, CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE, \
         EVENT, TRIGGER"
    );
    let comment = database(name)?.stamp.uid;
    let limits = "WITH MAX_USER_CONNECTIONS 20 MAX_STATEMENT_TIME 30";
    let statements = [
        format!("CREATE DATABASE {name} CHARACTER SET utf8mb4 COMMENT 'freehold:{comment}'"),
        format!(
            "CREATE USER {name}_a@'%' IDENTIFIED BY '{PASSWORD}' {limits} PASSWORD EXPIRE NEVER"
        ),
        format!("CREATE USER {name}_b@'%' {limits} PASSWORD EXPIRE NEVER ACCOUNT LOCK"),
        format!("CREATE USER {name}_m@'%' PASSWORD EXPIRE NEVER ACCOUNT LOCK"),
        format!("GRANT {rights} ON {name}.* TO {name}_a@'%'"),
        format!("GRANT {rights} ON {name}.* TO {name}_b@'%'"),
        format!("GRANT {all} ON {name}.* TO {name}_m@'%'"),
    ];
    for statement in statements {
        session.execute(&statement).await?;
    }
    Ok(())
}

/// Everything that was made, by the server's word, with the database's name taken out.
async fn state(session: &mut MariadbSession, name: &str) -> Result<String> {
    let mut lines = Vec::new();
    for query in [
        "SELECT User, Host, COALESCE(JSON_VALUE(Priv, '$.account_locked'), 0) = 1, \
         COALESCE(JSON_VALUE(Priv, '$.max_user_connections'), 0), \
         COALESCE(JSON_VALUE(Priv, '$.max_statement_time'), 0) + 0, \
         JSON_VALUE(Priv, '$.password_lifetime') FROM mysql.global_priv WHERE User LIKE 'THIS%'",
        "SELECT * FROM mysql.db WHERE Db LIKE 'THIS%'",
        "SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, SCHEMA_COMMENT LIKE 'freehold:%' \
         FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'THIS'",
    ] {
        for row in session.query(&query.replace("THIS", name), &[]).await? {
            let values = row.into_iter().map(Option::unwrap_or_default);
            lines.push(values.collect::<Vec<_>>().join(" ").replace(name, "THIS"));
        }
    }
    lines.sort();
    Ok(lines.join("\n"))
}

fn database(name: &str) -> Result<DesiredDatabase> {
    let word = |text: &str| Name::new(text);
    let now = SystemClock.now();
    let login = |slot, suffix: &str, state| DesiredLogin {
        slot,
        name: format!("{name}_{suffix}"),
        state,
    };
    let open = LoginState::Enabled {
        password: Secret::new(PASSWORD),
        valid_until: None,
    };
    Ok(DesiredDatabase {
        name: name.to_owned(),
        stamp: Stamp {
            control_plane: ControlPlaneId::generate(now, &SystemEntropy),
            environment: word("bench")?,
            team: word("bench")?,
            database: word("bench")?,
            uid: Uid::generate(now, &SystemEntropy),
        },
        state: DesiredState::Open,
        limits: Limits {
            connections: Some(20),
            statement_timeout_ms: Some(30_000),
            ..Limits::default()
        },
        extensions: Vec::new(),
        schemas: Vec::new(),
        accesses: vec![DesiredAccess {
            uid: Uid::generate(now, &SystemEntropy),
            level: AccessLevel::ReadWrite,
            on: Vec::new(),
            logins: [
                login(Slot::A, "a", open),
                login(Slot::B, "b", LoginState::Disabled),
            ],
        }],
        migrator: Migrator {
            login: format!("{name}_m"),
            state: LoginState::Disabled,
        },
    })
}
