//! What is written down beside a change: audit entries, and the events that benefit metrics are
//! computed from.

use std::sync::Arc;

use freehold_audit::{Actor, Entry, EntryId, Outcome, pending};
use freehold_model::{Clock, Code, Entropy, Error, ResourceKey, Uid};
use freehold_store::{Batch, Key, PutMode, StoreHandle, Value, Write};
use serde::{Deserialize, Serialize};

use crate::{caller::Caller, records::own_collection};

const PRODUCT_EVENTS: &str = "product_events";

/// What happened that tells how useful the product is; recorded from day one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub(crate) enum ProductEvent {
    /// From the accepted request to a database that a program can use.
    #[serde(rename_all = "camelCase")]
    RequestToUsable { database: ResourceKey, seconds: f64 },
    /// A person had to do something.
    #[serde(rename_all = "camelCase")]
    HumanTouch {
        action: String,
        target: Option<ResourceKey>,
        subject: String,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Journal {
    pub(crate) store: StoreHandle,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

impl Journal {
    pub(crate) async fn define(&self) -> freehold_store::Result<()> {
        let name = own_collection(PRODUCT_EVENTS);
        self.store
            .define(freehold_store::CollectionSpec {
                name,
                indexes: vec![],
            })
            .await
    }

    /// An entry for something that a caller did.
    pub(crate) fn by(&self, caller: &Caller, action: &str, target: Option<&ResourceKey>) -> Entry {
        let actor = Actor::token(&caller.principal.subject, caller.token_id.clone());
        let mut entry = Entry::new(self.clock.now(), actor, action, target.cloned());
        entry.request_id = Some(caller.request_id.clone());
        entry
    }

    /// An entry for something that Freehold does by itself.
    pub(crate) fn internal(&self, action: &str, target: &ResourceKey) -> Entry {
        Entry::new(
            self.clock.now(),
            Actor::freehold(),
            action,
            Some(target.clone()),
        )
    }

    pub(crate) fn write(&self, entry: &Entry) -> Write {
        pending(entry, EntryId::generate(self.clock.now(), &*self.entropy))
    }

    /// A human touch, when it was a person.
    pub(crate) fn touch(
        &self,
        caller: &Caller,
        action: &str,
        target: Option<&ResourceKey>,
    ) -> Option<Write> {
        let person = caller.principal.kind == crate::authorize::SubjectKind::Person;
        person.then(|| {
            self.product_event(&ProductEvent::HumanTouch {
                action: action.to_owned(),
                target: target.cloned(),
                subject: caller.subject().to_owned(),
            })
        })
    }

    pub(crate) fn product_event(&self, event: &ProductEvent) -> Write {
        let now = self.clock.now();
        let key = Uid::generate(now, &*self.entropy).to_string();
        let value = serde_json::json!({ "at": now, "body": event });
        Write::Put {
            collection: own_collection(PRODUCT_EVENTS),
            key: Key::new(key).expect("a uid is a key"),
            value: Value::encode(&value).expect("an event is JSON"),
            mode: PutMode::Create,
            expires_at: None,
        }
    }

    /// Records a refusal and gives the error back. A refusal that cannot be recorded is still a
    /// refusal: the log of the server says so.
    pub(crate) async fn refused(
        &self,
        caller: &Caller,
        action: &str,
        target: Option<&ResourceKey>,
        error: Error,
    ) -> Error {
        if matches!(
            error.code,
            Code::Unavailable | Code::Undetermined | Code::Throttled | Code::Internal
        ) {
            return error;
        }
        let mut entry = self.by(caller, action, target);
        entry.outcome = Outcome::Refused { code: error.code };
        entry.reason.clone_from(&error.message);
        let batch = Batch {
            writes: vec![self.write(&entry)],
            ..Batch::new()
        };
        if let Err(failure) = self.store.apply(batch).await {
            tracing::error!(action, error = %failure, "a refusal could not be written to the audit log");
        }
        error
    }
}
