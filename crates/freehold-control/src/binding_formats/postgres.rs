//! PostgreSQL's words: libpq's variables, its URI and its password file.

use std::collections::BTreeMap;

use freehold_api::ServerBinding;
use freehold_model::Secret;

use super::{
    Inexpressible,
    escape::{host_in_uri, percent, pgpass_field},
    plain, refuse,
};

pub(super) fn keys(server: &ServerBinding) -> BTreeMap<&'static str, Secret> {
    let mut keys = server_keys("postgresql", "freehold", server);
    keys.insert("uri", uri(server, None));
    keys.insert("jdbc-url", jdbc_uri(server, None));
    keys.insert("jdbc-uri", jdbc_uri(server, None));
    if let Ok(pgpass) = pgpass(server) {
        keys.insert("pgpass", pgpass);
    }
    keys
}

/// What a binding to any server has, but for its URIs.
pub(super) fn server_keys(
    kind: &'static str,
    provider: &'static str,
    server: &ServerBinding,
) -> BTreeMap<&'static str, Secret> {
    let mut keys = BTreeMap::from([
        ("type", plain(kind)),
        ("provider", plain(provider)),
        ("host", plain(&server.host)),
        ("port", plain(&server.port.to_string())),
        ("database", plain(&server.database)),
        ("dbname", plain(&server.database)),
        ("username", plain(&server.username)),
        ("user", plain(&server.username)),
        ("password", server.password.clone()),
        ("sslmode", plain(&server.sslmode)),
    ]);
    if let Some(ca) = &server.certificates {
        keys.insert("certificates", plain(ca));
        keys.insert("ca.crt", plain(ca));
    }
    keys
}

/// libpq's variables beside the two URLs.
pub(super) fn environment(
    server: &ServerBinding,
    ca_path: Option<&str>,
) -> BTreeMap<&'static str, Secret> {
    let mut variables = BTreeMap::from([
        ("DATABASE_URL", uri(server, ca_path)),
        ("JDBC_DATABASE_URL", jdbc_uri(server, ca_path)),
        ("PGHOST", plain(&server.host)),
        ("PGPORT", plain(&server.port.to_string())),
        ("PGDATABASE", plain(&server.database)),
        ("PGUSER", plain(&server.username)),
        ("PGPASSWORD", server.password.clone()),
        ("PGSSLMODE", plain(&server.sslmode)),
    ]);
    if let Some(path) = ca_path {
        variables.insert("PGSSLROOTCERT", plain(path));
    }
    variables
}

/// `postgresql://user:password@host:port/database?sslmode=…`.
pub(super) fn uri(server: &ServerBinding, ca_path: Option<&str>) -> Secret {
    let mut uri = format!(
        "postgresql://{}:{}@{}:{}/{}?sslmode={}",
        percent(&server.username),
        percent(server.password.expose()),
        host_in_uri(&server.host),
        server.port,
        percent(&server.database),
        percent(&server.sslmode),
    );
    with_ca(&mut uri, ca_path);
    Secret::new(uri)
}

/// `jdbc:postgresql://host:port/database?user=…&password=…&sslmode=…`.
pub(super) fn jdbc_uri(server: &ServerBinding, ca_path: Option<&str>) -> Secret {
    let mut uri = format!(
        "jdbc:postgresql://{}:{}/{}?user={}&password={}&sslmode={}",
        host_in_uri(&server.host),
        server.port,
        percent(&server.database),
        percent(&server.username),
        percent(server.password.expose()),
        percent(&server.sslmode),
    );
    with_ca(&mut uri, ca_path);
    Secret::new(uri)
}

fn with_ca(uri: &mut String, ca_path: Option<&str>) {
    if let Some(path) = ca_path {
        uri.push_str("&sslrootcert=");
        uri.push_str(&percent(path));
    }
}

/// Fails for a line break or a NUL.
pub(super) fn pgpass(server: &ServerBinding) -> Result<Secret, Inexpressible> {
    refuse(server, ".pgpass", &['\n', '\r', '\0'])?;
    Ok(Secret::new(format!(
        "{}:{}:{}:{}:{}",
        pgpass_field(&server.host),
        server.port,
        pgpass_field(&server.database),
        pgpass_field(&server.username),
        pgpass_field(server.password.expose()),
    )))
}
