//! What the differences that a convergence left say about the accesses of a database.
//!
//! A server may be in agreement but for one table that does not exist yet, or refuse one grant, or
//! only be observed. Then the conditions of what is lacking must not say that it is there. Which
//! difference is whose is read from its key: the kind before the first `:`, and the login or the
//! object in the parts after it. What cannot be told apart (a group role that several accesses share)
//! counts against each access.
//!
//! Too much (a foreign grant, a session) is drift but takes nothing from an access, so it is left out
//! here.

use freehold_model::{
    ConditionStatus, ConditionType, Conditions,
    kinds::{Access, Database, Difference},
};
use jiff::Timestamp;

use crate::{
    credentials::{AccessCredential, CredentialSet},
    world::World,
};

/// Kinds of findings about a login itself: it cannot be used as it is handed out.
const OF_LOGINS: [&str; 7] = [
    "role.missing",
    "role.attributes",
    "role.password",
    "account.missing",
    "account.unrecorded",
    "account.attributes",
    "account.password",
];
/// Kinds of findings about rights that are not there, whoever has them.
const OF_RIGHTS: [&str; 5] = [
    "grant.missing",
    "default.missing",
    "member.missing",
    "schema.missing",
    PENDING,
];
const PENDING: &str = "target.pending";
/// Kinds of findings about a database that was not made, or not to the end.
const OF_MAKING: [&str; 2] = ["database.missing", "database.unrecorded"];

/// The unrepaired findings of one convergence.
pub(super) struct Evidence<'a> {
    open: Vec<&'a Difference>,
    /// The logins of all accesses, and the migrator's.
    logins: Vec<&'a str>,
}

impl<'a> Evidence<'a> {
    pub(super) fn new(
        differences: &'a [Difference],
        accesses: impl Iterator<Item = &'a AccessCredential>,
        migrator: &'a str,
    ) -> Self {
        let open = differences.iter().filter(|found| !found.repaired);
        let logins = accesses.flat_map(|held| [held.login_a.as_str(), held.login_b.as_str()]);
        Self {
            open: open.collect(),
            logins: logins.chain([migrator]).collect(),
        }
    }

    /// What says that the database is not there as it should be.
    pub(super) fn against_making(&self) -> Vec<&'a Difference> {
        self.of_kinds(&OF_MAKING).collect()
    }

    /// What says that the login which is handed out cannot be used with what is handed out.
    pub(super) fn against_login(&self, held: &AccessCredential) -> Vec<&'a Difference> {
        let login = held.login(held.active);
        let of_login = self
            .of_kinds(&OF_LOGINS)
            .filter(|found| parts(found).any(|part| part == login));
        of_login.chain(self.against_making()).collect()
    }

    /// What says that an access does not have all that it is declared to have.
    pub(super) fn against_access(
        &self,
        access: &Access,
        held: Option<&AccessCredential>,
    ) -> Vec<&'a Difference> {
        let of_rights = self.of_kinds(&OF_RIGHTS).filter(|found| {
            if kind(found) == PENDING {
                return targets(access, found);
            }
            // A right of another login is another access's; one of a group may be this one's.
            let mut named = parts(found).filter(|part| self.logins.contains(part));
            let ours = |part: &str| {
                held.is_some_and(|held| {
                    [&held.login_a, &held.login_b]
                        .into_iter()
                        .any(|l| l == part)
                })
            };
            named.clone().next().is_none() || named.any(ours)
        });
        let of_login = held.map(|held| self.against_login(held));
        let of_login = of_login.unwrap_or_else(|| self.against_making());
        of_rights.chain(of_login).collect()
    }

    fn of_kinds(&self, kinds: &'static [&str]) -> impl Iterator<Item = &'a Difference> {
        let open = self.open.clone().into_iter();
        open.filter(|found| kinds.contains(&kind(found)))
    }
}

/// A program can use an access that is published; what it may not do yet is said beside that.
pub(super) fn set_access(
    access: &Access,
    held: Option<&AccessCredential>,
    conditions: &mut Conditions,
    evidence: &Evidence<'_>,
    now: Timestamp,
) {
    let generation = access.metadata.generation;
    let published = held.is_some_and(|held| held.published_at.is_some());
    let against = held.map_or_else(Vec::new, |held| evidence.against_login(held));
    for kind in [ConditionType::Ready, ConditionType::CredentialsPublished] {
        let (status, reason) = match (published, against.is_empty()) {
            (true, true) => (ConditionStatus::True, "Synced"),
            (false, true) => (ConditionStatus::False, "NotPublished"),
            (_, false) => (ConditionStatus::False, reason(&against)),
        };
        let message = words(&against);
        conditions.set(kind, status, reason, message, now, generation);
    }
    let lacks = evidence.against_access(access, held);
    let (status, reason) = match (held.is_some(), lacks.is_empty()) {
        (true, true) => (ConditionStatus::True, "Synced"),
        (false, true) => (ConditionStatus::False, "NotPublished"),
        (_, false) => (ConditionStatus::False, reason(&lacks)),
    };
    let (kind, message) = (ConditionType::AccessSynced, words(&lacks));
    conditions.set(kind, status, reason, message, now, generation);
}

