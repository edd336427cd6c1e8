//! Redis' words: a URI, and variables that programs agree upon. What a program must put before every key
//! and channel is among them, because the server refuses all others.

use std::collections::BTreeMap;

use freehold_api::ServerBinding;
use freehold_model::Secret;

use super::{
    escape::{host_in_uri, percent},
    plain,
};

/// `database` is, as Spring reads it, the number of a database: always 0.
pub(super) fn keys(server: &ServerBinding) -> BTreeMap<&'static str, Secret> {
    let mut keys = BTreeMap::from([
        ("type", plain("redis")),
        ("provider", plain("freehold")),
        ("host", plain(&server.host)),
        ("port", plain(&server.port.to_string())),
        ("database", plain("0")),
        ("username", plain(&server.username)),
        ("user", plain(&server.username)),
        ("password", server.password.clone()),
        (
            "ssl",
            plain(if is_secured(server) { "true" } else { "false" }),
        ),
        ("key-prefix", plain(&prefix(server))),
        ("uri", uri(server)),
        ("url", uri(server)),
    ]);
    if let Some(ca) = &server.certificates {
        keys.insert("certificates", plain(ca));
        keys.insert("ca.crt", plain(ca));
    }
    keys
}

/// `REDISCLI_AUTH` is what the client reads; the others are what programs agree upon.
pub(super) fn environment(
    server: &ServerBinding,
    ca_path: Option<&str>,
) -> BTreeMap<&'static str, Secret> {
    let mut variables = BTreeMap::from([
        ("REDIS_URL", uri(server)),
        ("REDIS_HOST", plain(&server.host)),
        ("REDIS_PORT", plain(&server.port.to_string())),
        ("REDIS_USERNAME", plain(&server.username)),
        ("REDIS_PASSWORD", server.password.clone()),
        ("REDIS_KEY_PREFIX", plain(&prefix(server))),
        ("REDISCLI_AUTH", server.password.clone()),
    ]);
    if let Some(path) = ca_path {
        variables.insert("REDIS_CA_CERT", plain(path));
    }
    variables
}

/// `redis://user:password@host:port`, or `rediss://` with TLS. There is no path: clients take it for the
/// number of a database, and the one they begin with is right.
pub(super) fn uri(server: &ServerBinding) -> Secret {
    let scheme = if is_secured(server) {
        "rediss"
    } else {
        "redis"
    };
    Secret::new(format!(
        "{scheme}://{}:{}@{}:{}",
        percent(&server.username),
        percent(server.password.expose()),
        host_in_uri(&server.host),
        server.port,
    ))
}

fn is_secured(server: &ServerBinding) -> bool {
    server.sslmode == "verify-full"
}

fn prefix(server: &ServerBinding) -> String {
    format!("{}:", server.database)
}
