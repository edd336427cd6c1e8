use std::str::FromStr;

use freehold_api::{ListQuery, OperationQuery};
use freehold_model::{Kind, Name, OperationId, Resource, kinds::OperationView};

use super::apply::name_line;
use crate::{
    arguments::Format,
    failure::{Failure, Outcome},
    session::{self, Session},
    tables::{self, Wanted},
};

/// Show resources
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Kinds: environments (env), teams, workloads (wl), instances (inst), classes, databases (db),
accesses, bindings, operations (op).

Examples:
  freehold get databases
  freehold get db orders -o yaml
  freehold get db/orders wl/checkout
  freehold get db -A -l tier=gold -o wide")]
pub(crate) struct Args {
    /// A kind, or KIND/NAME
    #[arg(value_name = "KIND[/NAME]")]
    kind: Wish,
    /// Names of that kind, or more KIND/NAME
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Of all teams that you may see
    #[arg(short = 'A', long = "all-teams", visible_alias = "all-namespaces")]
    all_teams: bool,
    /// Only those with these labels: key=value, comma-separated
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
}

/// `databases`, `db`, `db/orders`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub kind: Kind,
    pub name: Option<String>,
}

impl FromStr for Wish {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once('/') {
            Some((kind, name)) => (kind, Some(name.to_owned())),
            None => (text, None),
        };
        Ok(Self {
            kind: parse_kind(kind)?,
            name,
        })
    }
}

pub(crate) fn parse_kind(text: &str) -> Result<Kind, String> {
    Kind::parse(text).ok_or_else(|| {
        let known = Kind::ALL.map(Kind::plural).join(", ");
        format!("there is no kind {text:?}; kinds are {known}")
    })
}

/// The resources that KIND/NAME and NAME arguments name.
pub(crate) fn named(first: &Wish, more: &[String]) -> Outcome<Vec<(Kind, String)>> {
    let mut wishes: Vec<(Kind, String)> = Vec::new();
    wishes.extend(first.name.clone().map(|name| (first.kind, name)));
    for text in more {
        if text.contains('/') {
            let wish: Wish = text.parse().map_err(Failure::usage)?;
            wishes.push((wish.kind, wish.name.unwrap_or_default()));
        } else if first.name.is_some() {
            let message = format!("{text:?} names no kind");
            return Err(
                Failure::usage(message).hint("Write KIND/NAME for each, or KIND NAME NAME …")
            );
        } else {
            wishes.push((first.kind, text.clone()));
        }
    }
    Ok(wishes)
}

pub(crate) fn name(text: &str) -> Outcome<Name> {
    Name::new(text).map_err(|e| Failure::usage(e.to_string()))
}

pub(crate) fn operation_id(text: &str) -> Outcome<OperationId> {
    text.parse().map_err(|_| {
        Failure::usage(format!("{text:?} is not an operation's id"))
            .hint("`freehold get operations` lists them.")
    })
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let wishes = named(&args.kind, &args.names)?;
    if wishes.is_empty() {
        return list(&args, session).await;
    }
    if args.all_teams || args.selector.is_some() {
        return Err(
            Failure::usage("-A and -l choose among many; a name names one")
                .hint("Leave out either the name or the option."),
        );
    }
    let mut found = Vec::new();
    for (kind, text) in wishes {
        found.push(one(kind, &text, session).await?);
    }
    show(&found, true, false, session)
}

async fn one(kind: Kind, text: &str, session: &Session) -> Outcome<Resource> {
    let client = session.client().await?;
    if kind == Kind::Operation {
        return Ok(untyped(&client.operation_get(operation_id(text)?).await?));
    }
    let key = session.key(kind, name(text)?).await?;
    Ok(client.resource_get(&key).await?)
}

async fn list(args: &Args, session: &Session) -> Outcome {
    let kind = args.kind.kind;
    let (in_environment, in_team) = session::parts(kind);
    let team = if in_team && !args.all_teams {
        Some(session.team().await?)
    } else {
        None
    };
    if kind == Kind::Operation {
        let query = OperationQuery {
            environment: Some(session.environment()),
            team,
            ..OperationQuery::default()
        };
        let operations = operations(session, query, usize::MAX).await?;
        return show_operations(&operations, session);
    }
    let query = ListQuery {
        environment: in_environment.then(|| session.environment()),
        team,
        labels: args.selector.clone(),
        limit: None,
        after: None,
    };
    let found = resources(session, kind, query).await?;
    if found.is_empty() && !session.output.is_structured() {
        let place = match (&args.all_teams, in_team) {
            (false, true) => format!(" of team {}", session.team().await?),
            _ => String::new(),
        };
        let environment = session.environment();
        let inside = if in_environment {
            format!(" in {environment}")
        } else {
            String::new()
        };
        session
            .output
            .note(format!("no {}{place}{inside}", kind.plural()));
        return Ok(());
    }
    show(&found, false, args.all_teams, session)
}

