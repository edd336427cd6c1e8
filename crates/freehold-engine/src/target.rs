//! Where and as whom to connect.

use freehold_model::Secret;

/// Everything a connection needs, resolved: no references, no defaults left open.
#[derive(Debug, Clone)]
pub struct ConnectTarget {
    pub host: String,
    pub port: u16,
    pub username: String,
    pub password: Option<Secret>,
    pub database: String,
    pub tls: Tls,
    /// Shown by the server for this connection, e.g. `freehold/admin` or `freehold/op/0190…`.
    pub application_name: String,
    pub connect_timeout: std::time::Duration,
}

#[derive(Debug, Clone)]
pub enum Tls {
    Disable,
    /// TLS when offered, certificate not checked.
    Prefer,
    /// Certificate and host name checked against these PEM authorities, or the system's.
    VerifyFull {
        ca_pem: Option<String>,
    },
}
