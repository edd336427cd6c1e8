//! The decision.

use std::collections::BTreeMap;

use freehold_model::{Name, ResourceKey, kinds::Role};
use serde::{Deserialize, Serialize};

use super::Action;

/// Whether a subject is a person or a program. It is settled by the subject's first token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SubjectKind {
    Person,
    Machine,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub subject: Name,
    pub kind: SubjectKind,
    /// `Admin` or `Operator`, as the token says; any other role here gives nothing.
    pub platform_role: Option<Role>,
    /// Role in each team, as the Team resources say. `Admin` and `Operator` here give nothing.
    pub teams: BTreeMap<Name, Role>,
}

/// What a decision depends on beside the resource's key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// The team concerned, where no resource key names it (listing, reading the log).
    pub team: Option<Name>,
    /// The environment of the resource is marked protected.
    pub protected: bool,
    /// For Access and Binding: the team of the workload that is given access, when it is not the
    /// team of the resource itself.
    pub subject_team: Option<Name>,
    /// For the token verbs: whose token.
    pub token: Option<TokenContext>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenContext {
    pub subject: Name,
    pub kind: SubjectKind,
    pub platform_role: Option<Role>,
    /// The teams that the subject is a member of.
    pub teams: Vec<Name>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Allowed,
    /// The caller may know that the thing exists. `reason` is for the caller and the log.
    Forbidden {
        reason: String,
    },
    /// Answer as if it were not there.
    Hidden,
}

pub fn authorize(
    _principal: &Principal,
    _action: Action,
    _key: Option<&ResourceKey>,
    _context: &Context,
) -> Decision {
    unimplemented!()
}
