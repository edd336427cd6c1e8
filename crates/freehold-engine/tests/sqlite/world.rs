//! A directory, an engine on it, and values to ask for.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use freehold_engine::{
    ConvergeMode, DesiredDatabase, DesiredState, EngineError, EngineHandle, Fence, LoginState,
    Migrator, Stamp,
    sqlite::{SqliteEngine, SqliteSession},
};
use freehold_model::{
    ControlPlaneId, Gate, Name, SystemEntropy, Uid,
    kinds::{Difference, Limits},
};
use freehold_testing::entropy::SeededEntropy;
use jiff::Timestamp;
use rusqlite::Connection;

/// Long enough for anything that will end, short enough for what will not.
pub(crate) const BUSY: Duration = Duration::from_millis(300);

pub(crate) struct World {
    pub(crate) engine: EngineHandle,
    pub(crate) directory: PathBuf,
    _temporary: tempfile::TempDir,
}

impl World {
    /// The directory itself is not there yet.
    pub(crate) fn start() -> Self {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let directory = temporary.path().join("instance");
        Self {
            engine: engine(&directory),
            directory,
            _temporary: temporary,
        }
    }

    /// Another worker.
    pub(crate) fn another_engine(&self) -> EngineHandle {
        engine(&self.directory)
    }

    /// One that outwaits many others.
    pub(crate) fn patient_engine(&self) -> EngineHandle {
        patient_engine(&self.directory)
    }

    pub(crate) fn registry(&self) -> Connection {
        Connection::open(self.directory.join("freehold-registry.db")).expect("a registry")
    }

    /// Changes the registry as a person would.
    pub(crate) fn registry_sql(&self, sql: &str) {
        self.registry().execute_batch(sql).expect("changed");
    }

    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.directory.join("databases").join(name)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        SqliteEngine::file_of(&self.directory, name).expect("a name")
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
        converge(&self.engine, desired, ConvergeMode::Apply, epoch).await
    }

    pub(crate) async fn observe(
        &self,
        desired: &DesiredDatabase,
        epoch: u64,
    ) -> Result<Vec<Difference>, EngineError> {
        converge(&self.engine, desired, ConvergeMode::Observe, epoch).await
    }

    /// Reserved and converged.
    pub(crate) async fn provision(&self, desired: &DesiredDatabase) {
        self.reserve(desired, 1).await.expect("the name is free");
        self.apply(desired, 1).await.expect("the database is made");
    }

    /// Makes a table with one row.
    pub(crate) fn fill(&self, name: &str) {
        program(&self.file(name))
            .expect("a program opens it")
            .execute_batch("CREATE TABLE item (id INTEGER); INSERT INTO item VALUES (42)")
            .expect("written");
    }

    /// What `fill` wrote.
    pub(crate) fn kept(&self, file: &Path) -> Option<i64> {
        let connection = program(file).ok()?;
        connection
            .query_row("SELECT id FROM item", [], |row| row.get(0))
            .ok()
    }
}

pub(crate) fn engine(directory: &Path) -> EngineHandle {
    engine_that_waits(directory, BUSY)
}

pub(crate) fn patient_engine(directory: &Path) -> EngineHandle {
    engine_that_waits(directory, Duration::from_secs(60))
}

fn engine_that_waits(directory: &Path, busy: Duration) -> EngineHandle {
    let entropy = Arc::new(SystemEntropy);
    EngineHandle::new(SqliteEngine::with_busy_timeout(directory, entropy, busy))
}

pub(crate) async fn converge(
    engine: &EngineHandle,
    desired: &DesiredDatabase,
    mode: ConvergeMode,
    epoch: u64,
) -> Result<Vec<Difference>, EngineError> {
    engine
        .converge(desired, mode, None, &fence(epoch), &Gate::open())
        .await
}

/// Opens a file as a program would that was given its path, with the defaults of its driver.
pub(crate) fn program(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

pub(crate) async fn session(file: &Path) -> SqliteSession {
    SqliteSession::open_with_busy_timeout(file, BUSY)
        .await
        .expect("a session")
}

pub(crate) fn fence(epoch: u64) -> Fence {
    Fence {
        epoch,
        actor: "test".into(),
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

pub(crate) fn stamp(database: u64) -> Stamp {
    Stamp {
        control_plane: ControlPlaneId::generate(Timestamp::UNIX_EPOCH, &SeededEntropy::new(7)),
        environment: name("prod"),
        team: name("shop"),
        database: name("main"),
        uid: Uid::generate(Timestamp::UNIX_EPOCH, &SeededEntropy::new(database)),
    }
}

/// An open database without accesses.
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
            login: "nobody".into(),
            state: LoginState::Disabled,
        },
    }
}

pub(crate) fn keys(found: &[Difference]) -> Vec<&str> {
    found.iter().map(|found| found.key.as_str()).collect()
}
