//! Reading resources: one, or a page of a kind.

use freehold_api::{ListQuery, ResourceList};
use freehold_model::{
    Code, Error, Kind, Name, Resource, ResourceKey, Result, Scope,
    kinds::{Access, Binding, BindingSpec, BindingStatus, EngineProfile},
};
use freehold_store::{IndexValue, Range, ScanToken};

use super::draft::typed;
use crate::{
    Caller,
    authorize::{Action, Context},
    records::{self, INDEX_ACCESS_SUBJECT},
    start::Control,
    world::World,
};

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 500;

impl Control {
    pub async fn resource_get(&self, caller: &Caller, key: &ResourceKey) -> Result<Resource> {
        match key.kind {
            Kind::Binding => self.binding_view(caller, key).await,
            Kind::Operation => Err(Error::invalid("operations are read by their id")
                .hint("`freehold operation list`, `freehold operation get ID`")),
            _ => {
                let found: Option<Resource> = self.records.get(key).await?;
                let context = context_of(found.as_ref());
                Self::allow(caller, Action::Get(key.kind), Some(key), &context)?;
                found.ok_or_else(|| records::not_found(key))
            }
        }
    }

    pub async fn resource_list(
        &self,
        caller: &Caller,
        kind: Kind,
        query: ListQuery,
    ) -> Result<ResourceList> {
        if kind == Kind::Operation {
            return Err(Error::invalid("operations are listed by their own verb")
                .hint("`freehold operation list`"));
        }
        let needs_environment =
            matches!(kind.scope(), Scope::Environment | Scope::EnvironmentAndTeam);
        if needs_environment && query.environment.is_none() {
            return Err(Error::invalid(format!(
                "listing {} needs an environment",
                kind.plural()
            )));
        }
        let context = Context {
            team: query.team.clone(),
            ..Context::default()
        };
        Self::allow(caller, Action::List(kind), None, &context)?;
        let labels = parse_labels(query.labels.as_deref())?;
        let limit = query.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
        let stored = if kind == Kind::Binding {
            Kind::Access
        } else {
            kind
        };
        let range = records::range(stored, query.environment.as_ref(), query.team.as_ref());
        let mut list = ResourceList {
            kind,
            items: Vec::new(),
            next: query.after,
        };
        // A page of the store may hold nothing that the caller may see: go on until the page is
        // full or the range is read.
        loop {
            let after = list.next.take().map(ScanToken);
            let room = limit - list.items.len();
            let (found, next) = self
                .records
                .page(stored, range.clone(), room, after)
                .await
                .map_err(bad_token)?;
            for resource in found {
                if !matches(&resource, &labels) || !may_see(caller, kind, &resource) {
                    continue;
                }
                if kind == Kind::Binding {
                    list.items.extend(self.binding_of(&resource).await?);
                } else {
                    list.items.push(resource);
                }
            }
            list.next = next.map(|token| token.0);
            if list.next.is_none() || list.items.len() >= limit {
                break;
            }
        }
        if kind == Kind::Binding && list.next.is_none() {
            self.add_foreign_bindings(caller, &query.environment, &query.team, &mut list)
                .await?;
        }
        Ok(list)
    }

    /// Bindings that other teams' accesses give to the team's workloads stand in the owners'
    /// namespaces; they are listed behind the team's own.
    async fn add_foreign_bindings(
        &self,
        caller: &Caller,
        environment: &Option<Name>,
        team: &Option<Name>,
        list: &mut ResourceList,
    ) -> Result<()> {
        let (Some(environment), Some(team)) = (environment, team) else {
            return Ok(());
        };
        let range = Range::IndexPrefix {
            index: INDEX_ACCESS_SUBJECT.to_owned(),
            values: [team, environment]
                .map(|name| IndexValue::Text(name.to_string()))
                .into(),
        };
        let accesses: Vec<Resource> = self.records.all(Kind::Access, range).await?;
        for access in accesses {
            let foreign = access.metadata.namespace.as_ref() != Some(team);
            if foreign && may_see(caller, Kind::Binding, &access) {
                list.items.extend(self.binding_of(&access).await?);
            }
        }
        Ok(())
    }

