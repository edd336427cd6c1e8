//! A binding in every form in which programs like to receive it. Pure, but for the directory.

mod directory;

use std::collections::BTreeMap;

use freehold_model::Secret;

pub use directory::write_directory;

/// Everything a program needs to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `postgresql`.
    pub kind: String,
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

impl Credentials {
    /// servicebinding.io keys with the usual aliases.
    pub fn keys(&self) -> BTreeMap<&'static str, Secret> {
        unimplemented!()
    }

    /// Environment variables: `DATABASE_URL`, `PGHOST`, …; with a prefix `ORDERS_DATABASE_URL`, ….
    /// `ca_path` is where the CA file is, when there is one.
    pub fn environment(
        &self,
        _prefix: Option<&str>,
        _ca_path: Option<&str>,
    ) -> BTreeMap<String, Secret> {
        unimplemented!()
    }

    /// `postgresql://user:password@host:port/database?sslmode=…`.
    pub fn uri(&self) -> Secret {
        unimplemented!()
    }

    pub fn jdbc_uri(&self) -> Secret {
        unimplemented!()
    }

    /// One JSON object of [`Credentials::keys`].
    pub fn json(&self) -> Secret {
        unimplemented!()
    }

    /// The environment as a `.env` file.
    pub fn dotenv(&self, _prefix: Option<&str>, _ca_path: Option<&str>) -> Secret {
        unimplemented!()
    }

    /// One line of a `.pgpass` file.
    pub fn pgpass(&self) -> Secret {
        unimplemented!()
    }
}
