//! Provisioning one database through the engine against the same statements by hand.
//!
//! `cargo run --release -p freehold-engine --example provision_bench -- HOST PORT USER [RUNS]`
//!
//! The password is taken from `PGPASSWORD`, so that no list of processes shows it.
//!
//! Three ways to the same end, which is compared by the server's catalogs before anything is measured:
//! three roles, a migrator, two logins of one access, a database with its rights, limits and default
//! privileges.
//!
//! * The engine: `reserve` and `converge`, registry and fence included.
//! * By hand: what a careful operator's script does, each statement by itself as `psql` sends it, on one
//!   connection that is open already, and on one more into the new database, which no client can
//!   avoid. No registry, no fence, no look at what is there; the password goes as clear text, so that
//!   the server computes what the engine computes on its side.
//! * By hand in transactions: the same statements, all that may be between a `BEGIN` and a `COMMIT`.
//!
//! They take turns, each begins after a checkpoint, and their medians are compared; the fastest of each is
//! shown too, because other work on the machine only ever adds.

#![expect(clippy::print_stdout, reason = "it prints its result")]

use std::{
    fmt,
    time::{Duration, Instant},
};

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
    let sides = [Side::Engine, Side::Hand, Side::HandInTransactions];
    let engine = EngineHandle::new(PostgresEngine::new(target.clone()));
    let mut bench = Bench {
        major: engine.inspect().await?.version_major,
        engine,
        session: PostgresSession::connect(&target).await?,
        target,
    };
    // Not measured: the registry, and what the first of each warms up.
    let mut states = Vec::new();
    for side in sides {
        let name = side.fresh_name("warm");
        bench.make(side, &name).await?;
        states.push(bench.state(&name).await?);
    }
    if let Some(other) = states.iter().find(|state| **state != states[0]) {
        return Err(format!("not the same was made:\n{}\n{other}", states[0]).into());
    }
    let mut times = [const { Vec::new() }; 3];
    for run in 0..runs {
        for turn in 0..sides.len() {
            let at = (run + turn) % sides.len();
            let name = sides[at].fresh_name("bench");
            bench.session.execute("CHECKPOINT").await?;
            let began = Instant::now();
            bench.make(sides[at], &name).await?;
            times[at].push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    println!("one database, {runs} interleaved runs of each");
    let [engine, hand, grouped] = times.map(Figures::of);
    println!("engine                   {engine}");
    println!("by hand                  {hand}");
    println!("by hand in transactions  {grouped}");
    println!("engine to by hand                  {}", engine.over(&hand));
    println!(
        "engine to by hand in transactions  {}",
        engine.over(&grouped)
    );
    Ok(())
}

struct Figures {
    median: f64,
    fastest: f64,
}

impl Figures {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self {
            median: at(values.len() / 2),
            fastest: at(0),
        }
    }

    fn over(&self, other: &Self) -> String {
        format!(
            "median {:.2}, fastest {:.2}",
            self.median / other.median,
            self.fastest / other.fastest
        )
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, fastest } = self;
        write!(f, "median {median:6.1} ms, fastest {fastest:6.1} ms")
    }
}

/// Who makes the database.
#[derive(Debug, Clone, Copy)]
enum Side {
    Engine,
    Hand,
    HandInTransactions,
}

impl Side {
    fn fresh_name(self, purpose: &str) -> String {
        let side = match self {
            Self::Engine => 'e',
            Self::Hand => 'h',
            Self::HandInTransactions => 't',
        };
        format!("{purpose}_{side}{}", SystemClock.now().as_microsecond())
    }
}

struct Bench {
    engine: EngineHandle,
    session: PostgresSession,
    target: ConnectTarget,
    major: u32,
}

impl Bench {
    async fn make(&mut self, side: Side, name: &str) -> Result<()> {
        let grouped = match side {
            Side::Engine => return by_engine(&self.engine, &database(name)?).await,
            Side::Hand => false,
            Side::HandInTransactions => true,
        };
        let script = Script::new(name, self.major);
        run(&mut self.session, &script.roles, grouped).await?;
        self.session.execute(&script.create).await?;
        run(&mut self.session, &script.rights, grouped).await?;
        let mut inside = self.inside(name).await?;
        run(&mut inside, &script.inside, grouped).await
    }

    async fn inside(&self, name: &str) -> Result<PostgresSession> {
        let mut target = self.target.clone();
        target.database = name.into();
        Ok(PostgresSession::connect(&target).await?)
    }

