//! The product's verbs, one file each. A verb checks the caller, reads, decides, and saves its
//! change with its audit entry and its follow-up operation in one batch.

mod apply;
mod audit;
pub(crate) mod backup;
mod bindings;
pub(crate) mod bundles;
mod delete;
mod draft;
mod explain;
mod identity;
mod migrations;
mod operations;
mod read;
mod references;
mod tokens;
mod undelete;

use freehold_model::{Code, Error, Name, ResourceKey, Result};

use crate::{
    Caller,
    authorize::{self, Action, Context, Decision},
    records,
    start::Control,
    world,
};

impl Control {
    /// Refuses what the caller may not do. What the caller may not even know of looks absent.
    pub(crate) fn allow(
        caller: &Caller,
        action: Action,
        key: Option<&ResourceKey>,
        context: &Context,
    ) -> Result<()> {
        match authorize::authorize(&caller.principal, action, key, context) {
            Decision::Allowed => Ok(()),
            Decision::Forbidden { reason } => Err(Error::new(Code::Forbidden, reason)
                .hint("Ask somebody with that role, or `freehold login` as somebody who has it.")),
            Decision::Hidden => Err(match key {
                Some(key) => records::not_found(key),
                None => Error::not_found("there is no such thing"),
            }),
        }
    }

    /// A result as it is, with the refusal in the log when it is one.
    pub(crate) async fn recorded<T>(
        &self,
        caller: &Caller,
        action: &str,
        target: Option<&ResourceKey>,
        result: Result<T>,
    ) -> Result<T> {
        match result {
            Ok(done) => Ok(done),
            Err(error) => Err(self.journal.refused(caller, action, target, error).await),
        }
    }

    /// The context of a resource that lives in an environment.
    pub(crate) async fn context_of(&self, environment: Option<&Name>) -> Result<Context> {
        let protected = match environment {
            Some(environment) => world::is_protected(&self.records, environment).await?,
            None => false,
        };
        Ok(Context {
            protected,
            ..Context::default()
        })
    }
}
