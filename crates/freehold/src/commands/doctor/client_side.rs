//! From here to the server: address, TLS, clock, versions, token, team, environment, instances.

use std::{
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use freehold_api::{
    ListQuery, VersionInfo, Whoami,
    client::{self, Client},
};
use freehold_model::{Code, ConditionStatus, ConditionType, Kind, Resource, ResourceKey};

use super::finding::{self, Finding};
use crate::{commands::get, failure::Failure, session::Session, tables::Observed};

pub(super) async fn look(session: &Session, findings: &mut Vec<Finding>) {
    let Some(client) = client(session, findings) else {
        return;
    };
    let Some(version) = answers(&client, findings).await else {
        return;
    };
    findings.push(finding::versions(
        env!("CARGO_PKG_VERSION"),
        &version.version,
    ));
    if let Ok(Some(server)) = client.clock().await {
        findings.push(finding::clock(session.now(), server));
    }
    readiness(&client, findings).await;
    let source = session.settings.token.as_ref().map(|(_, source)| source);
    findings.push(finding::token_source(source));
    if source.is_none() {
        return;
    }
    let whoami = match client.whoami().await {
        Ok(whoami) => whoami,
        Err(error) => return findings.push(finding::refused_token(error)),
    };
    findings.push(finding::identity(&whoami, session.now()));
    findings.push(finding::team(session.settings.team.as_ref(), &whoami));
    environment(session, &client, findings).await;
    instances(session, &whoami, findings).await;
}

fn client(session: &Session, findings: &mut Vec<Finding>) -> Option<Client> {
    let settings = &session.settings;
    let ca = match settings.ca_pem() {
        Ok(ca) => ca,
        Err(failure) => {
            let text = format!("{}: {}", failure.message, failure.causes.join(": "));
            let bad = Finding::bad("address", text);
            findings.push(bad.fix("--ca or FREEHOLD_CA names a PEM file."));
            return None;
        }
    };
    let token = settings.token.as_ref().map(|(token, _)| token.clone());
    match Client::new(&settings.server, token, ca.as_deref()) {
        Ok(client) => {
            if client.is_clear_text() {
                let text = format!("{} is unencrypted, and so is your token", client.address());
                findings.push(Finding::doubtful("address", text).fix("Use an https address."));
            }
            Some(client)
        }
        Err(error) => {
            findings.push(
                Finding::bad("address", error.to_string())
                    .fix("Correct --server or FREEHOLD_SERVER."),
            );
            None
        }
    }
}

async fn answers(client: &Client, findings: &mut Vec<Finding>) -> Option<VersionInfo> {
    match client.version().await {
        Ok(version) => {
            findings.push(Finding::good(
                "server",
                format!("{} answers", client.address()),
            ));
            Some(version)
        }
        Err(error) => {
            findings.push(silent(client.address(), error));
            None
        }
    }
}

/// Nothing there, something else there, or TLS that is not trusted.
fn silent(address: &str, error: client::Error) -> Finding {
    const CHECK: &str = "server";
    let foreign = matches!(error, client::Error::Garbled { .. });
    let failure = Failure::from(error);
    let causes = failure.causes.join(": ");
    if causes.contains("certificate") || causes.contains("Certificate") {
        return Finding::bad(
            CHECK,
            format!("{address} shows a certificate that is not trusted: {causes}"),
        )
        .fix("If it is your own authority's, name its PEM file with --ca or FREEHOLD_CA.");
    }
    if foreign || (!address.starts_with("https") && is_open(address)) {
        let text = format!("another program than Freehold answers at {address}");
        return Finding::bad(CHECK, text).fix(
            "Let `freehold serve --listen` use another port and say so with --server, or stop the other program. Is it perhaps an https address?",
        );
    }
    let finding = Finding::bad(CHECK, format!("{}: {causes}", failure.message));
    finding.repair(failure.hint)
}

/// Whether a connection can be made at all.
fn is_open(address: &str) -> bool {
    let Some(place) = address.strip_prefix("http://") else {
        return false;
    };
    let place = place.split('/').next().unwrap_or_default();
    let with_port = if place
        .rsplit(':')
        .next()
        .is_some_and(|p| p.parse::<u16>().is_ok())
    {
        place.to_owned()
    } else {
        format!("{place}:80")
    };
    let addresses: Vec<SocketAddr> = with_port.to_socket_addrs().into_iter().flatten().collect();
    addresses
        .iter()
        .any(|at| TcpStream::connect_timeout(at, Duration::from_secs(2)).is_ok())
}

async fn readiness(client: &Client, findings: &mut Vec<Finding>) {
    const CHECK: &str = "store";
    findings.push(match client.ready().await {
        Ok(_) => Finding::good(CHECK, "the server can read and write its store"),
        Err(error) => Finding::bad(CHECK, error.to_string())
            .fix("The server's log says why: a full disk, a lost connection to PostgreSQL, a locked file."),
    });
}

async fn environment(session: &Session, client: &Client, findings: &mut Vec<Finding>) {
    const CHECK: &str = "environment";
    let name = session.environment();
    let key = ResourceKey {
        kind: Kind::Environment,
        environment: None,
        team: None,
        name: name.clone(),
    };
    match client.resource_get(&key).await {
        Ok(_) => findings.push(Finding::good(CHECK, name.to_string())),
        Err(error) if error.code() == Code::NotFound => {
            let bad = Finding::bad(CHECK, format!("there is no environment {name}"));
            findings.push(
                bad.fix("`freehold get environments` lists them; --env or FREEHOLD_ENV chooses."),
            );
        }
        Err(error) => findings.push(Finding::doubtful(CHECK, error.to_string())),
    }
}

async fn instances(session: &Session, whoami: &Whoami, findings: &mut Vec<Finding>) {
    const CHECK: &str = "instances";
    let query = ListQuery {
        environment: Some(session.environment()),
        ..ListQuery::default()
    };
    let found = match get::resources(session, Kind::Instance, query).await {
        Ok(found) => found,
        // Not everybody may see them; then it is not theirs to repair either.
        Err(_) if whoami.platform_role.is_none() => return,
        Err(failure) => return findings.push(Finding::doubtful(CHECK, failure.message)),
    };
    if found.is_empty() && whoami.platform_role.is_some() {
        let none = Finding::doubtful(CHECK, "there are none: no database can be placed");
        return findings
            .push(none.fix("Apply a manifest of kind Instance, `local: {}` or `external: …`."));
    }
    let troubled: Vec<String> = found.iter().filter_map(trouble).collect();
    if troubled.is_empty() {
        findings.push(Finding::good(
            CHECK,
            format!("{} and all can be reached", found.len()),
        ));
    } else {
        findings.push(Finding::bad(CHECK, troubled.join("\n")).fix(
            "`freehold describe instance NAME` shows when it was last seen; check address, password and network from the server's machine.",
        ));
    }
}

fn trouble(instance: &Resource) -> Option<String> {
    let observed = Observed::of(instance);
    let condition = observed
        .conditions
        .get(ConditionType::Reachable)
        .or_else(|| observed.conditions.get(ConditionType::Ready))?;
    let name = &instance.metadata.name;
    (condition.status != ConditionStatus::True)
        .then(|| format!("{name}: {} {}", condition.reason, condition.message))
}
