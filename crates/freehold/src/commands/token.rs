use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use freehold_api::{TokenCreate, TokenKind, TokenView};
use freehold_model::{Name, kinds::Role};
use jiff::Timestamp;

use crate::{
    failure::Outcome,
    session::Session,
    settings::write_private,
    tables::{Table, lower},
    units,
};

/// Make, list and revoke tokens
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a token; it is shown once
    #[command(after_help = "\
Examples:
  freehold token create ana
  freehold token create ci-shop --machine --days 30 --to ci-token
  freehold token create root --role admin

A team's role comes from the team's members, not from the token.")]
    Create(Create),
    /// List tokens, without their secrets
    #[command(
        visible_alias = "ls",
        after_help = "Example:\n  freehold token list -o wide"
    )]
    List,
    /// Revoke a token, at once and for good
    #[command(after_help = "Example:\n  freehold token revoke 0w3k9f2m")]
    Revoke {
        /// Its id, from `freehold token list`
        id: String,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Who it is for, e.g. `ana` or `ci-shop`
    subject: Name,
    /// For a program: it gets credentials in protected environments too
    #[arg(long)]
    machine: bool,
    /// A role for the whole platform
    #[arg(long, value_enum)]
    role: Option<PlatformRole>,
    /// Days until it ends [default: 90, at most 365]
    #[arg(long)]
    days: Option<u16>,
    /// Write the token to this file, readable by you only, instead of showing it
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PlatformRole {
    Admin,
    Operator,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    match args.verb {
        Verb::Create(create) => make(create, session).await,
        Verb::List => list(session).await,
        Verb::Revoke { id } => revoke(&id, session).await,
    }
}

async fn make(create: Create, session: &Session) -> Outcome {
    let request = TokenCreate {
        subject: create.subject,
        kind: if create.machine {
            TokenKind::Machine
        } else {
            TokenKind::Person
        },
        platform_role: create.role.map(|role| match role {
            PlatformRole::Admin => Role::Admin,
            PlatformRole::Operator => Role::Operator,
        }),
        days: create.days,
    };
    let created = session.client().await?.token_create(&request).await?;
    let until = created.view.expires_at.strftime("%Y-%m-%d");
    let note = format!(
        "token {} for {}, good until {until}",
        created.view.id, created.view.subject
    );
    let Some(path) = create.to else {
        if session.output.is_structured() {
            return session.output.value(&created);
        }
        session
            .output
            .note(format!("{note}; it is shown this once:"));
        return session.output.line(created.token.expose());
    };
    write_private(&path, format!("{}\n", created.token.expose()).as_bytes())?;
    session
        .output
        .note(format!("{note}; written to {}", path.display()));
    Ok(())
}

async fn list(session: &Session) -> Outcome {
    let list = session.client().await?.token_list().await?;
    if session.output.is_structured() {
        return session.output.value(&list);
    }
    let mut table = Table::new(&[
        "ID",
        "SUBJECT",
        "KIND",
        "ROLE",
        "STATE",
        "EXPIRES",
        "LAST USED",
        "CREATED BY",
    ]);
    let now = session.now();
    for token in &list.items {
        table.row(vec![
            token.id.clone(),
            token.subject.to_string(),
            lower(&token.kind),
            token.platform_role.as_ref().map(lower).unwrap_or_default(),
            state(token, now).to_owned(),
            units::age(now, token.expires_at),
            token
                .last_used_at
                .map(|at| format!("{} ago", units::age(now, at)))
                .unwrap_or_default(),
            token.created_by.clone(),
        ]);
    }
    session.output.write(&table.render())
}

fn state(token: &TokenView, now: Timestamp) -> &'static str {
    if token.revoked_at.is_some() {
        "revoked"
    } else if token.expires_at <= now {
        "expired"
    } else {
        "valid"
    }
}

async fn revoke(id: &str, session: &Session) -> Outcome {
    let view = session.client().await?.token_revoke(id).await?;
    if session.output.is_structured() {
        return session.output.value(&view);
    }
    session
        .output
        .line(format!("token {} of {} is revoked", view.id, view.subject))
}
