//! What a manifest may ask of each engine, as data: so that what can never work is refused when it is
//! applied, and not an hour later on a server.

/// One engine that an instance or class may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineProfile {
    pub name: &'static str,
    /// Freehold can use a server that the company already runs.
    pub external: bool,
    /// Freehold can make one on its own machine.
    pub local: bool,
    /// A local one is a server with a version and a port, not a folder of files.
    pub local_server: bool,
    /// Programs log in.
    pub accounts: bool,
    /// The limits that it can hold, by field name of `Limits`.
    pub limits: &'static [&'static str],
    pub schemas: bool,
    pub extensions: bool,
    /// Accesses may name single tables.
    pub table_grants: bool,
    /// There is a schema, and scripts may change it.
    pub migrations: bool,
    /// A server can be asked whether it speaks TLS, so programs may be told to prefer it.
    pub tls_by_choice: bool,
}

const PROFILES: &[EngineProfile] = &[
    EngineProfile {
        name: "postgres",
        external: true,
        local: true,
        local_server: true,
        accounts: true,
        limits: &[
            "connections",
            "statementTimeoutMs",
            "lockTimeoutMs",
            "idleInTransactionTimeoutMs",
            "tempFilesMib",
        ],
        schemas: true,
        extensions: true,
        table_grants: true,
        migrations: true,
        tls_by_choice: true,
    },
    EngineProfile {
        name: "mariadb",
        external: true,
        local: false,
        local_server: false,
        accounts: true,
        limits: &["connections", "statementTimeoutMs"],
        schemas: false,
        extensions: false,
        table_grants: true,
        migrations: true,
        tls_by_choice: true,
    },
    EngineProfile {
        name: "sqlite",
        external: false,
        local: true,
        local_server: false,
        accounts: false,
        limits: &[],
        schemas: false,
        extensions: false,
        table_grants: false,
        migrations: true,
        tls_by_choice: true,
    },
    EngineProfile {
        name: "redis",
        external: true,
        local: false,
        local_server: false,
        accounts: true,
        limits: &[],
        schemas: false,
        extensions: false,
        table_grants: false,
        migrations: false,
        tls_by_choice: false,
    },
];

/// The names of the engines that an instance or class may name.
pub const ENGINES: &[&str] = &["postgres", "mariadb", "sqlite", "redis"];

impl EngineProfile {
    pub fn of(engine: &str) -> Option<&'static Self> {
        PROFILES.iter().find(|profile| profile.name == engine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_has_a_profile() {
        let names: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
        assert_eq!(names, ENGINES);
    }
}
