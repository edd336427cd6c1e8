//! Provisioning one database through the engine against the same statements by hand.
//!
//! `cargo run --release -p freehold-engine --example provision_bench -- HOST PORT USER [RUNS]`
//!
//! The password is taken from `PGPASSWORD`, so that no list of processes shows it.
//!
//! Both sides make the same thing: three roles, a migrator, two logins of one access, a database with its
//! rights and default privileges. By hand means what an operator's script would do on one
//! connection (and one more into the new database, which no client can avoid). Runs alternate, so that the server's
//! state is the same for both; the ratio of the medians is printed.

#![expect(clippy::print_stdout, reason = "it prints its result")]

use std::time::{Duration, Instant};

use freehold_engine::{
    ConnectTarget, ConvergeMode, DesiredAccess, DesiredDatabase, DesiredLogin, DesiredState,
    EngineHandle, Fence, LoginState, Migrator, ScriptSession as _, Stamp, Tls,
    postgres::{PostgresEngine, PostgresSession},
};
use freehold_model::{
    Clock as _, ControlPlaneId, Gate, Name, Secret, SystemClock, SystemEntropy, Uid,
    kinds::{AccessLevel, Limits, Slot},
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, port, username, rest @ ..] = arguments.as_slice() else {
        return Err("give HOST PORT USER [RUNS], and the password in PGPASSWORD".into());
    };
    let password = std::env::var("PGPASSWORD").unwrap_or_default();
    let runs: usize = rest.first().map_or(Ok(15), |runs| runs.parse())?;
    let target = ConnectTarget {
        host: host.clone(),
        port: port.parse()?,
        username: username.clone(),
        password: Some(Secret::new(password)),
        database: "postgres".into(),
        tls: Tls::Prefer,
        application_name: "freehold/bench".into(),
        connect_timeout: Duration::from_secs(5),
    };
    let engine = EngineHandle::new(PostgresEngine::new(target.clone()));
    let mut session = PostgresSession::connect(&target).await?;
    // Not measured: the registry, and what the first of each warms up.
    let unique = SystemClock.now().as_millisecond();
    by_engine(&engine, &database(&format!("warm_e{unique}"))?).await?;
    by_hand(&mut session, &target, &format!("warm_h{unique}")).await?;
    let (mut engine_ms, mut hand_ms) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let unique = SystemClock.now().as_millisecond();
        let desired = database(&format!("bench_e{run}_{unique}"))?;
        let began = Instant::now();
        by_engine(&engine, &desired).await?;
        engine_ms.push(began.elapsed().as_secs_f64() * 1e3);
        let name = format!("bench_h{run}_{unique}");
        let began = Instant::now();
        by_hand(&mut session, &target, &name).await?;
        hand_ms.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let (engine_ms, hand_ms) = (median(engine_ms), median(hand_ms));
    println!("one database, median of {runs} interleaved runs");
    println!(
        "engine {engine_ms:.1} ms, by hand {hand_ms:.1} ms, ratio {:.2}",
        engine_ms / hand_ms
    );
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

async fn by_engine(engine: &EngineHandle, desired: &DesiredDatabase) -> Result<()> {
    let fence = Fence {
        epoch: 1,
        actor: "bench".into(),
    };
    let gate = Gate::open();
    engine
        .reserve(&desired.name, &desired.stamp, &fence, &gate)
        .await?;
    engine
        .converge(desired, ConvergeMode::Apply, None, &fence, &gate)
        .await?;
    Ok(())
}

fn database(name: &str) -> Result<DesiredDatabase> {
    let now = SystemClock.now();
    let enabled = LoginState::Enabled {
        password: Secret::new("bench password"),
        valid_until: None,
    };
    Ok(DesiredDatabase {
        name: name.into(),
        stamp: Stamp {
            control_plane: ControlPlaneId::generate(now, &SystemEntropy),
            environment: Name::new("bench")?,
            team: Name::new("bench")?,
            database: Name::new("bench")?,
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
                DesiredLogin {
                    slot: Slot::A,
                    name: format!("{name}_a"),
                    state: enabled,
                },
                DesiredLogin {
                    slot: Slot::B,
                    name: format!("{name}_b"),
                    state: LoginState::Disabled,
                },
            ],
        }],
        migrator: Migrator {
            login: format!("{name}_m"),
            state: LoginState::Disabled,
        },
    })
}

/// What the engine leaves behind, as an operator would type it. The names are ours and harmless.
async fn by_hand(session: &mut PostgresSession, target: &ConnectTarget, name: &str) -> Result<()> {
    for statement in [
        format!("CREATE ROLE {name}_owner"),
        format!("CREATE ROLE {name}_reader"),
        format!("CREATE ROLE {name}_writer"),
        format!("CREATE ROLE {name}_a LOGIN PASSWORD 'bench password'"),
        format!("CREATE ROLE {name}_b"),
        format!("CREATE ROLE {name}_m NOINHERIT"),
        format!("GRANT {name}_writer TO {name}_a, {name}_b"),
        format!("GRANT {name}_owner TO {name}_m"),
        format!("ALTER ROLE {name}_m SET role = {name}_owner"),
        format!("ALTER ROLE {name}_a SET statement_timeout = 30000"),
        format!("ALTER ROLE {name}_b SET statement_timeout = 30000"),
        format!("CREATE DATABASE {name} TEMPLATE template0 CONNECTION LIMIT 20"),
        format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"),
        format!("GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {name} TO {name}_owner"),
        format!("GRANT CONNECT ON DATABASE {name} TO {name}_reader, {name}_m"),
        format!("GRANT CONNECT, TEMPORARY ON DATABASE {name} TO {name}_writer"),
    ] {
        session.execute(&statement).await?;
    }
    let mut inside = target.clone();
    inside.database = name.into();
    let mut inside = PostgresSession::connect(&inside).await?;
    let ours = format!("ALTER DEFAULT PRIVILEGES FOR ROLE {name}_owner");
    for statement in [
        format!("ALTER SCHEMA public OWNER TO {name}_owner"),
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC".into(),
        format!("GRANT USAGE ON SCHEMA public TO {name}_reader, {name}_writer"),
        format!("{ours} GRANT USAGE ON SCHEMAS TO {name}_reader, {name}_writer"),
        format!("{ours} GRANT SELECT ON TABLES TO {name}_reader"),
        format!("{ours} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {name}_writer"),
        format!("{ours} GRANT SELECT ON SEQUENCES TO {name}_reader"),
        format!("{ours} GRANT SELECT, USAGE, UPDATE ON SEQUENCES TO {name}_writer"),
        format!("{ours} REVOKE EXECUTE ON ROUTINES FROM PUBLIC"),
        format!("{ours} GRANT EXECUTE ON ROUTINES TO {name}_reader, {name}_writer"),
    ] {
        inside.execute(&statement).await?;
    }
    Ok(())
}
