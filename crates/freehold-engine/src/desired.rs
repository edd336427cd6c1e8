//! What a server should hold, as plain values.

use std::fmt;

use freehold_model::{
    ControlPlaneId, Name, Secret, Uid,
    kinds::{AccessLevel, AccessTarget, Limits, Slot},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who owns a name on a server. Written into the server's registry, next to the server's identity at
/// that time, and compared before anything is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    pub control_plane: ControlPlaneId,
    pub environment: Name,
    pub team: Name,
    pub database: Name,
    pub uid: Uid,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "database {}/{} in {} of control plane {}",
            self.team, self.database, self.environment, self.control_plane
        )
    }
}

/// The right to change one database, as of an epoch. Effects of an older epoch are refused by the
/// server once a newer one has been seen there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    pub epoch: u64,
    /// What acts: an operation's id, or a reconciler's name with a nonce of its pass. Stored with the
    /// epoch: the same epoch from another actor is refused, because it can only come from an old copy
    /// of the store.
    pub actor: String,
}

/// One database with everything that belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredDatabase {
    /// The name on the server; any text the engine can quote.
    pub name: String,
    pub stamp: Stamp,
    pub state: DesiredState,
    pub limits: Limits,
    pub extensions: Vec<String>,
    pub schemas: Vec<String>,
    pub accesses: Vec<DesiredAccess>,
    pub migrator: Migrator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DesiredState {
    Open,
    /// Nobody but the administrator connects; what is there stays as it is.
    Closed,
}

/// One access with its two logins. Its names are chosen by the caller and saved before use.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredAccess {
    pub uid: Uid,
    pub level: AccessLevel,
    /// Empty means the whole database.
    pub on: Vec<AccessTarget>,
    pub logins: [DesiredLogin; 2],
}

#[derive(Debug, Clone, PartialEq)]
pub struct DesiredLogin {
    pub slot: Slot,
    pub name: String,
    pub state: LoginState,
}

#[derive(Debug, Clone, PartialEq)]
pub enum LoginState {
    /// May log in with this password. Only a verifier of it is sent to the server. The salt is
    /// derived from the secret and the login, so that the same password always gives the same
    /// verifier and a difference can be seen.
    Enabled {
        password: Secret,
        valid_until: Option<Timestamp>,
    },
    /// Exists, cannot log in, has no sessions.
    Disabled,
}

/// The login that runs migrations: a member of the owner, open only while an operation runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Migrator {
    pub login: String,
    pub state: LoginState,
}
