//! What holds for this command, joined from all the places where it may be said.
//!
//! From strongest to weakest: a flag, a `FREEHOLD_*` variable, the saved context, the client section
//! of `freehold.toml`, the default. A token is only ever sent to the server that it was saved for.

mod contexts;
mod directories;
mod file;
mod server;
pub(crate) mod store_url;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use freehold_api::client::DEFAULT_ADDRESS;
use freehold_model::{Name, Secret};

pub(crate) use contexts::{Context, Contexts, write_private};
pub(crate) use directories::Directories;
pub(crate) use file::ConfigFile;
pub(crate) use server::{LogFormat, ServerOverrides, ServerSettings, StoreChoice, TraceSettings};

use crate::{
    arguments::Global,
    failure::{Failure, Outcome},
};

/// The environment variables and the user, read once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    variables: BTreeMap<String, String>,
    pub is_root: bool,
}

impl Surroundings {
    pub(crate) fn of_process() -> Self {
        let texts = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self {
            variables: texts.collect(),
            is_root: rustix::process::geteuid().is_root(),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    #[cfg(test)]
    pub(crate) fn with(pairs: &[(&str, &str)]) -> Self {
        let owned = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Self {
            variables: owned.collect(),
            is_root: false,
        }
    }
}

/// Where the token came from, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenSource {
    Variable,
    File(PathBuf),
    Context(Name),
    /// The first admin token of a server of the same user on this machine.
    Bootstrap(PathBuf),
}

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub server: String,
    pub ca: Option<PathBuf>,
    pub environment: Name,
    pub team: Option<Name>,
    pub token: Option<(Secret, TokenSource)>,
    /// The saved context in use, if there is one.
    pub context: Option<Name>,
    pub directories: Directories,
    pub file: ConfigFile,
    pub surroundings: Surroundings,
}

impl Settings {
    pub(crate) fn resolve(global: &Global, surroundings: &Surroundings) -> Outcome<Self> {
        let directories = Directories::of(surroundings)?;
        let file = ConfigFile::load(global.config.as_deref(), &directories)?;
        let contexts = Contexts::load(&directories)?;
        let context = contexts.choose(global.context.as_ref())?;
        let saved = context.map(|(_, context)| context);
        let client = &file.client;
        let server = global
            .server
            .clone()
            .or_else(|| saved.map(|context| context.server.clone()))
            .or_else(|| client.server.clone())
            .unwrap_or_else(|| DEFAULT_ADDRESS.to_owned());
        // What was saved for one server says nothing about another.
        let matching = saved.filter(|context| same_server(&context.server, &server));
        let default_environment = || Name::new("local").expect("a valid name");
        let mut settings = Self {
            ca: global
                .ca
                .clone()
                .or_else(|| matching.and_then(|context| context.ca.clone()))
                .or_else(|| client.ca.clone()),
            environment: global
                .env
                .clone()
                .or_else(|| matching.and_then(|context| context.env.clone()))
                .or_else(|| client.env.clone())
                .unwrap_or_else(default_environment),
            team: global
                .team
                .clone()
                .or_else(|| matching.and_then(|context| context.team.clone()))
                .or_else(|| client.team.clone()),
            token: None,
            context: context.map(|(name, _)| name.clone()),
            directories,
            file,
            surroundings: surroundings.clone(),
            server,
        };
        settings.token = settings.find_token(global, matching)?;
        Ok(settings)
    }

    fn find_token(
        &self,
        global: &Global,
        matching: Option<&Context>,
    ) -> Outcome<Option<(Secret, TokenSource)>> {
        if let Some(path) = &global.token_file {
            let token = read_token(path)?;
            return Ok(Some((token, TokenSource::File(path.clone()))));
        }
        let variable = self.surroundings.get("FREEHOLD_TOKEN");
        if let Some(token) = variable.map(str::trim).filter(|token| !token.is_empty()) {
            return Ok(Some((Secret::new(token), TokenSource::Variable)));
        }
        if let (Some(context), Some(name)) = (matching, &self.context)
            && let Some(token) = &context.token
        {
            return Ok(Some((token.clone(), TokenSource::Context(name.clone()))));
        }
        Ok(self.bootstrap_token())
    }

    /// The server's first token, when it is this user's own server on this machine.
    fn bootstrap_token(&self) -> Option<(Secret, TokenSource)> {
        if !is_this_machine(&self.server) {
            return None;
        }
        let path = self.data_dir().join("bootstrap-token");
        let token = contexts::read_private(&path).ok().flatten()?;
        Some((Secret::new(token.trim()), TokenSource::Bootstrap(path)))
    }

    /// Whether the server is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        is_this_machine(&self.server)
    }

    /// Where a server started here keeps its files.
    pub(crate) fn data_dir(&self) -> PathBuf {
        let from_file = self.file.server.data_dir.clone();
        from_file.unwrap_or_else(|| self.directories.data.clone())
    }

    /// The bytes of the CA file, if one is to be trusted.
    pub(crate) fn ca_pem(&self) -> Outcome<Option<Vec<u8>>> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|e| Failure::on_file("cannot read the CA file", path, &e))
        };
        self.ca.as_ref().map(read).transpose()
    }
}

pub(crate) fn read_token(path: &Path) -> Outcome<Secret> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::on_file("cannot read the token file", path, &e))?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        let message = format!("{} does not hold a token", path.display());
        return Err(Failure::usage(message).hint("It holds one line: the token."));
    }
    Ok(Secret::new(token))
}

fn same_server(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

fn is_this_machine(address: &str) -> bool {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = match rest.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => rest.split([':', '/']).next().unwrap_or_default(),
    };
    let loopback = host
        .parse::<std::net::IpAddr>()
        .is_ok_and(|ip| ip.is_loopback());
    // A user name before the host would make the host look like this machine; `@` is refused later.
    (host == "localhost" || loopback) && !rest.contains('@')
}

#[cfg(test)]
mod tests;
