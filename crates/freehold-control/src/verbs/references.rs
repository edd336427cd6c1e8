//! What must be true of a manifest beyond its own text: what it refers to is there, and what it makes
//! together with what others have written is still valid.

use freehold_model::{
    Error, Kind, Name, Resource, ResourceKey, Result,
    kinds::{Access, Class, Database, InlineAccess},
};
use freehold_plan::{apply, manifest};

use super::draft::{Draft, typed};
use crate::{start::Control, world::class_key};

impl Control {
    /// Two managers may each write a valid half of what is invalid as a whole.
    pub(super) fn check_merged(&self, merged: &Resource, live: Option<&Resource>) -> Result<()> {
        if let Err(violations) = manifest::validate(merged) {
            let lines: Vec<String> = violations
                .iter()
                .map(|v| format!("{}: {}", v.pointer, v.message))
                .collect();
            let message = format!("{} would not be valid: {}", merged.key(), lines.join("; "));
            return Err(Error::invalid(message));
        }
        let end = |resource: &Resource| resource.spec.pointer("/expiresAt").cloned();
        let expires_at = end(merged).filter(|new| live.and_then(end).as_ref() != Some(new));
        let expires_at: Option<jiff::Timestamp> =
            expires_at.and_then(|value| serde_json::from_value(value).ok());
        match expires_at.filter(|end| *end <= self.clock.now()) {
            None => Ok(()),
            Some(end) => Err(Error::invalid(format!(
                "{} would end at {end}, which is past",
                merged.key()
            ))
            .hint("Give a time to come, or delete the access.")),
        }
    }

    /// What a manifest refers to must be there, and go on being there until it is saved.
    pub(super) async fn check_references(
        &self,
        draft: &mut Draft<'_>,
        manifest: &Resource,
    ) -> Result<()> {
        let key = manifest.key();
        if let Some(environment) = &key.environment {
            let there = self
                .named(draft, Kind::Environment, None, environment)
                .await?;
            require(there, &key, &format!("the environment {environment}"))?;
        }
        if let Some(team) = &key.team {
            let there = self.named(draft, Kind::Team, None, team).await?;
            require(there, &key, &format!("the team {team}"))?;
        }
        match manifest.kind {
            Kind::Database => self.check_database(draft, &key).await,
            Kind::Access => self.check_access(draft, &key).await,
            _ => Ok(()),
        }
    }

    async fn named(
        &self,
        draft: &mut Draft<'_>,
        kind: Kind,
        team: Option<&Name>,
        name: &Name,
    ) -> Result<bool> {
        let key = ResourceKey {
            kind,
            environment: None,
            team: team.cloned(),
            name: name.clone(),
        };
        let found: Option<Resource> = draft.lean_on(&key).await?;
        Ok(found.is_some())
    }

    async fn check_database(&self, draft: &mut Draft<'_>, key: &ResourceKey) -> Result<()> {
        let drafted = &draft.drafted[key];
        let database: Database = typed(&drafted.resource)?;
        let before: Option<Database> = drafted.live.as_ref().map(typed).transpose()?;
        let environment = key
            .environment
            .as_ref()
            .expect("a database has an environment");
        let name = &database.spec.class;
        let class: Option<Class> = draft.lean_on(&class_key(environment, name)).await?;
        let class = class.ok_or_else(|| {
            Error::invalid(format!(
                "{key} asks for class {name}, which {environment} does not have"
            ))
            .hint(format!(
                "`freehold get classes --env {environment}` lists the menu."
            ))
        })?;
        let violations = manifest::validate_with_class(&database.spec, &class.spec);
        if let Some(violation) = violations.first() {
            return Err(Error::invalid(format!("{key}: {}", violation.message)));
        }
        if let Some(before) = before.filter(|before| before.spec.class != *name) {
            let old: Option<Class> = draft
                .lean_on(&class_key(environment, &before.spec.class))
                .await?;
            if let Some(old) = old {
                apply::check_class_change((&before.spec.class, &old.spec), (name, &class.spec))
                    .map_err(|refusal| {
                        Error::conflict(format!("{key}: {}", refusal.message)).hint(refusal.instead)
                    })?;
            }
        }
        let team = key.team.clone();
        for InlineAccess { workload, .. } in &database.spec.access {
            let there = self
                .named(draft, Kind::Workload, team.as_ref(), workload)
                .await?;
            require(there, key, &format!("the workload {workload}"))?;
        }
        Ok(())
    }

    async fn check_access(&self, draft: &mut Draft<'_>, key: &ResourceKey) -> Result<()> {
        let access: Access = typed(&draft.drafted[key].resource)?;
        let database = ResourceKey {
            kind: Kind::Database,
            name: access.spec.database.clone(),
            ..key.clone()
        };
        let found: Option<Resource> = draft.lean_on(&database).await?;
        require(
            found.is_some(),
            key,
            &format!("the database {}", access.spec.database),
        )?;
        let subject = &access.spec.subject;
        let team = subject.team.as_ref().or(key.team.as_ref());
        let there = self
            .named(draft, Kind::Workload, team, &subject.workload)
            .await?;
        require(there, key, &format!("the workload {}", subject.workload))
    }
}

fn require(there: bool, key: &ResourceKey, what: &str) -> Result<()> {
    if there {
        return Ok(());
    }
    Err(
        Error::invalid(format!("{key} refers to {what}, which does not exist"))
            .hint("Apply it first or in the same command, and mind the spelling."),
    )
}
