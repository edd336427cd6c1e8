//! A binding in every form in which programs like to receive it. Pure, but for the directory.
//!
//! Each form has its own escaping, so that no value can end its field, whatever it holds. Where a
//! form has no spelling for a value (a line break in `.pgpass`), it says so instead of bending it.
//!
//! It leaves out mapping keys to names of the user's own: the environment's prefix covers the usual
//! need.

mod directory;
mod escape;

use std::collections::BTreeMap;

use freehold_model::Secret;

pub use directory::write_directory;
use escape::{host_in_uri, percent, pgpass_field, single_quoted, variable_name};

/// Everything a program needs to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The scheme of the URI: `postgresql`.
    pub kind: String,
    /// A name, an IPv4 or IPv6 address without brackets, or the folder of a Unix socket.
    pub host: String,
    pub port: u16,
    pub database: String,
    pub username: String,
    pub password: Secret,
    /// As libpq spells it: `disable`, `prefer`, `require`, `verify-full`.
    pub sslmode: String,
    /// PEM certificates of the authorities to trust.
    pub ca: Option<String>,
}

/// A value that a form has no spelling for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {field} holds a character that {form} cannot express")]
pub struct Inexpressible {
    pub field: &'static str,
    pub form: &'static str,
}

impl Credentials {
    /// The keys of servicebinding.io (`type`, `provider`, `host`, `port`, `username`, `password`,
    /// `uri`, `certificates`), `database` as Spring reads it, `sslmode`, and the aliases that
    /// others use: `dbname`, `user`, `jdbc-url`, `jdbc-uri`, `pgpass`, `ca.crt`.
    ///
    /// `certificates` and `ca.crt` are there when there is a CA, `pgpass` when it can be expressed.
    pub fn keys(&self) -> BTreeMap<&'static str, Secret> {
        let plain = |text: &str| Secret::new(text);
        let mut keys = BTreeMap::from([
            ("type", plain(&self.kind)),
            ("provider", plain("freehold")),
            ("host", plain(&self.host)),
            ("port", plain(&self.port.to_string())),
            ("database", plain(&self.database)),
            ("dbname", plain(&self.database)),
            ("username", plain(&self.username)),
            ("user", plain(&self.username)),
            ("password", self.password.clone()),
            ("sslmode", plain(&self.sslmode)),
            ("uri", self.uri()),
            ("jdbc-url", self.jdbc_uri()),
            ("jdbc-uri", self.jdbc_uri()),
        ]);
        if let Some(ca) = &self.ca {
            keys.insert("certificates", plain(ca));
            keys.insert("ca.crt", plain(ca));
        }
        if let Ok(pgpass) = self.pgpass() {
            keys.insert("pgpass", pgpass);
        }
        keys
    }

    /// `DATABASE_URL`, `JDBC_DATABASE_URL`, and libpq's `PGHOST`, `PGPORT`, `PGDATABASE`, `PGUSER`,
    /// `PGPASSWORD`, `PGSSLMODE`, `PGSSLROOTCERT`.
    ///
    /// With a prefix each name begins with it, in upper case and with `_` for what may not stand in
    /// a name: `orders-v2` gives `ORDERS_V2_DATABASE_URL`. `ca_path` is where the program finds
    /// the CA as a file.
    pub fn environment(
        &self,
        prefix: Option<&str>,
        ca_path: Option<&str>,
    ) -> BTreeMap<String, Secret> {
        let mut variables = BTreeMap::from([
            ("DATABASE_URL", self.uri_with(ca_path)),
            ("JDBC_DATABASE_URL", self.jdbc_uri_with(ca_path)),
            ("PGHOST", Secret::new(&*self.host)),
            ("PGPORT", Secret::new(self.port.to_string())),
            ("PGDATABASE", Secret::new(&*self.database)),
            ("PGUSER", Secret::new(&*self.username)),
            ("PGPASSWORD", self.password.clone()),
            ("PGSSLMODE", Secret::new(&*self.sslmode)),
        ]);
        if let Some(path) = ca_path {
            variables.insert("PGSSLROOTCERT", Secret::new(path));
        }
        variables
            .into_iter()
            .map(|(name, value)| (variable_name(prefix, name), value))
            .collect()
    }

    /// `postgresql://user:password@host:port/database?sslmode=…`.
    pub fn uri(&self) -> Secret {
        self.uri_with(None)
    }

    fn uri_with(&self, ca_path: Option<&str>) -> Secret {
        let mut uri = format!(
            "{}://{}:{}@{}:{}/{}?sslmode={}",
            self.kind,
            percent(&self.username),
            percent(self.password.expose()),
            host_in_uri(&self.host),
            self.port,
            percent(&self.database),
            percent(&self.sslmode),
        );
        if let Some(path) = ca_path {
            uri.push_str("&sslrootcert=");
            uri.push_str(&percent(path));
        }
        Secret::new(uri)
    }

    /// `jdbc:postgresql://host:port/database?user=…&password=…&sslmode=…`.
    pub fn jdbc_uri(&self) -> Secret {
        self.jdbc_uri_with(None)
    }

    fn jdbc_uri_with(&self, ca_path: Option<&str>) -> Secret {
        let mut uri = format!(
            "jdbc:{}://{}:{}/{}?user={}&password={}&sslmode={}",
            self.kind,
            host_in_uri(&self.host),
            self.port,
            percent(&self.database),
            percent(&self.username),
            percent(self.password.expose()),
            percent(&self.sslmode),
        );
        if let Some(path) = ca_path {
            uri.push_str("&sslrootcert=");
            uri.push_str(&percent(path));
        }
        Secret::new(uri)
    }

    /// One JSON object of [`Credentials::keys`], all values texts.
    pub fn json(&self) -> Secret {
        let keys = self.keys();
        let object: serde_json::Map<String, serde_json::Value> = keys
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.expose().into()))
            .collect();
        Secret::new(serde_json::Value::from(object).to_string())
    }

    /// The environment as a `.env` file: `NAME='value'`, one per line, such as a shell reads with
    /// `. ./file`. Fails for a NUL, which no environment can hold.
    pub fn dotenv(
        &self,
        prefix: Option<&str>,
        ca_path: Option<&str>,
    ) -> Result<Secret, Inexpressible> {
        self.refuse("a .env file", &['\0'])?;
        let mut text = String::new();
        for (name, value) in self.environment(prefix, ca_path) {
            text.push_str(&name);
            text.push('=');
            text.push_str(&single_quoted(value.expose()));
            text.push('\n');
        }
        Ok(Secret::new(text))
    }

    /// One line of a `.pgpass` file, without the line break: `host:port:database:user:password`.
    /// Fails for a line break or a NUL.
    pub fn pgpass(&self) -> Result<Secret, Inexpressible> {
        self.refuse(".pgpass", &['\n', '\r', '\0'])?;
        Ok(Secret::new(format!(
            "{}:{}:{}:{}:{}",
            pgpass_field(&self.host),
            self.port,
            pgpass_field(&self.database),
            pgpass_field(&self.username),
            pgpass_field(self.password.expose()),
        )))
    }

    fn refuse(&self, form: &'static str, characters: &[char]) -> Result<(), Inexpressible> {
        let fields = [
            ("host", self.host.as_str()),
            ("database", &self.database),
            ("username", &self.username),
            ("password", self.password.expose()),
            ("sslmode", &self.sslmode),
        ];
        match fields
            .into_iter()
            .find(|(_, value)| value.contains(characters))
        {
            None => Ok(()),
            Some((field, _)) => Err(Inexpressible { field, form }),
        }
    }
}

#[cfg(test)]
mod tests;
