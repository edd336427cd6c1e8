//! Every verb of the product that somebody may or may not do.

use freehold_model::Kind;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Read one resource, its events and status.
    Get(Kind),
    /// List a kind. Without a team in the context it is allowed to everybody, and the verb shows
    /// only what [`Action::Get`] allows.
    List(Kind),
    /// Create or change, also as a dry run.
    Apply(Kind),
    Delete(Kind),
    /// Bring a quarantined database back.
    Undelete,
    /// The ranked candidates of a placement.
    Explain,
    /// Demand one instance in a placement hint.
    PinInstance,
    /// The reports that an inspection of a server gives, foreign databases included.
    InspectInstance,
    /// Hand out a workload's credential. Metadata of bindings is `Get(Binding)`.
    ReadBinding,
    /// Upload a bundle, run it, see its progress.
    Migrate,
    CancelOperation,
    CreateToken,
    ListTokens,
    RevokeToken,
    ReadAudit(AuditScope),
    ExportAudit,
    Backup,
    Restore,
    /// Wrap all secrets with the newest key-encryption key.
    RewrapSecrets,
    ReadMetrics,
    /// What the caller's own token says.
    WhoAmI,
}

/// Whose entries of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditScope {
    All,
    /// Those of the team in the context.
    Team,
}
