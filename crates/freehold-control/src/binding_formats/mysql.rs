//! MariaDB's words: the variables and the option file of its client, the URI of MySQL drivers.

use std::collections::BTreeMap;

use freehold_api::ServerBinding;
use freehold_model::Secret;

use super::{
    Inexpressible,
    escape::{host_in_uri, option_value, percent},
    plain,
    postgres::server_keys,
    refuse,
};

pub(super) fn keys(server: &ServerBinding) -> BTreeMap<&'static str, Secret> {
    // Spring takes MariaDB's own driver for a `mysql` binding from this provider.
    let mut keys = server_keys("mysql", "mariadb", server);
    keys.insert("uri", uri(server, None));
    keys.insert("jdbc-url", jdbc_uri(server, None));
    keys.insert("jdbc-uri", jdbc_uri(server, None));
    keys
}

/// `MYSQL_HOST`, `MYSQL_TCP_PORT` and `MYSQL_PWD` are what the client reads; the others are what
/// programs and images agree upon.
pub(super) fn environment(
    server: &ServerBinding,
    ca_path: Option<&str>,
) -> BTreeMap<&'static str, Secret> {
    let port = server.port.to_string();
    let mut variables = BTreeMap::from([
        ("DATABASE_URL", uri(server, ca_path)),
        ("JDBC_DATABASE_URL", jdbc_uri(server, ca_path)),
        ("MYSQL_HOST", plain(&server.host)),
        ("MYSQL_PORT", plain(&port)),
        ("MYSQL_TCP_PORT", plain(&port)),
        ("MYSQL_DATABASE", plain(&server.database)),
        ("MYSQL_USER", plain(&server.username)),
        ("MYSQL_PASSWORD", server.password.clone()),
        ("MYSQL_PWD", server.password.clone()),
    ]);
    if let Some(path) = ca_path {
        variables.insert("MYSQL_SSL_CA", plain(path));
    }
    variables
}

/// `mysql://user:password@host:port/database?ssl-mode=…`, with MySQL's words for the mode.
pub(super) fn uri(server: &ServerBinding, ca_path: Option<&str>) -> Secret {
    let mode = match server.sslmode.as_str() {
        "disable" => "DISABLED",
        "prefer" => "PREFERRED",
        _ => "VERIFY_IDENTITY",
    };
    let mut uri = format!(
        "mysql://{}:{}@{}:{}/{}?ssl-mode={mode}",
        percent(&server.username),
        percent(server.password.expose()),
        host_in_uri(&server.host),
        server.port,
        percent(&server.database),
    );
    if let Some(path) = ca_path {
        uri.push_str("&ssl-ca=");
        uri.push_str(&percent(path));
    }
    Secret::new(uri)
}

/// `jdbc:mariadb://host:port/database?user=…&password=…&sslMode=…`, as MariaDB's driver reads it.
pub(super) fn jdbc_uri(server: &ServerBinding, ca_path: Option<&str>) -> Secret {
    let mode = match server.sslmode.as_str() {
        "disable" => "disable",
        "prefer" => "trust",
        _ => "verify-full",
    };
    let mut uri = format!(
        "jdbc:mariadb://{}:{}/{}?user={}&password={}&sslMode={mode}",
        host_in_uri(&server.host),
        server.port,
        percent(&server.database),
        percent(&server.username),
        percent(server.password.expose()),
    );
    if let Some(path) = ca_path {
        uri.push_str("&serverSslCert=");
        uri.push_str(&percent(path));
    }
    Secret::new(uri)
}

/// Fails for a NUL.
pub(super) fn my_cnf(
    server: &ServerBinding,
    ca_path: Option<&str>,
) -> Result<Secret, Inexpressible> {
    refuse(server, "my.cnf", &['\0'])?;
    let mut text = format!(
        "[client]\nhost={}\nport={}\ndatabase={}\nuser={}\npassword={}\n",
        option_value(&server.host),
        server.port,
        option_value(&server.database),
        option_value(&server.username),
        option_value(server.password.expose()),
    );
    if server.sslmode == "verify-full" {
        text.push_str("ssl-verify-server-cert\n");
    }
    if let Some(path) = ca_path {
        text.push_str(&format!("ssl-ca={}\n", option_value(path)));
    }
    Ok(Secret::new(text))
}
