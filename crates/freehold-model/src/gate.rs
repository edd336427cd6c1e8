//! Named points in the code that a test can stop at, fail at, or never leave.
//!
//! Every save and every external effect of an operation or reconciler passes a gate before and
//! after it. In production the gate is open and costs one branch. The fault harness closes it: it
//! makes a point fail, holds a worker there past its lease, or drops the worker there as a kill
//! would.

use std::{
    fmt::{self, Debug},
    future::Future,
    pin::Pin,
    sync::Arc,
};

/// A point reached: what is about to happen or has just happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Point {
    /// `save`, or the effect in words: `create role shop_main_owner`.
    pub what: String,
    pub when: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum When {
    Before,
    After,
}

/// The fault that a closed gate makes of a point.
#[derive(Debug, thiserror::Error)]
#[error("injected fault {when:?} {what:?}")]
pub struct InjectedFault {
    pub what: String,
    pub when: When,
}

pub trait GateKeeper: Debug + Send + Sync + 'static {
    fn reach(
        &self,
        point: Point,
    ) -> Pin<Box<dyn Future<Output = Result<(), InjectedFault>> + Send + '_>>;
}

/// What production code holds. Open unless a test closes it.
#[derive(Clone, Default)]
pub struct Gate(Option<Arc<dyn GateKeeper>>);

impl Gate {
    pub fn open() -> Self {
        Self(None)
    }

    pub fn kept_by(keeper: Arc<dyn GateKeeper>) -> Self {
        Self(Some(keeper))
    }

    pub async fn before(&self, what: impl Into<String>) -> Result<(), InjectedFault> {
        self.reach(When::Before, what).await
    }

    pub async fn after(&self, what: impl Into<String>) -> Result<(), InjectedFault> {
        self.reach(When::After, what).await
    }

    async fn reach(&self, when: When, what: impl Into<String>) -> Result<(), InjectedFault> {
        match &self.0 {
            None => Ok(()),
            Some(keeper) => {
                keeper
                    .reach(Point {
                        what: what.into(),
                        when,
                    })
                    .await
            }
        }
    }
}

impl Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Gate(kept)"
        } else {
            "Gate(open)"
        })
    }
}
