//! A server, an engine on it, and values to ask for.

use std::time::Duration;

use freehold_engine::{
    ConnectTarget, ConvergeMode, DesiredAccess, DesiredDatabase, DesiredLogin, DesiredState,
    EngineError, EngineHandle, Fence, LoginState, Migrator, Stamp, Tls, mariadb::MariadbEngine,
};
use freehold_model::{
    ControlPlaneId, Gate, Name, Secret, Uid,
    kinds::{AccessLevel, AccessTarget, Difference, Limits, Slot},
};
use freehold_testing::{
    entropy::SeededEntropy,
    mariadb::{Login, Server},
};
use jiff::Timestamp;

/// Who administers the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    Superuser,
    /// What a managed service gives, with CONNECTION ADMIN and no SUPER.
    Managed,
}

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) engine: EngineHandle,
    pub(crate) admin: Login,
}

impl World {
    pub(crate) fn start(admin: As) -> Self {
        Self::around(Server::start(), admin)
    }

    pub(crate) fn around(server: Server, admin: As) -> Self {
        let admin = match admin {
            As::Superuser => server.superuser_login(),
            As::Managed => server.create_managed_admin("CONNECTION ADMIN"),
        };
        let engine = EngineHandle::new(MariadbEngine::new(target(server.port(), &admin)));
        Self {
            server,
            engine,
            admin,
        }
    }

    /// Another worker with its own connections.
    pub(crate) fn another_engine(&self) -> EngineHandle {
        EngineHandle::new(MariadbEngine::new(target(self.server.port(), &self.admin)))
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
        self.server.sql_as(&credentials(login), &desired.name, sql)
    }

    /// Opens the migrator, runs SQL as it, and closes it again.
    pub(crate) async fn migrate(&self, desired: &DesiredDatabase, epoch: u64, sql: &str) {
        let mut open = desired.clone();
        open_migrator(&mut open);
        self.apply(&open, epoch).await.expect("the door opens");
        self.sql_as(&open, &open.migrator.login, sql)
            .unwrap_or_else(|error| panic!("{error}\nSQL: {sql}"));
        self.apply(desired, epoch).await.expect("the door closes");
    }
}

pub(crate) fn target(port: u16, login: &Login) -> ConnectTarget {
    ConnectTarget {
        host: "127.0.0.1".into(),
        port,
        username: login.name.clone(),
        password: Some(Secret::new(login.password.clone())),
        database: String::new(),
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

pub(crate) fn uid(seed: u64) -> Uid {
    Uid::generate(Timestamp::UNIX_EPOCH, &SeededEntropy::new(seed))
}

pub(crate) fn stamp(database: u64) -> Stamp {
    let name = |text| Name::new(text).expect("a name");
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
    tables: &[&str],
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
        on: tables
            .iter()
            .map(|table| AccessTarget {
                schema: String::new(),
                table: Some((*table).to_owned()),
            })
            .collect(),
        logins: [login(Slot::A, "a", true), login(Slot::B, "b", false)],
    }
}

pub(crate) fn open_migrator(desired: &mut DesiredDatabase) {
    desired.migrator.state = enabled(&desired.migrator.login);
}

/// Opens slot B and closes slot A of the first access.
pub(crate) fn rotate(desired: &mut DesiredDatabase) {
    let [a, b] = &mut desired.accesses[0].logins;
    (a.state, b.state) = (LoginState::Disabled, enabled(&b.name));
}

pub(crate) fn keys(differences: &[Difference]) -> Vec<&str> {
    let keys = differences.iter();
    keys.map(|difference| difference.key.as_str()).collect()
}
