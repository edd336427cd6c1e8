//! The connection URL of a PostgreSQL store:
//! `postgresql://user:password@host:port/database?sslmode=…&schema=…`.
//!
//! Messages never repeat the URL, because it holds a password.

use freehold_model::Secret;
use freehold_store::{PostgresConfig, PostgresTls};
use percent_encoding::percent_decode_str;

use crate::failure::{Failure, Outcome};

const FORM: &str =
    "Write it like postgresql://user:password@host:5432/database?sslmode=verify-full";

/// `authorities` is the PEM text of `server.store.postgres_ca`.
pub(crate) fn parse(url: &Secret, authorities: Option<String>) -> Outcome<PostgresConfig> {
    let refuse = |what: &str| Failure::usage(format!("the store's URL {what}")).hint(FORM);
    let text = url.expose();
    let rest = text
        .strip_prefix("postgresql://")
        .or_else(|| text.strip_prefix("postgres://"))
        .ok_or_else(|| refuse("does not begin with postgresql://"))?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest
        .split_once('/')
        .ok_or_else(|| refuse("names no database"))?;
    // A password may hold an unescaped @; a host cannot.
    let (user_info, address) = authority
        .rsplit_once('@')
        .ok_or_else(|| refuse("names no user"))?;
    let (user, password) = match user_info.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (user_info, None),
    };
    let (host, port) = split_port(address).ok_or_else(|| refuse("has a port that is no number"))?;
    let decoded = |text: &str| {
        let bytes = percent_decode_str(text).decode_utf8();
        bytes
            .map(|text| text.into_owned())
            .map_err(|_| refuse("is not UTF-8 text"))
    };
    let (host, user, database) = (decoded(host)?, decoded(user)?, decoded(database)?);
    if host.is_empty() || user.is_empty() || database.is_empty() {
        return Err(refuse("lacks a user, a host or a database"));
    }
    let mut config = PostgresConfig::new(host, port, user, database);
    config.password = password.map(decoded).transpose()?.map(Secret::new);
    let mut sslmode = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "sslmode" => sslmode = Some(decoded(value)?),
            "schema" => config.schema = decoded(value)?,
            other => {
                let message = format!("has a parameter that is not known here: {other:?}");
                return Err(refuse(&message));
            }
        }
    }
    config.tls = tls(sslmode.as_deref(), &config.host, authorities)?;
    Ok(config)
}

fn split_port(address: &str) -> Option<(&str, u16)> {
    const DEFAULT_PORT: u16 = 5432;
    if let Some(v6) = address.strip_prefix('[') {
        let (host, rest) = v6.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, port.parse().ok()?)),
            None => Some((host, DEFAULT_PORT)),
        };
    }
    match address.split_once(':') {
        Some((host, port)) => Some((host, port.parse().ok()?)),
        None => Some((address, DEFAULT_PORT)),
    }
}

/// The store holds everything: its connection is proven, or it does not leave what is trusted.
fn tls(sslmode: Option<&str>, host: &str, authorities: Option<String>) -> Outcome<PostgresTls> {
    let near = host.starts_with('/')
        || host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    match (sslmode, authorities) {
        (Some("disable"), _) => Ok(PostgresTls::Off),
        (Some("verify-full") | None, Some(authorities)) => Ok(PostgresTls::Verified { authorities }),
        (Some("verify-full"), None) => Err(Failure::usage(
            "the store's URL says sslmode=verify-full, but no authorities are named",
        )
        .hint("Name their PEM file in `server.store.postgres_ca`.")),
        (None, None) if near => Ok(PostgresTls::Off),
        (None, None) => Err(Failure::usage(
            "the store is on another machine, and its URL does not say how to protect the connection",
        )
        .hint(
            "Name the authorities' PEM file in `server.store.postgres_ca`, or say sslmode=disable \
             in a network that you trust.",
        )),
        (Some(other), _) => Err(Failure::usage(format!(
            "the store's URL says sslmode={other:?}, which proves nothing about the server"
        ))
        .hint("Say verify-full, or disable in a network that you trust.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Outcome<PostgresConfig> {
        parse(&Secret::new(url), None)
    }

    #[test]
    fn a_url_gives_each_part() {
        let url =
            "postgresql://fh:p%40ss%2F@db.internal:6000/free%20hold?sslmode=disable&schema=fh";
        let config = parsed(url).unwrap();
        assert_eq!((config.host.as_str(), config.port), ("db.internal", 6000));
        assert_eq!(
            (config.user.as_str(), config.database.as_str()),
            ("fh", "free hold")
        );
        assert_eq!(config.password.unwrap().expose(), "p@ss/");
        assert_eq!(config.schema, "fh");
        assert!(matches!(config.tls, PostgresTls::Off));
    }

    #[test]
    fn this_machine_needs_no_tls_and_another_must_say() {
        for near in [
            "postgres://u@localhost/d",
            "postgres://u@[::1]:1/d",
            "postgres://u@%2Frun%2Fpostgresql/d",
        ] {
            assert!(
                matches!(parsed(near).unwrap().tls, PostgresTls::Off),
                "{near}"
            );
        }
        for far in [
            "postgres://u@db/d",
            "postgres://u@db/d?sslmode=require",
            "postgres://u@db/d?sslmode=verify-full",
        ] {
            assert!(parsed(far).is_err(), "{far}");
        }
        let proven = parse(&Secret::new("postgres://u@db/d"), Some("PEM".to_owned())).unwrap();
        assert!(matches!(proven.tls, PostgresTls::Verified { .. }));
    }

    #[test]
    fn no_message_repeats_the_password() {
        for wrong in [
            "mysql://u:hunter2@h/d",
            "postgres://u:hunter2@h",
            "postgres://u:hunter2@h:x/d",
            "postgres://u:hunter2@h/d?x=1",
            "postgres://u:hunter2@/d",
            "postgres://u:hunter2@db/d",
        ] {
            let failure = parsed(wrong).unwrap_err();
            assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
        }
    }
}
