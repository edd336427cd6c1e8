//! The decision.

use std::collections::BTreeMap;

use freehold_model::{Kind, Name, ResourceKey, kinds::Role};
use serde::{Deserialize, Serialize};

use super::{Action, AuditScope};

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

impl Decision {
    pub fn is_allowed(&self) -> bool {
        *self == Self::Allowed
    }
}

fn forbidden(reason: impl Into<String>) -> Decision {
    let reason = reason.into();
    Decision::Forbidden { reason }
}

/// Decides one action on one resource. `key` may be absent where the action has no resource.
pub fn authorize(
    principal: &Principal,
    action: Action,
    key: Option<&ResourceKey>,
    context: &Context,
) -> Decision {
    if let Action::Apply(kind) | Action::Delete(kind) = action
        && kind.is_view()
    {
        return forbidden(format!(
            "{kind}s are made by Freehold; they cannot be changed"
        ));
    }
    let asked = Asked {
        principal,
        action,
        team: concerned_team(key, context),
        subject_team: context.subject_team.as_ref(),
    };
    if action == Action::ReadBinding && context.protected && principal.kind == SubjectKind::Person {
        return asked.refuse(
            "the environment is protected: a workload's credential goes to the workload's own \
             machine token, not to a person",
        );
    }
    if principal.is_admin() {
        return Decision::Allowed;
    }
    match action {
        Action::WhoAmI => Decision::Allowed,
        Action::CreateToken | Action::ListTokens | Action::RevokeToken => {
            decide_token(principal, action, context.token.as_ref())
        }
        _ => asked.decide(),
    }
}

/// The team whose business it is.
fn concerned_team<'a>(key: Option<&'a ResourceKey>, context: &'a Context) -> Option<&'a Name> {
    match key {
        Some(key) if key.kind == Kind::Team => Some(&key.name),
        Some(key) => key.team.as_ref(),
        None => context.team.as_ref(),
    }
}

impl Principal {
    fn is_admin(&self) -> bool {
        self.platform_role == Some(Role::Admin)
    }

    fn is_operator(&self) -> bool {
        self.platform_role == Some(Role::Operator)
    }

    /// The role in a team. Platform roles written into a team's members give nothing.
    fn role_in(&self, team: Option<&Name>) -> Option<Role> {
        let role = self.teams.get(team?).copied()?;
        matches!(role, Role::Viewer | Role::Developer | Role::Owner).then_some(role)
    }
}

/// What it takes to be allowed.
enum Needs {
    Nobody(&'static str),
    Anybody,
    /// This role in the concerned team, or more.
    Team(Role),
    /// This role in the team of the workload.
    SubjectTeam(Role),
}

struct Asked<'a> {
    principal: &'a Principal,
    action: Action,
    team: Option<&'a Name>,
    subject_team: Option<&'a Name>,
}

