//! The smallest change that would let a database be placed.
//!
//! Each blocker has at most one remedy. The candidate that needs the fewest wins, and among equals
//! the one whose remedies are the lightest: lifting a cordon is lighter than adding storage. When
//! no candidate can be made to fit, a new instance is described that would.

use std::fmt;

use freehold_model::{Name, kinds::Isolation};

use super::{Candidate, Dimension, PlacementRequest, fit, fit::Blocker};

/// One thing to change so that a candidate fits. A property test follows each and places again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    LiftCordon {
        instance: Name,
    },
    /// Add the class to the instance's `spec.classes`.
    AddClass {
        instance: Name,
        class: Name,
    },
    /// Add the team to the instance's `spec.allowedTeams`.
    AllowTeam {
        instance: Name,
        team: Name,
    },
    /// Remove `spec.placement.instance` from the database.
    DropInstanceHint,
    /// Remove databases from `spec.placement.avoid` of the database.
    DropAvoid {
        databases: Vec<String>,
    },
    /// Declare more capacity, having provided it.
    RaiseCapacity {
        instance: Name,
        dimension: Dimension,
        to: u64,
    },
    /// Get the server to answer.
    Reach {
        instance: Name,
    },
    /// Install the extensions' files on the server.
    InstallExtensions {
        instance: Name,
        extensions: Vec<String>,
    },
    /// Register another instance.
    Register {
        engine: Name,
        /// The name it must have, when the database asks for it.
        name: Option<Name>,
        dedicated: bool,
        version: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayOut {
    /// What to do, as one sentence without a full stop.
    pub text: String,
    /// All of them together make the database fit.
    pub remedies: Vec<Remedy>,
}

impl fmt::Display for WayOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `blocked` is sorted by name and none of it is without a blocker.
pub(super) fn find(request: &PlacementRequest, blocked: &[(&Candidate, Vec<Blocker>)]) -> WayOut {
    let mut best: Option<(usize, Vec<Remedy>, &Candidate)> = None;
    for (candidate, blockers) in blocked {
        let remedies: Option<Vec<Remedy>> = blockers
            .iter()
            .map(|it| remedy(request, candidate, it))
            .collect();
        let Some(remedies) = remedies else {
            continue;
        };
        let cost = remedies.iter().map(|it| 100 + weight(it)).sum();
        if best.as_ref().is_none_or(|(least, _, _)| cost < *least) {
            best = Some((cost, remedies, candidate));
        }
    }
    match best {
        None => register(request, blocked),
        Some((_, remedies, candidate)) => WayOut {
            text: describe(request, candidate, &remedies),
            remedies,
        },
    }
}

fn remedy(request: &PlacementRequest, candidate: &Candidate, blocker: &Blocker) -> Option<Remedy> {
    let instance = candidate.name.clone();
    Some(match blocker {
        Blocker::Engine
        | Blocker::Deleting
        | Blocker::Tenancy
        | Blocker::Owned
        | Blocker::Version(_) => return None,
        Blocker::Instance => {
            // A shared class stays on a dedicated instance only as long as it is named.
            Remedy::DropInstanceHint
        }
        Blocker::Class => Remedy::AddClass {
            instance,
            class: request.class_name.clone(),
        },
        Blocker::Team => Remedy::AllowTeam {
            instance,
            team: request.team.clone(),
        },
        Blocker::Cordon => Remedy::LiftCordon { instance },
        Blocker::Unreachable | Blocker::Unknown => Remedy::Reach { instance },
        Blocker::Avoid(databases) => Remedy::DropAvoid {
            databases: databases.clone(),
        },
        Blocker::Extensions(extensions) => Remedy::InstallExtensions {
            instance,
            extensions: extensions.clone(),
        },
        Blocker::Full { dimension, .. } => Remedy::RaiseCapacity {
            instance,
            dimension: *dimension,
            to: sufficient(request, candidate, *dimension)?,
        },
    })
}

/// The least capacity to declare so that the request fits beside what is promised; `None` when
/// everything is to be kept free or no number is large enough.
fn sufficient(
    request: &PlacementRequest,
    candidate: &Candidate,
    dimension: Dimension,
) -> Option<u64> {
    let used = candidate.allocation.totals_without(request.uid);
    let promised = dimension.of(&used) + dimension.need(&request.load);
    let share = 100 - dimension.headroom_percent(&candidate.spec.capacity);
    let declared = (promised * 100).checked_add(share.checked_sub(1)?)? / share;
    let within = declared <= dimension.declared_max();
    within.then(|| u64::try_from(declared).ok()).flatten()
}

/// How much trouble it is, compared with the others.
fn weight(remedy: &Remedy) -> usize {
    match remedy {
        Remedy::LiftCordon { .. } => 1,
        Remedy::AddClass { .. } => 2,
        Remedy::DropInstanceHint => 3,
        Remedy::DropAvoid { .. } => 4,
        Remedy::AllowTeam { .. } => 5,
        Remedy::RaiseCapacity { .. } => 6,
        Remedy::Reach { .. } => 7,
        Remedy::InstallExtensions { .. } => 20,
        Remedy::Register { .. } => 90,
    }
}

fn describe(request: &PlacementRequest, candidate: &Candidate, remedies: &[Remedy]) -> String {
    let steps: Vec<String> = remedies
        .iter()
        .map(|it| step(request, candidate, it))
        .collect();
    format!("{} would do: {}", candidate.name, steps.join(", and "))
}

/// What to do about a server that is of no use as it is.
fn righting(candidate: &Candidate) -> &'static str {
    match candidate.trouble.as_deref() {
        Some("ServerReadOnly") => "point it at the primary, or end the read-only mode",
        Some("AdminLacksRight") => "give the admin login what it lacks",
        Some("AdminLoginRefused") => "correct the admin user name or the secret it refers to",
        Some("ServerMismatch") => "point it at the server that was registered",
        Some("SameServer") => "delete it or point it at a server of its own",
        _ => "get its server to answer",
    }
}

