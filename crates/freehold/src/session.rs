//! What a verb works with: the settings, the output, the clock, and the client.

use std::sync::Arc;

use freehold_api::{
    Whoami,
    client::{Client, DatabasePath},
};
use freehold_model::{Clock, Kind, Name, ResourceKey, Scope, SystemClock, trace::TraceParent};
use jiff::Timestamp;
use tokio::sync::OnceCell;

use crate::{
    failure::{Exit, Failure, Outcome},
    output::Output,
    settings::Settings,
};

pub(crate) struct Session {
    pub settings: Settings,
    pub output: Output,
    clock: Arc<dyn Clock>,
    client: OnceCell<Client>,
    team: OnceCell<Name>,
}

impl Session {
    pub(crate) fn new(settings: Settings, output: Output) -> Self {
        Self {
            settings,
            output,
            clock: Arc::new(SystemClock),
            client: OnceCell::new(),
            team: OnceCell::new(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    /// The client, which needs a token.
    pub(crate) async fn client(&self) -> Outcome<&Client> {
        self.client
            .get_or_try_init(|| async {
                let settings = &self.settings;
                let Some((token, _)) = &settings.token else {
                    let message = format!("you are not logged in to {}", settings.server);
                    return Err(Failure::new(Exit::Refused, message)
                        .hint("Log in with `freehold login`, or set FREEHOLD_TOKEN."));
                };
                let ca = settings.ca_pem()?;
                // Whoever runs the program inside a span of its own says so in this variable.
                let parent = settings.surroundings.get("TRACEPARENT");
                let client = Client::new(&settings.server, Some(token.clone()), ca.as_deref())?
                    .within_trace(parent.and_then(TraceParent::parse));
                if client.is_clear_text() {
                    self.output.warn(format!(
                        "the token travels unencrypted to {}; use https",
                        client.address()
                    ));
                }
                Ok(client)
            })
            .await
    }

    pub(crate) fn environment(&self) -> Name {
        self.settings.environment.clone()
    }

    /// The team of the command: as set, or the only one that the caller belongs to.
    pub(crate) async fn team(&self) -> Outcome<Name> {
        let found = self.team.get_or_try_init(|| async {
            match &self.settings.team {
                Some(team) => Ok(team.clone()),
                None => only_team(&self.client().await?.whoami().await?),
            }
        });
        found.await.cloned()
    }

    /// The key of a resource in the command's context.
    pub(crate) async fn key(&self, kind: Kind, name: Name) -> Outcome<ResourceKey> {
        let (in_environment, in_team) = parts(kind);
        Ok(ResourceKey {
            kind,
            environment: in_environment.then(|| self.environment()),
            team: if in_team {
                Some(self.team().await?)
            } else {
                None
            },
            name,
        })
    }

    pub(crate) async fn database(&self, name: &Name) -> Outcome<DatabasePath> {
        Ok(DatabasePath {
            environment: self.environment(),
            team: self.team().await?,
            name: name.clone(),
        })
    }
}

/// Whether a kind's names are unique within an environment, and within a team.
pub(crate) fn parts(kind: Kind) -> (bool, bool) {
    match kind.scope() {
        Scope::Global => (false, false),
        Scope::Environment => (true, false),
        Scope::Team => (false, true),
        Scope::EnvironmentAndTeam => (true, true),
    }
}

fn only_team(whoami: &Whoami) -> Outcome<Name> {
    let mut teams = whoami.teams.keys();
    match (teams.next(), teams.next()) {
        (Some(only), None) => Ok(only.clone()),
        (None, _) => Err(Failure::usage("no team is set, and you belong to none")
            .hint("Say which with --team NAME or FREEHOLD_TEAM.")),
        (Some(_), Some(_)) => {
            let names: Vec<&str> = whoami.teams.keys().map(Name::as_str).collect();
            let message = format!("no team is set, and you belong to {}", names.join(", "));
            Err(Failure::usage(message)
                .hint("Say which with --team NAME, or for good with `freehold login --team NAME`."))
        }
    }
}
