//! A binding in every form in which programs like to receive it. Pure, but for the directory.
//!
//! Each engine has its words (one file each), each form its own escaping, so that no value can end its
//! field, whatever it holds. Where a form has no spelling for a value (a line break in `.pgpass`), or
//! is another engine's, it says so instead of bending it.
//!
//! It leaves out mapping keys to names of the user's own: the environment's prefix covers the usual
//! need.

mod directory;
mod escape;
mod mysql;
mod postgres;
mod redis;
mod sqlite;

use std::collections::BTreeMap;

use freehold_api::BindingTarget;
use freehold_model::Secret;

pub use directory::write_directory;
use escape::{single_quoted, variable_name};

/// What a form cannot say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Inexpressible {
    #[error("the {field} holds a character that {form} cannot express")]
    Character {
        field: &'static str,
        form: &'static str,
    },
    #[error("{form} is a form of {engine}")]
    Engine {
        form: &'static str,
        engine: &'static str,
    },
}

/// The forms of a binding.
pub trait Forms {
    /// The keys of servicebinding.io (`type`, `provider`, `uri`; for a server `host`, `port`,
    /// `username`, `password`, `certificates`), `database` as Spring reads it, and the aliases that
    /// others use: `dbname`, `user`, `jdbc-url`, `jdbc-uri`, `pgpass`, `ca.crt`; for Redis `url`, `ssl` and
    /// `key-prefix`.
    ///
    /// `certificates` and `ca.crt` are there when there is a CA, `pgpass` when it can be expressed.
    fn keys(&self) -> BTreeMap<&'static str, Secret>;

    /// `DATABASE_URL`, `JDBC_DATABASE_URL`, and the variables that the engine's own client reads. Redis,
    /// which programs use beside a database, has `REDIS_URL` and the like instead.
    ///
    /// With a prefix each name begins with it, in upper case and with `_` for what may not stand in
    /// a name: `orders-v2` gives `ORDERS_V2_DATABASE_URL`. `ca_path` is where the program finds
    /// the CA as a file.
    fn environment(&self, prefix: Option<&str>, ca_path: Option<&str>) -> BTreeMap<String, Secret>;

    /// One JSON object of [`Forms::keys`], all values texts.
    fn json(&self) -> Secret {
        let keys = self.keys();
        let object: serde_json::Map<String, serde_json::Value> = keys
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.expose().into()))
            .collect();
        Secret::new(serde_json::Value::from(object).to_string())
    }

    /// The environment as a `.env` file: `NAME='value'`, one per line, such as a shell reads with
    /// `. ./file`. Fails for a NUL, which no environment can hold.
    fn dotenv(&self, prefix: Option<&str>, ca_path: Option<&str>) -> Result<Secret, Inexpressible> {
        let mut text = String::new();
        for (name, value) in self.environment(prefix, ca_path) {
            if value.expose().contains('\0') {
                return Err(Inexpressible::Character {
                    field: "binding",
                    form: "a .env file",
                });
            }
            text.push_str(&name);
            text.push('=');
            text.push_str(&single_quoted(value.expose()));
            text.push('\n');
        }
        Ok(Secret::new(text))
    }

    /// One line of a `.pgpass` file, without the line break: `host:port:database:user:password`.
    fn pgpass(&self) -> Result<Secret, Inexpressible>;

    /// The `[client]` section of a `my.cnf` file.
    fn my_cnf(&self, ca_path: Option<&str>) -> Result<Secret, Inexpressible>;
}

impl Forms for BindingTarget {
    fn keys(&self) -> BTreeMap<&'static str, Secret> {
        match self {
            Self::Postgresql(server) => postgres::keys(server),
            Self::Mysql(server) => mysql::keys(server),
            Self::Sqlite(file) => sqlite::keys(file),
            Self::Redis(server) => redis::keys(server),
        }
    }

    fn environment(&self, prefix: Option<&str>, ca_path: Option<&str>) -> BTreeMap<String, Secret> {
        let variables = match self {
            Self::Postgresql(server) => postgres::environment(server, ca_path),
            Self::Mysql(server) => mysql::environment(server, ca_path),
            Self::Sqlite(file) => sqlite::environment(file),
            Self::Redis(server) => redis::environment(server, ca_path),
        };
        variables
            .into_iter()
            .map(|(name, value)| (variable_name(prefix, name), value))
            .collect()
    }

    fn pgpass(&self) -> Result<Secret, Inexpressible> {
        match self {
            Self::Postgresql(server) => postgres::pgpass(server),
            Self::Mysql(_) | Self::Sqlite(_) | Self::Redis(_) => Err(Inexpressible::Engine {
                form: ".pgpass",
                engine: "PostgreSQL",
            }),
        }
    }

    fn my_cnf(&self, ca_path: Option<&str>) -> Result<Secret, Inexpressible> {
        match self {
            Self::Mysql(server) => mysql::my_cnf(server, ca_path),
            Self::Postgresql(_) | Self::Sqlite(_) | Self::Redis(_) => Err(Inexpressible::Engine {
                form: "my.cnf",
                engine: "MariaDB",
            }),
        }
    }
}

fn plain(text: &str) -> Secret {
    Secret::new(text)
}

/// The field that holds one of the characters, if any does.
fn refuse(
    server: &freehold_api::ServerBinding,
    form: &'static str,
    characters: &[char],
) -> Result<(), Inexpressible> {
    let fields = [
        ("host", server.host.as_str()),
        ("database", &server.database),
        ("username", &server.username),
        ("password", server.password.expose()),
        ("sslmode", &server.sslmode),
    ];
    match fields
        .into_iter()
        .find(|(_, value)| value.contains(characters))
    {
        None => Ok(()),
        Some((field, _)) => Err(Inexpressible::Character { field, form }),
    }
}

#[cfg(test)]
mod tests;
