use std::fmt::Write as _;

use freehold_api::OperationQuery;
use freehold_model::{Kind, Resource, kinds::OperationView};
use jiff::Timestamp;

use super::get::{self, Wish};
use crate::{
    failure::{Failure, Outcome},
    output::Tone,
    session::Session,
    tables::{self, Observed, Wanted},
    units,
};

/// Show everything about a resource: what is declared, how it is, what was done lately
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold describe database orders
  freehold describe inst/pg-1")]
pub(crate) struct Args {
    #[arg(value_name = "KIND[/NAME]")]
    kind: Wish,
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

const OPERATIONS_SHOWN: usize = 5;

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let wishes = get::named(&args.kind, &args.names)?;
    if wishes.is_empty() {
        return Err(Failure::usage("describe needs a name").hint(format!(
            "`freehold get {}` lists them.",
            args.kind.kind.plural()
        )));
    }
    for (index, (kind, text)) in wishes.iter().enumerate() {
        if index > 0 {
            session.output.line("")?;
        }
        describe(*kind, text, session).await?;
    }
    Ok(())
}

async fn describe(kind: Kind, text: &str, session: &Session) -> Outcome {
    let client = session.client().await?;
    if kind == Kind::Operation {
        let events = client.operation_events(get::operation_id(text)?, 0).await?;
        if session.output.is_structured() {
            return session.output.value(&events);
        }
        session
            .output
            .write(&freehold_plan::manifest::value_to_yaml(
                &serde_json::to_value(&events.operation).expect("a view is plain data"),
            ))?;
        for event in &events.events {
            session.output.line(crate::follow::event_line(event))?;
        }
        return Ok(());
    }
    let key = session.key(kind, get::name(text)?).await?;
    let resource = client.resource_get(&key).await?;
    if session.output.is_structured() {
        return session.output.value(&resource);
    }
    let mut operations = Vec::new();
    if kind == Kind::Database {
        let query = OperationQuery {
            environment: key.environment.clone(),
            team: key.team.clone(),
            database: Some(key.name.clone()),
            ..OperationQuery::default()
        };
        operations = get::operations(session, query, OPERATIONS_SHOWN).await?;
    }
    let out = &session.output;
    let paint = |text: &str| out.paint(Tone::Strong, text);
    out.write(&render(&resource, &operations, session.now(), &paint))
}

fn render(
    resource: &Resource,
    operations: &[OperationView],
    now: Timestamp,
    strong: &dyn Fn(&str) -> String,
) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        writeln!(text, "{label:<13}{value}").expect("writing to a String cannot fail");
    };
    let metadata = &resource.metadata;
    line("Name:", metadata.name.as_str());
    line("Kind:", resource.kind.as_str());
    if let Some(team) = &metadata.namespace {
        line("Team:", team.as_str());
    }
    if let Some(environment) = &metadata.environment {
        line("Environment:", environment.as_str());
    }
    for (index, (key, value)) in metadata.labels.iter().enumerate() {
        line(
            if index == 0 { "Labels:" } else { "" },
            &format!("{key}={value}"),
        );
    }
    if let Some(created) = metadata.creation_timestamp {
        let age = units::age(now, created);
        line(
            "Created:",
            &format!("{} ({age} ago)", created.strftime("%Y-%m-%d %H:%M:%S UTC")),
        );
    }
    if let Some(deleted) = metadata.deletion_timestamp {
        line("Deleting:", &format!("since {}", units::age(now, deleted)));
    }
    line("Generation:", &metadata.generation.to_string());
    let mut section = |title: &str, body: &str| {
        if !body.trim().is_empty() {
            writeln!(text, "\n{}", strong(title)).expect("writing to a String cannot fail");
            for line in body.lines() {
                writeln!(text, "  {line}").expect("writing to a String cannot fail");
            }
        }
    };
    section("Spec", &yaml(&resource.spec));
    let mut status = resource.status.clone().unwrap_or_default();
    if let Some(status) = status.as_object_mut() {
        status.remove("conditions");
        status.remove("observedGeneration");
    }
    section("Status", &yaml(&status));
    let observed = Observed::of(resource);
    if observed.conditions.iter().next().is_some() {
        section(
            "Conditions",
            &tables::of_conditions(observed.conditions.iter(), now),
        );
        if observed.observed_generation < metadata.generation {
            section(
                "Note",
                "The last change has not been carried out yet; what stands above is older.",
            );
        }
    }
    if !operations.is_empty() {
        let wanted = Wanted {
            wide: false,
            team: false,
            now,
        };
        section(
            "Recent operations",
            &tables::of_operations(operations, wanted),
        );
    }
    text
}

fn yaml(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::Object(map) if map.is_empty() => String::new(),
        other => freehold_plan::manifest::value_to_yaml(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_description_reads_from_what_is_declared_to_how_it_is() {
        let resource: Resource = serde_json::from_value(json!({
            "apiVersion": "freehold.dev/v1alpha1",
            "kind": "Database",
            "metadata": {"name": "orders", "namespace": "shop", "environment": "local",
                "generation": 2, "labels": {"tier": "gold"},
                "creationTimestamp": "2026-03-01T09:00:00Z"},
            "spec": {"class": "small"},
            "status": {"observedGeneration": 1, "databaseName": "local_shop_orders", "conditions": [
                {"type": "Ready", "status": "False", "reason": "Provisioning",
                 "message": "creating roles", "lastTransitionTime": "2026-03-01T11:59:00Z"}]},
        }))
        .unwrap();
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        insta::assert_snapshot!(render(&resource, &[], now, &|text| text.to_owned()), @r"
        Name:        orders
        Kind:        Database
        Team:        shop
        Environment: local
        Labels:      tier=gold
        Created:     2026-03-01 09:00:00 UTC (3h ago)
        Generation:  2

        Spec
          class: small

        Status
          databaseName: local_shop_orders

        Conditions
          TYPE   STATUS  REASON        SINCE  MESSAGE
          Ready  False   Provisioning  60s    creating roles

        Note
          The last change has not been carried out yet; what stands above is older.
        ");
    }
}