impl Asked<'_> {
    fn decide(&self) -> Decision {
        if self.principal.is_operator() && operator_may(self.action) {
            return Decision::Allowed;
        }
        let needs = self.needs();
        let (role, team, whose) = match needs {
            Needs::Anybody => return Decision::Allowed,
            Needs::Nobody(reason) => return self.refuse(reason),
            Needs::Team(role) => (role, self.team, "team"),
            Needs::SubjectTeam(role) => {
                (role, self.subject_team.or(self.team), "the workload's team")
            }
        };
        let is_reader = matches!(self.action, Action::Get(Kind::Access | Kind::Binding))
            && self.principal.role_in(self.subject_team).is_some();
        if is_reader || self.principal.role_in(team) >= Some(role) {
            return Decision::Allowed;
        }
        let whose = match team {
            Some(team) if whose == "team" => format!("team {team}"),
            Some(team) => format!("team {team}, whose workload it is"),
            None => "the team".to_owned(),
        };
        self.refuse(&format!(
            "this needs the role {} in {whose}",
            role_name(role)
        ))
    }

    /// Forbidden or hidden, by whether the caller may know that the thing exists.
    fn refuse(&self, reason: &str) -> Decision {
        let member = self.principal.role_in(self.team).is_some()
            || self.principal.role_in(self.subject_team).is_some();
        let platform = self.principal.is_admin() || self.principal.is_operator();
        // Who may write these never depends on whether they exist, so saying so tells nothing.
        let public = match self.action {
            Action::Apply(kind) | Action::Delete(kind) => matches!(
                kind,
                Kind::Environment | Kind::Team | Kind::Instance | Kind::Class
            ),
            Action::InspectInstance
            | Action::ReadAudit(AuditScope::All)
            | Action::ExportAudit
            | Action::Backup
            | Action::Restore
            | Action::RewrapSecrets
            | Action::ReadMetrics => true,
            _ => false,
        };
        if member || platform || public {
            forbidden(reason)
        } else {
            Decision::Hidden
        }
    }

    fn needs(&self) -> Needs {
        match self.action {
            Action::Get(kind) => needs_to_get(kind),
            Action::List(kind) => match self.team {
                // The verb shows only what may be read one by one.
                None => Needs::Anybody,
                Some(_) => needs_to_get(kind),
            },
            Action::Apply(kind) | Action::Delete(kind) => self.needs_to_change(kind),
            Action::Undelete | Action::Migrate | Action::CancelOperation => {
                Needs::Team(Role::Developer)
            }
            Action::Explain | Action::ReadAudit(AuditScope::Team) => Needs::Team(Role::Viewer),
            Action::ReadBinding => Needs::SubjectTeam(Role::Developer),
            Action::PinInstance => Needs::Nobody("only operators and admins choose the instance"),
            Action::InspectInstance => Needs::Nobody("only operators and admins look into servers"),
            Action::ReadAudit(AuditScope::All) | Action::ExportAudit => {
                Needs::Nobody("only operators and admins read the log of all teams")
            }
            Action::ReadMetrics => Needs::Nobody("only operators and admins read the metrics"),
            Action::Backup | Action::Restore | Action::RewrapSecrets => {
                Needs::Nobody("only admins do this")
            }
            Action::WhoAmI => Needs::Anybody,
            Action::CreateToken | Action::ListTokens | Action::RevokeToken => {
                Needs::Nobody("tokens are decided about by their own rules")
            }
        }
    }

    fn needs_to_change(&self, kind: Kind) -> Needs {
        match kind {
            Kind::Environment | Kind::Instance | Kind::Class => Needs::Nobody(
                "only operators and admins change environments, instances and classes",
            ),
            Kind::Team if matches!(self.action, Action::Delete(_)) => {
                Needs::Nobody("only admins delete teams")
            }
            Kind::Team => Needs::Team(Role::Owner),
            Kind::Workload | Kind::Database => Needs::Team(Role::Developer),
            Kind::Access => {
                let foreign = self.subject_team.is_some() && self.subject_team != self.team;
                Needs::Team(if foreign {
                    Role::Owner
                } else {
                    Role::Developer
                })
            }
            Kind::Binding | Kind::Operation => Needs::Nobody("Freehold makes these"),
        }
    }
}

fn needs_to_get(kind: Kind) -> Needs {
    match kind {
        Kind::Environment | Kind::Class => Needs::Anybody,
        Kind::Instance => Needs::Nobody("only operators and admins see instances"),
        Kind::Team
        | Kind::Workload
        | Kind::Database
        | Kind::Access
        | Kind::Binding
        | Kind::Operation => Needs::Team(Role::Viewer),
    }
}

/// Runs the servers and sees what is on them: no data, no secret, no team's decision.
fn operator_may(action: Action) -> bool {
    match action {
        Action::Get(_)
        | Action::List(_)
        | Action::Explain
        | Action::PinInstance
        | Action::InspectInstance
        | Action::CancelOperation
        | Action::ReadAudit(_)
        | Action::ExportAudit
        | Action::ReadMetrics
        | Action::WhoAmI => true,
        Action::Apply(kind) | Action::Delete(kind) => {
            matches!(kind, Kind::Environment | Kind::Instance | Kind::Class)
        }
        Action::Undelete
        | Action::ReadBinding
        | Action::Migrate
        | Action::CreateToken
        | Action::ListTokens
        | Action::RevokeToken
        | Action::Backup
        | Action::Restore
        | Action::RewrapSecrets => false,
    }
}

/// Everybody looks after their own tokens, owners after those of their teams' machines.
///
/// An owner never makes a token for a person: it would act as that person wherever else the person
/// belongs. Nor for a machine that also belongs to a team that the owner does not own.
fn decide_token(principal: &Principal, action: Action, token: Option<&TokenContext>) -> Decision {
    let Some(token) = token else {
        return match action {
            // The verb shows only those that it is allowed to list one by one.
            Action::ListTokens => Decision::Allowed,
            _ => forbidden("it is not said whose token"),
        };
    };
    let own = token.subject == principal.subject && token.kind == principal.kind;
    let of_owned_machine = token.kind == SubjectKind::Machine
        && token.platform_role.is_none()
        && !token.teams.is_empty()
        && token
            .teams
            .iter()
            .all(|team| principal.role_in(Some(team)) == Some(Role::Owner));
    let allowed = match action {
        Action::CreateToken => {
            let person = principal.kind == SubjectKind::Person;
            person && (of_owned_machine || own && token.platform_role.is_none())
        }
        _ => own || principal.kind == SubjectKind::Person && of_owned_machine,
    };
    match action {
        _ if allowed => Decision::Allowed,
        Action::CreateToken => forbidden(
            "people make tokens for themselves, team owners also for machines that belong to their \
             teams only; all others, and platform roles, are an admin's to give",
        ),
        _ => Decision::Hidden,
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Developer => "developer",
        Role::Owner => "owner",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}
