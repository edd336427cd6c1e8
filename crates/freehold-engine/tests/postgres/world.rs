//! A server, an engine on it, and values to ask for.

use std::time::Duration;

use freehold_engine::{
    ConnectTarget, ConvergeMode, DesiredAccess, DesiredDatabase, DesiredLogin, DesiredState,
    EngineError, EngineHandle, Fence, LoginState, Migrator, Stamp, Tls, postgres::PostgresEngine,
};
use freehold_model::{
    ControlPlaneId, Gate, Name, Secret, Uid,
    kinds::{AccessLevel, AccessTarget, Difference, Limits, Slot},
};
use freehold_testing::{
    entropy::SeededEntropy,
    postgres::{Login, Server, psql},
};
use jiff::Timestamp;

/// Who administers the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    Superuser,
    /// Has CREATEROLE and CREATEDB and nothing else, as on a managed service.
    Managed,
}

/// The oldest and the newest installed version: rules that changed, changed between them. What
/// differs in every version is tested on all of them.
pub(crate) fn oldest_and_newest() -> Vec<u32> {
    let versions = Server::versions();
    let ends = [versions.first(), versions.last()];
    let mut ends: Vec<u32> = ends.into_iter().flatten().copied().collect();
    ends.dedup();
    ends
}

/// One version, for what does not depend on it: the one that Debian carries.
pub(crate) const ANY: u32 = 15;

pub(crate) const BOTH: [As; 2] = [As::Superuser, As::Managed];

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) engine: EngineHandle,
    pub(crate) admin: Login,
}

impl World {
    pub(crate) fn start(version: u32, admin: As) -> Self {
        Self::around(Server::start_version(version), admin)
    }

    pub(crate) fn around(server: Server, admin: As) -> Self {
        let admin = match admin {
            As::Superuser => server.superuser_login(),
            As::Managed => managed(&server),
        };
        let engine = EngineHandle::new(PostgresEngine::new(target(server.port(), &admin)));
        Self {
            server,
            engine,
            admin,
        }
    }

    /// Another worker with its own connections.
    pub(crate) fn another_engine(&self) -> EngineHandle {
        EngineHandle::new(PostgresEngine::new(target(self.server.port(), &self.admin)))
    }

    pub(crate) async fn reserve(
        &self,
        desired: &DesiredDatabase,
        epoch: u64,
    ) -> Result<(), EngineError> {
        self.engine
            .reserve(&desired.name, &desired.stamp, &fence(epoch), &Gate::open())
            .await
    }

    pub(crate) async fn apply(
        &self,
        desired: &DesiredDatabase,
        epoch: u64,
    ) -> Result<Vec<Difference>, EngineError> {
        self.engine
            .converge(
                desired,
                ConvergeMode::Apply,
                None,
                &fence(epoch),
                &Gate::open(),
            )
            .await
    }

    pub(crate) async fn observe(
        &self,
        desired: &DesiredDatabase,
        epoch: u64,
    ) -> Result<Vec<Difference>, EngineError> {
        self.engine
            .converge(
                desired,
                ConvergeMode::Observe,
                None,
                &fence(epoch),
                &Gate::open(),
            )
            .await
    }

    /// Reserved and converged.
    pub(crate) async fn provision(&self, desired: &DesiredDatabase) {
        self.reserve(desired, 1).await.expect("the name is free");
        self.apply(desired, 1).await.expect("the database is made");
    }

    /// Runs SQL as one of the desired logins, in the desired database.
    pub(crate) fn sql_as(
        &self,
        desired: &DesiredDatabase,
        login: &str,
        sql: &str,
    ) -> Result<String, String> {
        psql(self.server.port(), &credentials(login), &desired.name, sql)
    }

    pub(crate) fn sql_in(&self, login: &str, database: &str, sql: &str) -> Result<String, String> {
        psql(self.server.port(), &credentials(login), database, sql)
    }
}

/// A managed admin, with what the documentation asks for: before 15 the schema public belongs to the
/// superuser, who gives it away once.
fn managed(server: &Server) -> Login {
    let admin = server.create_managed_admin();
    if server.version() < 15 {
        let settle = format!("ALTER SCHEMA public OWNER TO {}", admin.name);
        server.psql("template1", &settle);
    }
    admin
}

pub(crate) fn target(port: u16, login: &Login) -> ConnectTarget {
    ConnectTarget {
        host: "127.0.0.1".into(),
        port,
        username: login.name.clone(),
        password: Some(Secret::new(login.password.clone())),
        database: "postgres".into(),
        tls: Tls::Disable,
        application_name: "freehold/admin".into(),
        connect_timeout: Duration::from_secs(5),
    }
}

pub(crate) fn fence(epoch: u64) -> Fence {
    Fence {
        epoch,
        actor: "test".into(),
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

pub(crate) fn uid(seed: u64) -> Uid {
    Uid::generate(Timestamp::UNIX_EPOCH, &SeededEntropy::new(seed))
}

pub(crate) fn stamp(database: u64) -> Stamp {
    Stamp {
        control_plane: ControlPlaneId::generate(Timestamp::UNIX_EPOCH, &SeededEntropy::new(7)),
        environment: name("prod"),
        team: name("shop"),
        database: name("main"),
        uid: uid(database),
    }
}

/// The password of a login in these tests.
pub(crate) fn password(login: &str) -> Secret {
    Secret::new(format!("pass of {login} ½"))
}

pub(crate) fn credentials(login: &str) -> Login {
    Login {
        name: login.into(),
        password: password(login).expose().into(),
    }
}

pub(crate) fn enabled(login: &str) -> LoginState {
    LoginState::Enabled {
        password: password(login),
        valid_until: None,
    }
}

/// An open database without accesses; the migrator is closed.
pub(crate) fn database(name: &str) -> DesiredDatabase {
    DesiredDatabase {
        name: name.into(),
        stamp: stamp(1),
        state: DesiredState::Open,
        limits: Limits::default(),
        extensions: Vec::new(),
        schemas: Vec::new(),
        accesses: Vec::new(),
        migrator: Migrator {
            login: format!("{name}_migrator"),
            state: LoginState::Disabled,
        },
    }
}

/// An access whose slot A (`PREFIX_a`) is open and whose slot B (`PREFIX_b`) is not.
pub(crate) fn access(
    seed: u64,
    prefix: &str,
    level: AccessLevel,
    on: &[(&str, Option<&str>)],
) -> DesiredAccess {
    let login = |slot, suffix: &str, open: bool| {
        let name = format!("{prefix}_{suffix}");
        DesiredLogin {
            slot,
            state: if open {
                enabled(&name)
            } else {
                LoginState::Disabled
            },
            name,
        }
    };
    DesiredAccess {
        uid: uid(1000 + seed),
        level,
        on: on
            .iter()
            .map(|(schema, table)| AccessTarget {
                schema: (*schema).into(),
                table: table.map(str::to_owned),
            })
            .collect(),
        logins: [login(Slot::A, "a", true), login(Slot::B, "b", false)],
    }
}

pub(crate) fn open_migrator(desired: &mut DesiredDatabase) {
    desired.migrator.state = enabled(&desired.migrator.login);
}
