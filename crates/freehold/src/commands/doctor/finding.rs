//! What a check found, and the checks that only compare values.

use freehold_api::{Whoami, client};
use freehold_model::{Code, Name};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::{
    failure::Failure,
    settings::{Settings, TokenSource},
    units,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Verdict {
    Good,
    /// Works, and may not do so for long, or is not what was meant.
    Doubtful,
    Bad,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finding {
    pub check: &'static str,
    pub verdict: Verdict,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<String>,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, message: impl Into<String>) -> Self {
        Self {
            check,
            verdict,
            message: message.into(),
            repair: None,
        }
    }

    pub(super) fn good(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, Verdict::Good, message)
    }

    pub(super) fn doubtful(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, Verdict::Doubtful, message)
    }

    pub(super) fn bad(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, Verdict::Bad, message)
    }

    pub(super) fn repair(mut self, repair: impl Into<Option<String>>) -> Self {
        self.repair = repair.into();
        self
    }

    pub(super) fn fix(self, repair: impl Into<String>) -> Self {
        self.repair(Some(repair.into()))
    }
}

pub(super) fn configuration(settings: &Settings) -> Finding {
    let message = match &settings.file.path {
        Some(path) => format!("{} is read and every key in it is known", path.display()),
        None => "no freehold.toml; the defaults hold".to_owned(),
    };
    Finding::good("configuration", message)
}

pub(super) fn token_source(source: Option<&TokenSource>) -> Finding {
    const CHECK: &str = "token";
    match source {
        None => Finding::bad(CHECK, "there is none for this server").fix(
            "`freehold login --token-file FILE`; an admin makes a token with `freehold token create NAME`.",
        ),
        Some(TokenSource::Variable) => Finding::good(CHECK, "from FREEHOLD_TOKEN"),
        Some(TokenSource::File(path)) => Finding::good(CHECK, format!("from {}", path.display())),
        Some(TokenSource::Context(name)) => Finding::good(CHECK, format!("from the context {name}")),
        Some(TokenSource::Bootstrap(path)) => {
            Finding::doubtful(CHECK, format!("the first admin token, from {}", path.display()))
                .fix("For daily work make one of your own: `freehold token create NAME`, then `freehold login`.")
        }
    }
}

/// How the server's refusal of a token, or its absence, is told.
pub(super) fn refused_token(error: client::Error) -> Finding {
    let code = error.code();
    let failure = Failure::from(error);
    if code == Code::Unauthenticated {
        return Finding::bad("login", failure.message).fix(
            "The token is unknown, expired or revoked: get a new one and `freehold login --token-file FILE`.",
        );
    }
    Finding::bad("login", failure.message).repair(failure.hint)
}

pub(super) fn identity(whoami: &Whoami, now: Timestamp) -> Finding {
    const CHECK: &str = "login";
    let left = whoami.expires_at.duration_since(now);
    let message = format!("{}, token ends {}", whoami.subject, units::duration(-left));
    if left < SignedDuration::from_hours(7 * 24) {
        return Finding::doubtful(CHECK, message)
            .fix("The token ends soon: `freehold token create NAME` makes the next one.");
    }
    Finding::good(CHECK, message)
}

pub(super) fn team(set: Option<&Name>, whoami: &Whoami) -> Finding {
    const CHECK: &str = "team";
    let member: Vec<&str> = whoami.teams.keys().map(Name::as_str).collect();
    match (set, member.as_slice()) {
        (Some(team), _) if whoami.teams.contains_key(team) => {
            Finding::good(CHECK, format!("{team}"))
        }
        (Some(team), _) if whoami.platform_role.is_some() => {
            Finding::good(CHECK, format!("{team}, through the platform role"))
        }
        (Some(team), _) => {
            Finding::bad(CHECK, format!("{team} is set, and you do not belong to it"))
                .fix("Ask one of its owners to add you to its members, or set another team.")
        }
        (None, [only]) => Finding::good(CHECK, format!("{only}, the only one you belong to")),
        (None, []) if whoami.platform_role.is_some() => {
            Finding::doubtful(CHECK, "none is set; commands on databases need --team NAME")
                .fix("`freehold login --team NAME` remembers one.")
        }
        (None, []) => Finding::bad(CHECK, "you belong to none")
            .fix("Ask an owner of your team to add you to its members."),
        (None, _) => Finding::doubtful(
            CHECK,
            format!("none is set, and you belong to {}", member.join(", ")),
        )
        .fix("`freehold login --team NAME` remembers one."),
    }
}