/// What the database's conditions say of its making and of its accesses, each only when nothing that
/// was found is against it.
pub(super) fn set_evidence(
    database: &mut Database,
    world: &World,
    credentials: &CredentialSet,
    evidence: &Evidence<'_>,
    now: Timestamp,
) {
    let generation = database.metadata.generation;
    let conditions = &mut database.status.get_or_insert_default().conditions;
    let mut lacking = Vec::new();
    let mut unpublished = Vec::new();
    for access in &world.accesses {
        let expired = access.spec.expires_at.is_some_and(|end| end <= now);
        if expired || access.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let held = access
            .metadata
            .uid
            .and_then(|uid| credentials.accesses.get(&uid));
        for found in evidence.against_access(access, held) {
            if !lacking.contains(&found) {
                lacking.push(found);
            }
        }
        let published = held.is_some_and(|held| {
            held.published_at.is_some() && evidence.against_login(held).is_empty()
        });
        if !published {
            unpublished.push(access.metadata.name.as_str());
        }
    }
    let mut set = |kind, holds: bool, reasons: (&'static str, &'static str), message: String| {
        let (status, reason) = match holds {
            true => (ConditionStatus::True, reasons.0),
            false => (ConditionStatus::False, reasons.1),
        };
        conditions.set(kind, status, reason, message, now, generation);
    };
    let unmade = evidence.against_making();
    let (kind, reasons) = (ConditionType::Provisioned, ("Created", super::NOT_MADE));
    set(kind, unmade.is_empty(), reasons, words(&unmade));
    let (kind, reasons) = (ConditionType::AccessSynced, ("Synced", reason(&lacking)));
    set(kind, lacking.is_empty(), reasons, words(&lacking));
    let message = match unpublished.as_slice() {
        [] => String::new(),
        names => format!("No working credential yet: {}.", names.join(", ")),
    };
    let (kind, reasons) = (
        ConditionType::CredentialsPublished,
        ("Published", "NotPublished"),
    );
    set(kind, unpublished.is_empty(), reasons, message);
    if !unmade.is_empty() {
        let (kind, reasons) = (ConditionType::Ready, ("", super::NOT_MADE));
        set(kind, false, reasons, words(&unmade));
    }
}

/// The findings in one line.
fn words(found: &[&Difference]) -> String {
    let messages: Vec<&str> = found.iter().map(|found| found.message.as_str()).collect();
    messages.join(" ")
}

/// The stable reason of a condition that findings are against.
fn reason(found: &[&Difference]) -> &'static str {
    if found.iter().all(|found| kind(found) == PENDING) {
        "TargetPending"
    } else if found.iter().any(|found| OF_MAKING.contains(&kind(found))) {
        super::NOT_MADE
    } else {
        "DifferencesFound"
    }
}

fn kind(found: &Difference) -> &str {
    found.key.split(':').next().unwrap_or_default()
}

fn parts(found: &Difference) -> impl Iterator<Item = &str> + Clone {
    found.key.split(':').skip(1)
}

/// Whether an access names what a finding is about: a schema, a table in a schema, or, where there
/// are no schemas, a table.
fn targets(access: &Access, found: &Difference) -> bool {
    let about = found.key.split_once(':').map_or("", |(_, about)| about);
    access
        .spec
        .targets
        .iter()
        .any(|target| match &target.table {
            Some(table) => about == table || about == format!("{}.{table}", target.schema),
            None => about == target.schema,
        })
}

/// What is said of a database in quarantine, by whoever says it.
pub(crate) fn in_quarantine(quarantine: &freehold_model::kinds::Quarantine) -> String {
    format!(
        "In quarantine until {}; `freehold undelete` brings it back.",
        quarantine.until
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(login: &str) -> AccessCredential {
        let sealed = serde_json::json!({"keyId": "k", "wrappedKey": "", "ciphertext": ""});
        serde_json::from_value(serde_json::json!({
            "loginA": format!("{login}_a"),
            "loginB": format!("{login}_b"),
            "active": "A",
            "password": sealed,
        }))
        .expect("a credential")
    }

    fn access() -> Access {
        serde_json::from_value(serde_json::json!({
            "apiVersion": freehold_model::API_VERSION,
            "kind": "Access",
            "metadata": {"name": "orders-api"},
            "spec": {"database": "orders", "subject": {"workload": "api"}, "level": "readOnly"},
        }))
        .expect("an access")
    }

    #[test]
    fn only_what_is_lacking_and_open_is_held_against_an_access() {
        let (api, jobs) = (held("api"), held("jobs"));
        for (key, repaired, against_login, against_access) in [
            // Refused to an admin that may not.
            (
                "grant.missing:public.items:shop_orders_reader",
                false,
                false,
                true,
            ),
            (
                "grant.missing:public.items:shop_orders_reader",
                true,
                false,
                false,
            ),
            ("grant.missing:orders.items:jobs_a", false, false, false),
            ("grant.extra:public.items:PUBLIC", false, false, false),
            ("role.password:api_a", false, true, true),
            ("role.attributes:api_b", false, false, false),
            ("role.attributes:shop_orders_migrator", false, false, false),
            ("database.missing:shop_orders", false, true, true),
            ("target.pending:public.items", false, false, false),
        ] {
            let found = [Difference {
                key: key.to_owned(),
                message: String::new(),
                repaired,
            }];
            let evidence = Evidence::new(&found, [&api, &jobs].into_iter(), "shop_orders_migrator");
            let login = !evidence.against_login(&api).is_empty();
            let rights = !evidence.against_access(&access(), Some(&api)).is_empty();
            assert_eq!((login, rights), (against_login, against_access), "{key}");
        }
    }
}
