//! The rules that no score can outweigh, one variant each.

use std::collections::BTreeSet;

use freehold_model::{
    ConditionStatus,
    kinds::{ClassSpec, Isolation, Tenancy},
};

use super::{Candidate, Dimension, PlacementRequest, Reason, neighbours};

/// What keeps a database away from an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Blocker {
    Engine,
    Deleting,
    /// Another instance is asked for by name.
    Instance,
    /// The class is not among those the instance serves.
    Class,
    /// The class wants a dedicated instance and this one is shared, or the other way round.
    Tenancy,
    /// It is dedicated, and to another team.
    Owned,
    /// The team is not among the allowed ones.
    Team,
    Cordon,
    Unreachable,
    /// It was never seen, or not seen lately enough to know.
    Unknown,
    Version(String),
    /// A database to stay away from is here.
    Avoid(Vec<String>),
    Extensions(Vec<String>),
    Full {
        dimension: Dimension,
        lacks: u128,
    },
}

/// Everything that keeps the request away from the candidate, in the order in which a person would
/// ask.
pub(super) fn blockers(request: &PlacementRequest, candidate: &Candidate) -> Vec<Blocker> {
    let spec = &candidate.spec;
    if spec.engine != request.class.engine {
        // Nothing else that could be said about it matters.
        return vec![Blocker::Engine];
    }
    let named = request.hints.instance.as_ref();
    let rules = [
        (candidate.deleting, Blocker::Deleting),
        (
            named.is_some_and(|it| *it != candidate.name),
            Blocker::Instance,
        ),
        (
            !spec.classes.is_empty() && !spec.classes.contains(&request.class_name),
            Blocker::Class,
        ),
        (is_wrong_tenancy(request, candidate), Blocker::Tenancy),
        (is_anothers(request, candidate), Blocker::Owned),
        (
            !spec.allowed_teams.is_empty() && !spec.allowed_teams.contains(&request.team),
            Blocker::Team,
        ),
        (spec.cordon, Blocker::Cordon),
    ];
    let mut found: Vec<Blocker> = rules
        .into_iter()
        .filter(|(holds, _)| *holds)
        .map(|(_, blocker)| blocker)
        .collect();
    found.extend(observed(request, candidate));
    let avoided = neighbours(request, candidate, &request.hints.avoid);
    if !avoided.is_empty() {
        found.push(Blocker::Avoid(avoided));
    }
    found.extend(shortages(request, candidate));
    found
}

/// What has to be seen on the server itself.
fn observed(request: &PlacementRequest, candidate: &Candidate) -> Vec<Blocker> {
    let mut found = Vec::new();
    let mut unknown = candidate.reachable == ConditionStatus::Unknown;
    if candidate.reachable == ConditionStatus::False {
        found.push(Blocker::Unreachable);
    }
    match &candidate.version {
        Some(version) if !serves_version(&request.class, version) => {
            found.push(Blocker::Version(version.clone()));
        }
        None if has_version_range(&request.class) => unknown = true,
        _ => {}
    }
    match &candidate.extensions {
        Some(available) => {
            let wanted: BTreeSet<&String> = request.extensions.iter().collect();
            let missing: Vec<String> = wanted
                .into_iter()
                .filter(|it| !available.contains(*it))
                .cloned()
                .collect();
            if !missing.is_empty() {
                found.push(Blocker::Extensions(missing));
            }
        }
        None => unknown |= !request.extensions.is_empty(),
    }
    if unknown && candidate.reachable != ConditionStatus::False {
        found.insert(0, Blocker::Unknown);
    }
    found
}

/// A shared class may use a dedicated instance only when a platform engineer names the instance:
/// the first database would claim it for its team.
fn is_wrong_tenancy(request: &PlacementRequest, candidate: &Candidate) -> bool {
    match (request.class.isolation, candidate.spec.tenancy) {
        (Isolation::Dedicated, Tenancy::Dedicated) | (Isolation::Shared, Tenancy::Shared) => false,
        (Isolation::Dedicated, Tenancy::Shared) => true,
        (Isolation::Shared, Tenancy::Dedicated) => {
            request.hints.instance.as_ref() != Some(&candidate.name)
        }
    }
}

fn is_anothers(request: &PlacementRequest, candidate: &Candidate) -> bool {
    candidate.spec.tenancy == Tenancy::Dedicated
        && others(request, candidate).any(|team| *team != request.team)
}

/// Whether the instance is dedicated and the team's already.
pub(super) fn is_own(request: &PlacementRequest, candidate: &Candidate) -> bool {
    let mut teams = others(request, candidate).peekable();
    candidate.spec.tenancy == Tenancy::Dedicated
        && teams.peek().is_some()
        && teams.all(|team| *team == request.team)
}

/// The teams of the databases that are there beside the one to be placed.
fn others<'a>(
    request: &'a PlacementRequest,
    candidate: &'a Candidate,
) -> impl Iterator<Item = &'a freehold_model::Name> {
    let promises = candidate.allocation.databases.iter();
    promises
        .filter(|(uid, _)| Some(**uid) != request.uid)
        .map(|(_, promise)| &promise.team)
}