/// All pages.
pub(crate) async fn resources(
    session: &Session,
    kind: Kind,
    mut query: ListQuery,
) -> Outcome<Vec<Resource>> {
    let client = session.client().await?;
    let mut found = Vec::new();
    query.limit = Some(500);
    loop {
        let page = client.resource_list(kind, &query).await?;
        found.extend(page.items);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(found),
        }
    }
}

/// The newest operations, at most so many. The server lists the oldest first, so all pages are read.
pub(crate) async fn operations(
    session: &Session,
    mut query: OperationQuery,
    most: usize,
) -> Outcome<Vec<OperationView>> {
    let client = session.client().await?;
    let mut found = Vec::new();
    query.limit = Some(500);
    loop {
        let page = client.operation_list(&query).await?;
        found.extend(page.items);
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    found.sort_by_key(|view| std::cmp::Reverse((view.spec.created_at, view.spec.id)));
    found.truncate(most);
    Ok(found)
}

fn untyped(view: &OperationView) -> Resource {
    let value = serde_json::to_value(view).expect("a view is plain data");
    serde_json::from_value(value).expect("a view is a resource")
}

fn wanted(session: &Session, team: bool) -> Wanted {
    Wanted {
        wide: session.output.format == Format::Wide,
        team,
        now: session.now(),
    }
}

pub(crate) fn show_operations(operations: &[OperationView], session: &Session) -> Outcome {
    let out = &session.output;
    match out.format {
        Format::Json | Format::Yaml => out.value(&serde_json::json!({ "items": operations })),
        Format::Name => {
            let lines = operations
                .iter()
                .map(|view| format!("operation/{}\n", view.spec.id));
            out.write(&lines.collect::<String>())
        }
        Format::Table | Format::Wide => {
            out.write(&tables::of_operations(operations, wanted(session, false)))
        }
    }
}

fn show(found: &[Resource], single: bool, all_teams: bool, session: &Session) -> Outcome {
    let out = &session.output;
    match (out.format, found) {
        (Format::Json, [only]) if single => out.value(only),
        (Format::Json, many) => out.value(&serde_json::json!({ "kind": "List", "items": many })),
        (Format::Yaml, many) => {
            let documents: Vec<String> =
                many.iter().map(freehold_plan::manifest::to_yaml).collect();
            out.write(&documents.join("---\n"))
        }
        (Format::Name, many) => out.write(
            &many
                .iter()
                .map(|resource| name_line(&resource.key()))
                .collect::<String>(),
        ),
        (Format::Table | Format::Wide, many) => {
            for (kind, group) in by_kind(many) {
                if kind == Kind::Operation {
                    let views = group
                        .iter()
                        .filter_map(|r| serde_json::from_value(serde_json::to_value(r).ok()?).ok());
                    let views: Vec<OperationView> = views.collect();
                    out.write(&tables::of_operations(&views, wanted(session, false)))?;
                } else {
                    out.write(&tables::of_resources(
                        kind,
                        group,
                        wanted(session, all_teams),
                    ))?;
                }
            }
            Ok(())
        }
    }
}

/// Neighbours of one kind share a table.
fn by_kind(resources: &[Resource]) -> impl Iterator<Item = (Kind, &[Resource])> {
    resources
        .chunk_by(|a, b| a.kind == b.kind)
        .map(|group| (group[0].kind, group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_named_as_kubectl_names_them() {
        let wish = |text: &str| text.parse::<Wish>();
        let named = |first: &str, more: &[&str]| {
            let more: Vec<String> = more.iter().map(|m| (*m).to_owned()).collect();
            super::named(&wish(first).unwrap(), &more)
        };
        let db = |name: &str| (Kind::Database, name.to_owned());
        assert_eq!(named("db", &[]).unwrap(), []);
        assert_eq!(named("databases", &["a", "b"]).unwrap(), [db("a"), db("b")]);
        assert_eq!(
            named("db/a", &["wl/b"]).unwrap(),
            [db("a"), (Kind::Workload, "b".to_owned())]
        );
        assert!(named("db/a", &["b"]).is_err());
        assert!(wish("tables").unwrap_err().contains("databases"));
    }
}