    /// Everything that was made, by the server's word, with the database's name taken out.
    async fn state(&mut self, name: &str) -> Result<String> {
        let mut inside = self.inside(name).await?;
        let mut lines = Vec::new();
        for query in STATE {
            let rows = inside.query(&query.replace("NAME", name), &[]).await?;
            for row in rows {
                let values = row.into_iter().map(Option::unwrap_or_default);
                lines.push(values.collect::<Vec<_>>().join(" ").replace(name, "NAME"));
            }
        }
        lines.sort();
        Ok(lines.join("\n"))
    }
}

/// What must be the same whoever made it.
const STATE: [&str; 5] = [
    "SELECT 'role', rolname, rolcanlogin, rolinherit, rolconnlimit, rolvaliduntil, \
        rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls, \
        left(rolpassword, 18), (SELECT setconfig FROM pg_db_role_setting s WHERE s.setrole = a.oid) \
        FROM pg_authid a WHERE rolname LIKE 'NAME%'",
    "SELECT 'member', roleid::regrole, member::regrole, admin_option, \
        to_json(m) -> 'inherit_option', to_json(m) -> 'set_option' \
        FROM pg_auth_members m WHERE roleid::regrole::text LIKE 'NAME%'",
    "SELECT 'database', datconnlimit, datallowconn, datdba::regrole, unnest(datacl) \
        FROM pg_database WHERE datname = 'NAME'",
    "SELECT 'schema', nspname, nspowner::regrole, unnest(nspacl) \
        FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'",
    "SELECT 'default', defaclrole::regrole, defaclnamespace, defaclobjtype, unnest(defaclacl) \
        FROM pg_default_acl",
];

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
struct Script {
    roles: Vec<String>,
    create: String,
    rights: Vec<String>,
    inside: Vec<String>,
}

impl Script {
    fn new(name: &str, major: u32) -> Self {
        // As of 16 a membership says of itself what may be done with it.
        let (inherit, set) = if major >= 16 {
            (
                " WITH INHERIT TRUE, SET FALSE",
                " WITH INHERIT FALSE, SET TRUE",
            )
        } else {
            ("", "")
        };
        let ours = format!("ALTER DEFAULT PRIVILEGES FOR ROLE {name}_owner");
        Self {
            roles: vec![
                format!("CREATE ROLE {name}_owner"),
                format!("CREATE ROLE {name}_reader"),
                format!("CREATE ROLE {name}_writer"),
                format!("CREATE ROLE {name}_a LOGIN PASSWORD 'bench password'"),
                format!("CREATE ROLE {name}_b"),
                format!("CREATE ROLE {name}_m NOINHERIT"),
                format!("GRANT {name}_writer TO {name}_a, {name}_b{inherit}"),
                format!("GRANT {name}_owner TO {name}_m{set}"),
                format!("ALTER ROLE {name}_m SET role = {name}_owner"),
                format!("ALTER ROLE {name}_a SET statement_timeout = 30000"),
                format!("ALTER ROLE {name}_b SET statement_timeout = 30000"),
            ],
            create: format!("CREATE DATABASE {name} TEMPLATE template0 CONNECTION LIMIT 20"),
            rights: vec![
                format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"),
                format!("GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {name} TO {name}_owner"),
                format!("GRANT CONNECT ON DATABASE {name} TO {name}_reader, {name}_m"),
                format!("GRANT CONNECT, TEMPORARY ON DATABASE {name} TO {name}_writer"),
            ],
            inside: [
                format!("ALTER SCHEMA public OWNER TO {name}_owner"),
                format!("GRANT USAGE ON SCHEMA public TO {name}_reader, {name}_writer"),
                format!("{ours} GRANT USAGE ON SCHEMAS TO {name}_reader, {name}_writer"),
                format!("{ours} GRANT SELECT ON TABLES TO {name}_reader"),
                format!("{ours} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {name}_writer"),
                format!("{ours} GRANT SELECT ON SEQUENCES TO {name}_reader"),
                format!("{ours} GRANT SELECT, USAGE, UPDATE ON SEQUENCES TO {name}_writer"),
                format!("{ours} REVOKE EXECUTE ON ROUTINES FROM PUBLIC"),
                format!("{ours} GRANT EXECUTE ON ROUTINES TO {name}_reader, {name}_writer"),
            ]
            .into_iter()
            // As of 15 nobody but the owner has it.
            .chain((major < 15).then(|| "REVOKE CREATE ON SCHEMA public FROM PUBLIC".to_owned()))
            .collect(),
        }
    }
}

async fn run(session: &mut PostgresSession, statements: &[String], grouped: bool) -> Result<()> {
    if grouped {
        session.execute("BEGIN").await?;
    }
    for statement in statements {
        session.execute(statement).await?;
    }
    if grouped {
        session.execute("COMMIT").await?;
    }
    Ok(())
}
