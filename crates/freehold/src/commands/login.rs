use std::{io::IsTerminal as _, path::PathBuf};

use freehold_api::{Whoami, client::Client};
use freehold_model::{Name, Secret};

use crate::{
    failure::{Failure, Outcome},
    session::Session,
    settings::{Context, Contexts, TokenSource},
    units,
};

/// Prove who you are and remember it
///
/// The token is taken from --token-file, from FREEHOLD_TOKEN, from standard input, or, for a server
/// that the same user runs on this machine, from the file in which its first start left the first
/// admin token. It is saved, for this server only, in contexts.toml in the XDG configuration
/// directory, which nobody else can read. --server, --env, --team and --ca are saved with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold login
  freehold login --server https://freehold.example.com --token-file token.txt --team shop
  pass show freehold | freehold login --server https://freehold.example.com --as work")]
pub(crate) struct Args {
    /// Save under this name and make it the current context [default: the server's host]
    #[arg(long = "as", value_name = "NAME")]
    save_as: Option<Name>,
    /// Only switch to a context that was saved before
    #[arg(long, value_name = "NAME", conflicts_with = "save_as")]
    switch: Option<Name>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    if let Some(name) = &args.switch {
        return switch(name, session);
    }
    let settings = &session.settings;
    let token = token(session).await?;
    let client = Client::new(
        &settings.server,
        Some(token.clone()),
        settings.ca_pem()?.as_deref(),
    )?;
    if client.is_clear_text() {
        session
            .output
            .warn("the token travels unencrypted; use an https address");
    }
    let whoami = client.login().await?;
    let context = Context {
        server: client.address().to_owned(),
        ca: settings.ca.as_deref().map(absolute).transpose()?,
        env: Some(settings.environment.clone()),
        team: settings.team.clone(),
        token: Some(token),
    };
    let name = match args.save_as {
        Some(name) => name,
        None => name_of(client.address()),
    };
    let mut contexts = Contexts::load(&settings.directories)?;
    contexts.contexts.insert(name.clone(), context);
    contexts.current = Some(name.clone());
    contexts.save(&settings.directories)?;
    tell(session, &whoami, &name)
}

fn switch(name: &Name, session: &Session) -> Outcome {
    let directories = &session.settings.directories;
    let mut contexts = Contexts::load(directories)?;
    let Some(context) = contexts.contexts.get(name) else {
        let known: Vec<&str> = contexts.contexts.keys().map(Name::as_str).collect();
        let failure = Failure::not_found(format!("there is no context {name}"));
        return Err(failure.hint(format!("Saved: {}.", known.join(", "))));
    };
    let server = context.server.clone();
    contexts.current = Some(name.clone());
    contexts.save(directories)?;
    session.output.note(format!("context {name}: {server}"));
    Ok(())
}

/// A saved token is not used here: logging in again is how an expired one is replaced.
async fn token(session: &Session) -> Outcome<Secret> {
    let given = session.settings.token.clone();
    let explicit = matches!(
        given,
        Some((_, TokenSource::File(_) | TokenSource::Variable))
    );
    if !explicit && !std::io::stdin().is_terminal() {
        let text = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()))
            .await
            .map_err(|e| Failure::failed("standard input cannot be read").because(&e))?
            .map_err(|e| Failure::failed("standard input cannot be read").because(&e))?;
        if !text.trim().is_empty() {
            return Ok(Secret::new(text.trim()));
        }
    }
    match given {
        Some((token, TokenSource::Bootstrap(path))) => {
            session
                .output
                .note(format!("using the first token in {}", path.display()));
            Ok(token)
        }
        Some((token, _)) => Ok(token),
        None => Err(Failure::usage("there is no token to log in with").hint(
            "Give one with --token-file FILE, FREEHOLD_TOKEN, or on standard input. An admin makes \
             one with `freehold token create NAME`.",
        )),
    }
}

fn absolute(path: &std::path::Path) -> Outcome<PathBuf> {
    std::path::absolute(path).map_err(|e| Failure::on_file("cannot use", path, &e))
}

/// A name from the address's host, for people who have one server.
fn name_of(address: &str) -> Name {
    let host = address
        .split_once("://")
        .map_or(address, |(_, rest)| rest)
        .split(['/', ':'])
        .next()
        .unwrap_or_default();
    let spelled: String = host
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    Name::new(spelled).unwrap_or_else(|_| Name::new("default").expect("a valid name"))
}

fn tell(session: &Session, whoami: &Whoami, context: &Name) -> Outcome {
    if session.output.is_structured() {
        return session.output.value(whoami);
    }
    let mut roles: Vec<String> = whoami
        .platform_role
        .iter()
        .map(|role| format!("{role:?}").to_lowercase())
        .collect();
    roles.extend(
        whoami
            .teams
            .iter()
            .map(|(team, role)| format!("{} in {team}", format!("{role:?}").to_lowercase())),
    );
    let roles = if roles.is_empty() {
        "no role yet: a team's owner adds you to its members".to_owned()
    } else {
        roles.join(", ")
    };
    let ends = units::age(session.now(), whoami.expires_at);
    session.output.line(format!(
        "logged in as {} ({roles}), token ends {ends}; saved as context {context}",
        whoami.subject
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_named_after_its_host() {
        let named = |address| name_of(address).to_string();
        assert_eq!(
            named("https://freehold.example.com"),
            "freehold-example-com"
        );
        assert_eq!(named("http://localhost:7440"), "localhost");
        assert_eq!(named("http://127.0.0.1:7440"), "default");
        assert_eq!(named("http://[::1]:7440"), "default");
    }
}