fn step(request: &PlacementRequest, candidate: &Candidate, remedy: &Remedy) -> String {
    match remedy {
        Remedy::LiftCordon { .. } => "lift its cordon (`spec.cordon: false`)".to_owned(),
        Remedy::AddClass { class, .. } => format!("add `{class}` to its `spec.classes`"),
        Remedy::AllowTeam { team, .. } => format!("add `{team}` to its `spec.allowedTeams`"),
        Remedy::DropInstanceHint => "remove `spec.placement.instance` from the database".to_owned(),
        Remedy::DropAvoid { databases } => format!(
            "remove {} from `spec.placement.avoid` of the database",
            databases.join(" and ")
        ),
        Remedy::RaiseCapacity { dimension, to, .. } => {
            let used = candidate.allocation.totals_without(request.uid);
            let promised = dimension.of(&used) + dimension.need(&request.load);
            let usable = dimension.usable(&candidate.spec.capacity).unwrap_or(0);
            format!(
                "raise its `{}` to {to} (it lacks {})",
                dimension.field(),
                dimension.amount(promised.saturating_sub(usable))
            )
        }
        Remedy::Reach { instance } => format!(
            "{} (`freehold describe instance {instance}` says what is wrong)",
            righting(candidate)
        ),
        Remedy::InstallExtensions { extensions, .. } => {
            format!("install {} on its server", extensions.join(", "))
        }
        Remedy::Register { .. } => "register another instance".to_owned(),
    }
}

fn register(request: &PlacementRequest, blocked: &[(&Candidate, Vec<Blocker>)]) -> WayOut {
    let engine = request.class.engine.clone();
    let dedicated = request.class.isolation == Isolation::Dedicated;
    let version = fit::version_range(&request.class);
    // A name that is taken by an instance that can never fit cannot be given to a new one.
    let name = request.hints.instance.clone();
    let taken = name
        .as_ref()
        .is_some_and(|name| blocked.iter().any(|(candidate, _)| candidate.name == *name));
    let mut text = String::new();
    if taken {
        text.push_str("remove `spec.placement.instance` from the database, and ");
    }
    text.push_str(if dedicated {
        "register a dedicated instance"
    } else {
        "register an instance"
    });
    if let Some(name) = name.as_ref().filter(|_| !taken) {
        text.push_str(&format!(" named `{name}`"));
    }
    text.push_str(&format!(" of engine {engine}"));
    if let Some(version) = &version {
        text.push_str(&format!(", version {version}"));
    }
    text.push_str(&format!(", that serves class `{}`", request.class_name));
    let register = Remedy::Register {
        engine,
        name: name.filter(|_| !taken),
        dedicated,
        version,
    };
    let mut remedies = Vec::new();
    if taken {
        remedies.push(Remedy::DropInstanceHint);
    }
    remedies.push(register);
    WayOut { text, remedies }
}
