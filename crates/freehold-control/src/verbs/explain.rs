//! `freehold explain database`: the candidates and the reasons.

use freehold_api::Explanation;
use freehold_model::{
    Error, Kind, ResourceKey, Result,
    kinds::{Class, Database},
};

use super::apply::explanation;
use crate::{
    Caller,
    authorize::Action,
    start::Control,
    world::{class_key, owner},
};

impl Control {
    pub async fn database_explain(
        &self,
        caller: &Caller,
        key: &ResourceKey,
    ) -> Result<Explanation> {
        if key.kind != Kind::Database {
            return Err(Error::invalid(
                "only the placement of databases can be explained",
            ));
        }
        let context = self.context_of(key.environment.as_ref()).await?;
        Self::allow(caller, Action::Explain, Some(key), &context)?;
        let database: Database = self.records.expect(key).await?;
        let owner = owner(&database)?;
        let class: Class = self
            .records
            .expect(&class_key(owner.environment, &database.spec.class))
            .await?;
        let placing = self
            .decide_placement(owner.environment, owner.team, &database, &class)
            .await?;
        let placement = database
            .status
            .as_ref()
            .and_then(|status| status.placement.as_ref());
        let mut explanation = explanation(&placing.decision, placement.is_some());
        if let Some(placement) = placement {
            explanation.chosen = Some(placement.instance.clone());
        }
        Ok(explanation)
    }
}