    async fn binding_view(&self, caller: &Caller, key: &ResourceKey) -> Result<Resource> {
        let access_key = ResourceKey {
            kind: Kind::Access,
            ..key.clone()
        };
        let access: Option<Resource> = self.records.get(&access_key).await?;
        let context = context_of(access.as_ref());
        Self::allow(caller, Action::Get(Kind::Binding), Some(key), &context)?;
        let access = access.ok_or_else(|| records::not_found(key))?;
        self.binding_of(&access).await?.ok_or_else(|| {
            Error::new(
                Code::FailedPrecondition,
                format!("{key} is not published yet"),
            )
            .hint("`freehold describe access` shows what it waits for.")
        })
    }

    /// The binding that an access gives, once its credentials are published.
    async fn binding_of(&self, access: &Resource) -> Result<Option<Resource>> {
        let typed_access: Access = typed(access)?;
        let Some(published) = self.published(&typed_access).await? else {
            return Ok(None);
        };
        let binding: Binding = Resource {
            api_version: access.api_version.clone(),
            kind: Kind::Binding,
            metadata: freehold_model::Metadata {
                managed_fields: std::collections::BTreeMap::new(),
                ..access.metadata.clone()
            },
            spec: BindingSpec {
                database: typed_access.spec.database.clone(),
                subject: typed_access.spec.subject.clone(),
                level: typed_access.spec.level,
            },
            status: Some(BindingStatus {
                address: published.address,
                database: published.database_name,
                username: published.username,
                slot: published.slot,
                published_at: published.at,
            }),
        };
        typed(&binding).map(Some)
    }

    /// What is public of an access's credentials; `None` until the server has accepted them.
    async fn published(&self, access: &Access) -> Result<Option<Published>> {
        if access.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let key = ResourceKey {
            kind: Kind::Database,
            name: access.spec.database.clone(),
            ..access.key()
        };
        let world = World::read(&self.records, &self.credentials, &key).await?;
        let (Some(world), Some(uid)) = (world, access.metadata.uid) else {
            return Ok(None);
        };
        let Some(held) = world.credentials.accesses.get(&uid) else {
            return Ok(None);
        };
        let (Some(at), Some(instance)) = (held.published_at, world.instance(&self.records).await?)
        else {
            return Ok(None);
        };
        let address = instance
            .status
            .as_ref()
            .and_then(|status| status.address.clone());
        let Some(address) = address else {
            return Ok(None);
        };
        let engine = EngineProfile::of(instance.spec.engine.as_str());
        let accounts = engine.is_none_or(|engine| engine.accounts);
        Ok(Some(Published {
            address,
            database_name: world.server_name()?.to_owned(),
            username: accounts.then(|| held.login(held.active).to_owned()),
            slot: held.active,
            at,
        }))
    }
}

struct Published {
    address: String,
    database_name: String,
    username: Option<String>,
    slot: freehold_model::kinds::Slot,
    at: jiff::Timestamp,
}

/// The team that an access gives to, when it is not its own.
pub(super) fn context_of(resource: Option<&Resource>) -> Context {
    let Some(resource) = resource else {
        return Context::default();
    };
    let subject_team = resource
        .spec
        .pointer("/subject/team")
        .and_then(|team| team.as_str())
        .and_then(|team| Name::new(team).ok())
        .filter(|team| Some(team) != resource.metadata.namespace.as_ref());
    Context {
        subject_team,
        ..Context::default()
    }
}

fn may_see(caller: &Caller, kind: Kind, resource: &Resource) -> bool {
    let key = ResourceKey {
        kind,
        ..resource.key()
    };
    Control::allow(
        caller,
        Action::Get(kind),
        Some(&key),
        &context_of(Some(resource)),
    )
    .is_ok()
}

fn parse_labels(text: Option<&str>) -> Result<Vec<(String, String)>> {
    let pairs = text
        .unwrap_or_default()
        .split(',')
        .filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(Error::invalid(format!("{pair:?} is not a label selector"))
                .hint("Write `key=value`, several separated by commas.")),
        })
        .collect()
}

fn matches(resource: &Resource, labels: &[(String, String)]) -> bool {
    labels
        .iter()
        .all(|(key, value)| resource.metadata.labels.get(key) == Some(value))
}

fn bad_token(error: Error) -> Error {
    if error.code == Code::Internal {
        return Error::invalid("the continuation token is not one that this listing gave")
            .hint("Start again without `after`.")
            .because(error);
    }
    error
}
