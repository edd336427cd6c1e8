//! The difference between two access control lists.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, On};
use crate::postgres::observe::{Grant, Grantee};

/// What each grantee should have.
pub(crate) type Rights = BTreeMap<Grantee, BTreeSet<String>>;

pub(crate) fn right(rights: &mut Rights, to: &str, privileges: &[&str]) {
    let had = rights.entry(Some(to.to_owned())).or_default();
    had.extend(privileges.iter().map(|privilege| (*privilege).to_owned()));
}

/// Who may be repaired and who is only reported.
pub(crate) struct Judge<'a> {
    /// The object's owner: its own rights are its business.
    pub(crate) owner: &'a str,
    pub(crate) admin: &'a str,
    /// Whether a role is one that Freehold made, for whatever tenant.
    pub(crate) is_tenant: &'a dyn Fn(&str) -> bool,
}

/// Adds what must be granted and revoked so that exactly the expected rights hold.
///
/// Rights of PUBLIC and of roles that Freehold made are taken back when they are too much. Rights of
/// other roles were given by somebody who may create roles, an administrator: they are reported.
pub(crate) fn compare(
    on: &On,
    expected: &Rights,
    found: &[Grant],
    judge: &Judge<'_>,
    actions: &mut Vec<Action>,
) {
    let mut extra: BTreeMap<(&Grantee, bool), BTreeSet<String>> = BTreeMap::new();
    let mut had: BTreeMap<&Grantee, BTreeSet<&str>> = BTreeMap::new();
    for grant in found {
        if grant.to.as_deref() == Some(judge.owner) || grant.to.as_deref() == Some(judge.admin) {
            continue;
        }
        let wanted = expected
            .get(&grant.to)
            .is_some_and(|privileges| privileges.contains(&grant.privilege));
        if wanted {
            had.entry(&grant.to).or_default().insert(&grant.privilege);
        }
        if !wanted || grant.grantable {
            let too_much = extra.entry((&grant.to, wanted)).or_default();
            too_much.insert(grant.privilege.clone());
        }
    }
    for ((to, option_only), privileges) in extra {
        let ours = to.as_deref().is_none_or(judge.is_tenant);
        let revoke = Action::Revoke {
            on: on.clone(),
            from: to.clone(),
            privileges,
            option_only,
        };
        if ours {
            actions.push(revoke);
        } else {
            let found = revoke.difference("the database");
            actions.push(Action::Report {
                key: found.key.replacen(".extra:", ".foreign:", 1),
                message: format!(
                    "{} Freehold did not make that role and leaves it.",
                    found.message
                ),
            });
        }
    }
    for (to, privileges) in expected {
        let missing: BTreeSet<String> = privileges
            .iter()
            .filter(|privilege| {
                !had.get(to)
                    .is_some_and(|had| had.contains(privilege.as_str()))
            })
            .cloned()
            .collect();
        if !missing.is_empty() {
            actions.push(Action::Grant {
                on: on.clone(),
                to: to.clone(),
                privileges: missing,
            });
        }
    }
}