fn shortages(request: &PlacementRequest, candidate: &Candidate) -> Vec<Blocker> {
    let used = candidate.allocation.totals_without(request.uid);
    Dimension::ALL
        .into_iter()
        .filter_map(|dimension| {
            let usable = dimension.usable(&candidate.spec.capacity)?;
            let need = dimension.need(&request.load);
            let lacks = (dimension.of(&used) + need).saturating_sub(usable);
            // Who asks for nothing takes nothing, even where too much is promised already.
            (lacks > 0 && need > 0).then_some(Blocker::Full { dimension, lacks })
        })
        .collect()
}

fn has_version_range(class: &ClassSpec) -> bool {
    class.version_min.is_some() || class.version_max.is_some()
}

/// Whether the major version lies in the class's range. A version that is no number is not in any.
fn serves_version(class: &ClassSpec, version: &str) -> bool {
    if !has_version_range(class) {
        return true;
    }
    let major = |text: &str| -> Option<u32> {
        let digits = text.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    };
    let bound = |text: &Option<String>, otherwise| match text {
        None => Some(otherwise),
        Some(text) => major(text),
    };
    let (Some(min), Some(max)) = (
        bound(&class.version_min, 0),
        bound(&class.version_max, u32::MAX),
    ) else {
        return false;
    };
    major(version).is_some_and(|major| (min..=max).contains(&major))
}

/// `14 to 17`, `14 or later`, for messages.
pub(super) fn version_range(class: &ClassSpec) -> Option<String> {
    match (&class.version_min, &class.version_max) {
        (None, None) => None,
        (Some(min), None) => Some(format!("{min} or later")),
        (None, Some(max)) => Some(format!("{max} or earlier")),
        (Some(min), Some(max)) if min == max => Some(min.clone()),
        (Some(min), Some(max)) => Some(format!("{min} to {max}")),
    }
}

impl Blocker {
    /// In words. Other teams are never named.
    pub(super) fn reason(&self, request: &PlacementRequest, candidate: &Candidate) -> Reason {
        let class = &request.class_name;
        let (key, message) = match self {
            Self::Engine => (
                "engine",
                format!(
                    "is of engine {}; class `{class}` asks for {}",
                    candidate.spec.engine, request.class.engine
                ),
            ),
            Self::Deleting => ("deleting", "is being deleted".to_owned()),
            Self::Instance => (
                "instance",
                match &request.hints.instance {
                    Some(name) => format!("the manifest asks for instance `{name}`"),
                    None => "the manifest asks for another instance".to_owned(),
                },
            ),
            Self::Class => ("class", format!("does not serve class `{class}`")),
            Self::Tenancy => (
                "tenancy",
                match request.class.isolation {
                    Isolation::Dedicated => {
                        format!("is shared; class `{class}` asks for a dedicated instance")
                    }
                    Isolation::Shared => {
                        format!("is dedicated; class `{class}` goes to shared instances")
                    }
                },
            ),
            Self::Owned => ("tenancy", "is dedicated to another team".to_owned()),
            Self::Team => (
                "team",
                format!("team `{}` is not among its allowed teams", request.team),
            ),
            Self::Cordon => ("cordon", "is cordoned: it takes nothing new".to_owned()),
            Self::Unreachable => unusable(candidate),
            Self::Unknown => (
                "unknown",
                "has not been seen, so it is not known whether it would do".to_owned(),
            ),
            Self::Version(version) => (
                "version",
                format!(
                    "has version {version}; class `{class}` asks for {}",
                    version_range(&request.class).unwrap_or_default()
                ),
            ),
            Self::Avoid(names) => (
                "avoid",
                format!("holds {}, which is to be avoided", names.join(" and ")),
            ),
            Self::Extensions(names) => (
                "extension",
                format!("has no extension {} installed", names.join(", ")),
            ),
            Self::Full { dimension, lacks } => {
                (dimension.word(), full(*dimension, *lacks, candidate))
            }
        };
        Reason {
            key,
            blocks: true,
            message,
        }
    }
}

/// In words of ours: a condition's message is for those who run the server.
fn unusable(candidate: &Candidate) -> (&'static str, String) {
    let words = match candidate.trouble.as_deref() {
        Some("ServerReadOnly") => "is read-only now",
        Some("AdminLacksRight") => "cannot be administered: its admin login lacks a right",
        Some("AdminLoginRefused") => "refuses Freehold's admin login",
        Some("ServerMismatch") => "is another server than the one that was registered",
        Some("SameServer") => "is the same server as an instance registered before it",
        _ => return ("unreachable", "cannot be reached now".to_owned()),
    };
    ("unusable", words.to_owned())
}

fn full(dimension: Dimension, lacks: u128, candidate: &Candidate) -> String {
    let headroom = dimension.headroom_percent(&candidate.spec.capacity);
    let kept = if headroom > 0 {
        format!(" (it keeps {headroom} % free)")
    } else {
        String::new()
    };
    format!("lacks room for {}{kept}", dimension.amount(lacks))
}
