//! A server, an engine on it, and values to ask for.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use freehold_engine::{
    ConnectTarget, ConvergeMode, DesiredAccess, DesiredDatabase, DesiredLogin, DesiredState,
    EngineError, EngineHandle, Fence, LoginState, Migrator, Stamp, Tls,
    redis::{RedisEngine, Timeouts},
};
use freehold_model::{
    ControlPlaneId, Gate, Name, Secret, SystemEntropy, Uid,
    kinds::{AccessLevel, Difference, Limits, Slot},
};
use freehold_testing::{
    entropy::SeededEntropy,
    redis::{Login, Server},
};
use jiff::Timestamp;

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) engine: EngineHandle,
}

impl World {
    pub(crate) fn start() -> Self {
        Self::around(Server::start())
    }

    pub(crate) fn around(server: Server) -> Self {
        let engine = engine(server.port(), &server.admin_login());
        Self { server, engine }
    }

    /// Another worker with its own connections.
    pub(crate) fn another_engine(&self) -> EngineHandle {
        engine(self.server.port(), &self.server.admin_login())
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
        self.converge(desired, ConvergeMode::Apply, epoch).await
    }

    pub(crate) async fn observe(
        &self,
        desired: &DesiredDatabase,
        epoch: u64,
    ) -> Result<Vec<Difference>, EngineError> {
        self.converge(desired, ConvergeMode::Observe, epoch).await
    }

    async fn converge(
        &self,
        desired: &DesiredDatabase,
        mode: ConvergeMode,
        epoch: u64,
    ) -> Result<Vec<Difference>, EngineError> {
        self.engine
            .converge(desired, mode, None, &fence(epoch), &Gate::open())
            .await
    }

    /// Reserved and converged.
    pub(crate) async fn provision(&self, desired: &DesiredDatabase) {
        self.reserve(desired, 1).await.expect("the name is free");
        self.apply(desired, 1).await.expect("the database is made");
    }

    /// Runs a command as one of the desired logins.
    pub(crate) fn run_as(&self, login: &str, words: &[&str]) -> Result<String, String> {
        self.server.run_as(&credentials(login), words)
    }
}

pub(crate) fn engine(port: u16, login: &Login) -> EngineHandle {
    EngineHandle::new(RedisEngine::new(
        target(port, login),
        Arc::new(SystemEntropy),
    ))
}

pub(crate) fn impatient_engine(port: u16, login: &Login) -> EngineHandle {
    let timeouts = Timeouts {
        // A busy machine answers in that, and a test that waits for silence ends soon.
        answer: Duration::from_secs(3),
        ..Timeouts::default()
    };
    let mut target = target(port, login);
    target.connect_timeout = Duration::from_secs(3);
    let engine = RedisEngine::with_timeouts(target, Arc::new(SystemEntropy), timeouts);
    EngineHandle::new(engine)
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
            login: format!("{name}_migrator"),
            state: LoginState::Disabled,
        },
    }
}

/// An access whose slot A (`PREFIX_a`) is open and whose slot B (`PREFIX_b`) is not.
pub(crate) fn access(seed: u64, prefix: &str, level: AccessLevel) -> DesiredAccess {
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
        on: Vec::new(),
        logins: [login(Slot::A, "a", true), login(Slot::B, "b", false)],
    }
}

/// Opens slot B and closes slot A of the first access.
pub(crate) fn rotate(desired: &mut DesiredDatabase) {
    let [a, b] = &mut desired.accesses[0].logins;
    (a.state, b.state) = (LoginState::Disabled, enabled(&b.name));
}

/// `shop` with an access of each level, and `other` beside it.
pub(crate) fn neighbours() -> [DesiredDatabase; 2] {
    let mut shop = database("shop");
    shop.accesses = vec![
        access(1, "app", AccessLevel::ReadWrite),
        access(2, "report", AccessLevel::ReadOnly),
        access(3, "boss", AccessLevel::Owner),
    ];
    let mut other = database("other");
    other.stamp = stamp(2);
    other.accesses = vec![access(4, "other", AccessLevel::ReadWrite)];
    [shop, other]
}

pub(crate) fn keys(differences: &[Difference]) -> Vec<&str> {
    let keys = differences.iter();
    keys.map(|difference| difference.key.as_str()).collect()
}

/// A connection that stays, in the server's own line protocol: no code of the driver is in it.
pub(crate) struct Session(BufReader<TcpStream>);

impl Session {
    pub(crate) fn open(server: &Server, login: &Login) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.port())).expect("it listens");
        let patience = Some(Duration::from_secs(30));
        stream.set_read_timeout(patience).expect("a time limit");
        let mut session = Self(BufReader::new(stream));
        let answer = session.say(&format!("AUTH {} \"{}\"", login.name, login.password));
        assert_eq!(answer, "+OK", "{login:?}");
        session
    }

    /// Sends one line and returns its answer, flattened; empty when the server hung up.
    pub(crate) fn say(&mut self, line: &str) -> String {
        let line = format!("{line}\r\n");
        if self.0.get_mut().write_all(line.as_bytes()).is_err() {
            return String::new();
        }
        self.hear()
    }

    pub(crate) fn hear(&mut self) -> String {
        let mut line = String::new();
        if self.0.read_line(&mut line).unwrap_or(0) == 0 {
            return String::new();
        }
        let line = line.trim_end();
        let count = |text: &str| text.parse::<i64>().unwrap_or(-1);
        match (
            line.chars().next(),
            count(line.get(1..).unwrap_or_default()),
        ) {
            (Some('$'), size) if size >= 0 => {
                let mut text = vec![0; usize::try_from(size).expect("a size") + 2];
                self.0.read_exact(&mut text).expect("the whole text");
                String::from_utf8_lossy(&text).trim_end().to_owned()
            }
            (Some('*'), items) if items >= 0 => {
                let heard: Vec<String> = (0..items).map(|_| self.hear()).collect();
                heard.join(" ")
            }
            _ => line.to_owned(),
        }
    }
}