/// Tokens and certificates are judged by the clock.
pub(super) fn clock(here: Timestamp, server: Timestamp) -> Finding {
    const CHECK: &str = "clock";
    let apart = here.duration_since(server).abs();
    let message = format!("{} apart from the server's", units::duration(apart));
    if apart > SignedDuration::from_secs(60) {
        return Finding::bad(CHECK, message).fix(
            "Set this machine's clock, e.g. with `timedatectl set-ntp true`; then the server's.",
        );
    }
    if apart > SignedDuration::from_secs(5) {
        return Finding::doubtful(CHECK, message).fix("Set the clock of both machines by NTP.");
    }
    Finding::good(CHECK, message)
}

pub(super) fn versions(here: &str, server: &str) -> Finding {
    const CHECK: &str = "version";
    if here == server {
        return Finding::good(CHECK, format!("{here} here and on the server"));
    }
    let message = format!("{here} here, {server} on the server");
    let series =
        |version: &str| -> Vec<String> { version.split('.').take(2).map(str::to_owned).collect() };
    if series(here) == series(server) {
        return Finding::good(CHECK, message);
    }
    Finding::doubtful(CHECK, message).fix("Use the same release on both sides.")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn whoami(teams: &[&str], platform: bool) -> Whoami {
        let teams: serde_json::Map<String, serde_json::Value> = teams
            .iter()
            .map(|t| ((*t).to_owned(), json!("developer")))
            .collect();
        let mut value = json!({
            "subject": "ana", "kind": "person", "teams": teams, "expiresAt": "2026-03-31T00:00:00Z",
            "server": {"version": "0.1.0", "controlPlane": "x"},
        });
        if platform {
            value["platformRole"] = json!("operator");
        }
        serde_json::from_value(value).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_clock_is_judged_by_how_far_apart_it_is() {
        let server = at("2026-03-01T12:00:00Z");
        let verdict = |here| clock(at(here), server).verdict;
        assert_eq!(verdict("2026-03-01T12:00:02Z"), Verdict::Good);
        assert_eq!(verdict("2026-03-01T11:59:40Z"), Verdict::Doubtful);
        assert_eq!(verdict("2026-03-01T13:00:00Z"), Verdict::Bad);
    }

    #[test]
    fn a_team_is_wrong_only_when_it_cannot_work() {
        let shop = Name::new("shop").unwrap();
        let verdict = |set: Option<&Name>, teams: &[&str], platform| {
            team(set, &whoami(teams, platform)).verdict
        };
        assert_eq!(verdict(Some(&shop), &["shop"], false), Verdict::Good);
        assert_eq!(verdict(Some(&shop), &["bi"], false), Verdict::Bad);
        assert_eq!(verdict(Some(&shop), &[], true), Verdict::Good);
        assert_eq!(verdict(None, &["shop"], false), Verdict::Good);
        assert_eq!(verdict(None, &["bi", "shop"], false), Verdict::Doubtful);
        assert_eq!(verdict(None, &[], true), Verdict::Doubtful);
        assert_eq!(verdict(None, &[], false), Verdict::Bad);
    }

    #[test]
    fn a_token_that_ends_soon_is_told() {
        let whoami = whoami(&["shop"], false);
        assert_eq!(
            identity(&whoami, at("2026-03-01T00:00:00Z")).verdict,
            Verdict::Good
        );
        assert_eq!(
            identity(&whoami, at("2026-03-28T00:00:00Z")).verdict,
            Verdict::Doubtful
        );
    }

    #[test]
    fn versions_may_differ_in_their_last_part() {
        assert_eq!(versions("1.2.3", "1.2.3").verdict, Verdict::Good);
        assert_eq!(versions("1.2.3", "1.2.9").verdict, Verdict::Good);
        assert_eq!(versions("1.2.3", "1.3.0").verdict, Verdict::Doubtful);
    }
}
