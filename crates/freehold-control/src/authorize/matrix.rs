//! The whole matrix, written out: every action, for every standing, in every relation to the thing.

use std::{collections::BTreeMap, fmt::Write as _};

use freehold_model::{Kind, Name, ResourceKey, Scope, kinds::Role};

use super::*;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// The columns: who asks. `shop` is the team of the asked-for things.
fn principals() -> Vec<(&'static str, Principal)> {
    let of = |kind, platform_role, teams: &[(&str, Role)]| Principal {
        subject: name("ana"),
        kind,
        platform_role,
        teams: teams
            .iter()
            .map(|(team, role)| (name(team), *role))
            .collect(),
    };
    let person = SubjectKind::Person;
    vec![
        ("admin", of(person, Some(Role::Admin), &[])),
        ("operator", of(person, Some(Role::Operator), &[])),
        ("owner", of(person, None, &[("shop", Role::Owner)])),
        ("developer", of(person, None, &[("shop", Role::Developer)])),
        ("viewer", of(person, None, &[("shop", Role::Viewer)])),
        (
            "machine",
            of(SubjectKind::Machine, None, &[("shop", Role::Developer)]),
        ),
        ("other team", of(person, None, &[("pay", Role::Owner)])),
        ("no team", of(person, None, &[])),
    ]
}

const ALL_ACTIONS: usize = 4 * 9 + 17;

/// Every action there is. A new variant fails to compile in [`title`], a forgotten one in
/// [`the_matrix_holds_every_action`].
fn actions() -> Vec<Action> {
    let by_kind = [Action::Get, Action::List, Action::Apply, Action::Delete];
    let mut actions: Vec<Action> = by_kind
        .into_iter()
        .flat_map(|action| Kind::ALL.map(action))
        .collect();
    actions.extend([
        Action::Undelete,
        Action::Explain,
        Action::PinInstance,
        Action::InspectInstance,
        Action::ReadBinding,
        Action::Migrate,
        Action::CancelOperation,
        Action::CreateToken,
        Action::ListTokens,
        Action::RevokeToken,
        Action::ReadAudit(AuditScope::Team),
        Action::ReadAudit(AuditScope::All),
        Action::ExportAudit,
        Action::Backup,
        Action::Restore,
        Action::RewrapSecrets,
        Action::ReadMetrics,
    ]);
    actions
}

fn title(action: Action) -> String {
    match action {
        Action::Get(kind) => format!("get {kind}"),
        Action::List(kind) => format!("list {kind}"),
        Action::Apply(kind) => format!("apply {kind}"),
        Action::Delete(kind) => format!("delete {kind}"),
        Action::Undelete => "undelete a database".to_owned(),
        Action::Explain => "explain a placement".to_owned(),
        Action::PinInstance => "demand an instance".to_owned(),
        Action::InspectInstance => "inspect a server".to_owned(),
        Action::ReadBinding => "read a credential".to_owned(),
        Action::Migrate => "migrate".to_owned(),
        Action::CancelOperation => "cancel an operation".to_owned(),
        Action::CreateToken => "create a token".to_owned(),
        Action::ListTokens => "list tokens".to_owned(),
        Action::RevokeToken => "revoke a token".to_owned(),
        Action::ReadAudit(AuditScope::Team) => "read the team's log".to_owned(),
        Action::ReadAudit(AuditScope::All) => "read the whole log".to_owned(),
        Action::ExportAudit => "export the log".to_owned(),
        Action::Backup => "back up".to_owned(),
        Action::Restore => "restore".to_owned(),
        Action::RewrapSecrets => "wrap secrets anew".to_owned(),
        Action::ReadMetrics => "read metrics".to_owned(),
        Action::WhoAmI => "who am I".to_owned(),
    }
}

/// The thing of the team `shop` that an action is about.
fn key_of(action: Action) -> Option<ResourceKey> {
    let kind = match action {
        Action::Get(kind) | Action::Apply(kind) | Action::Delete(kind) => kind,
        Action::Undelete | Action::Explain | Action::PinInstance | Action::Migrate => {
            Kind::Database
        }
        Action::InspectInstance => Kind::Instance,
        Action::ReadBinding => Kind::Binding,
        Action::CancelOperation => Kind::Operation,
        _ => return None,
    };
    let (environment, team) = match kind.scope() {
        Scope::Global => (false, false),
        Scope::Environment => (true, false),
        Scope::Team => (false, true),
        Scope::EnvironmentAndTeam => (true, true),
    };
    Some(ResourceKey {
        kind,
        environment: environment.then(|| name("prod")),
        team: team.then(|| name("shop")),
        name: name(if kind == Kind::Team { "shop" } else { "orders" }),
    })
}

fn token_of(
    subject: &str,
    kind: SubjectKind,
    platform_role: Option<Role>,
    teams: &[&str],
) -> Context {
    Context {
        token: Some(TokenContext {
            subject: name(subject),
            kind,
            platform_role,
            teams: teams.iter().map(|team| name(team)).collect(),
        }),
        ..Context::default()
    }
}

fn mark(decision: &Decision) -> &'static str {
    match decision {
        Decision::Allowed => "yes",
        Decision::Forbidden { .. } => "no",
        Decision::Hidden => "·",
    }
}

fn table(out: &mut String, heading: &str, rows: &[(String, Action, Context)]) {
    let principals = principals();
    writeln!(out, "{heading}\n").unwrap();
    let columns: Vec<String> = principals
        .iter()
        .map(|(column, _)| format!("{column:>10}"))
        .collect();
    writeln!(out, "| {:<36} | {} |", "", columns.join(" | ")).unwrap();
    let rule = "-".repeat(38);
    writeln!(out, "|{rule}|{}", "-----------:|".repeat(columns.len())).unwrap();
    for (title, action, context) in rows {
        let key = key_of(*action);
        let cells: Vec<String> = principals
            .iter()
            .map(|(_, principal)| {
                let decision = authorize(principal, *action, key.as_ref(), context);
                format!("{:>10}", mark(&decision))
            })
            .collect();
        writeln!(out, "| {title:<36} | {} |", cells.join(" | ")).unwrap();
    }
    out.push('\n');
}

fn matrix() -> String {
    let mut out = String::new();
    let team = Context {
        team: Some(name("shop")),
        ..Context::default()
    };
    let token_actions = [Action::CreateToken, Action::ListTokens, Action::RevokeToken];
    let rows: Vec<_> = actions()
        .into_iter()
        .filter(|action| !token_actions.contains(action))
        .map(|action| (title(action), action, team.clone()))
        .collect();
    table(&mut out, "Things of the team `shop`:", &rows);

    let foreign = Context {
        subject_team: Some(name("pay")),
        ..Context::default()
    };
    let rows = [
        Action::Get(Kind::Access),
        Action::Apply(Kind::Access),
        Action::Delete(Kind::Access),
        Action::Get(Kind::Binding),
        Action::ReadBinding,
    ]
    .map(|action| (title(action), action, foreign.clone()));
    table(
        &mut out,
        "Access of a workload of `pay` to a database of `shop`:",
        &rows,
    );

    let protected = Context {
        protected: true,
        ..Context::default()
    };
    let rows = [
        Action::Get(Kind::Binding),
        Action::ReadBinding,
        Action::Migrate,
    ]
    .map(|action| (title(action), action, protected.clone()));
    table(&mut out, "In a protected environment:", &rows);

    let (person, machine) = (SubjectKind::Person, SubjectKind::Machine);
    let whose = [
        ("own", token_of("ana", person, None, &["shop"])),
        (
            "own, as operator",
            token_of("ana", person, Some(Role::Operator), &["shop"]),
        ),
        ("a person of shop", token_of("ben", person, None, &["shop"])),
        (
            "a machine of shop",
            token_of("ci", machine, None, &["shop"]),
        ),
        (
            "a machine of shop and pay",
            token_of("ci", machine, None, &["shop", "pay"]),
        ),
        ("a machine of no team", token_of("ci", machine, None, &[])),
        (
            "an admin machine of shop",
            token_of("ci", machine, Some(Role::Admin), &["shop"]),
        ),
    ];
    let rows: Vec<_> = [Action::CreateToken, Action::RevokeToken]
        .into_iter()
        .flat_map(|action| {
            let verb = if action == Action::CreateToken {
                "create"
            } else {
                "revoke"
            };
            whose
                .clone()
                .map(|(whose, context)| (format!("{verb}: {whose}"), action, context))
        })
        .collect();
    table(&mut out, "Tokens:", &rows);
    out
}

#[test]
fn the_matrix_is_as_written() {
    insta::assert_snapshot!(matrix());
}

#[test]
fn the_matrix_in_the_documentation_is_this_one() {
    let page = include_str!("../../../../docs/security.md");
    assert!(
        page.contains(matrix().trim_end()),
        "copy the matrix from the snapshot to the page"
    );
}

#[test]
fn the_matrix_holds_every_action() {
    let mut titles: Vec<String> = actions().into_iter().map(title).collect();
    titles.sort();
    titles.dedup();
    assert_eq!(titles.len(), ALL_ACTIONS);
}

#[test]
fn who_has_no_standing_sees_nothing_of_a_team() {
    let stranger = &principals()[7].1;
    for action in actions() {
        let Some(key) = key_of(action).filter(|key| key.team.is_some()) else {
            continue;
        };
        let decision = authorize(stranger, action, Some(&key), &Context::default());
        let view = matches!(action, Action::Apply(kind) | Action::Delete(kind) if kind.is_view());
        assert!(
            view || decision == Decision::Hidden,
            "{}: {decision:?}",
            title(action)
        );
    }
}

#[test]
fn a_platform_role_among_a_teams_members_gives_nothing() {
    for role in [Role::Admin, Role::Operator] {
        let forged = Principal {
            teams: BTreeMap::from([(name("shop"), role)]),
            ..principals()[7].1.clone()
        };
        for action in actions() {
            let key = key_of(action);
            let context = Context {
                team: Some(name("shop")),
                ..Context::default()
            };
            let stranger = authorize(&principals()[7].1, action, key.as_ref(), &context);
            assert_eq!(authorize(&forged, action, key.as_ref(), &context), stranger);
        }
    }
    let team_role_in_token = Principal {
        platform_role: Some(Role::Owner),
        ..principals()[7].1.clone()
    };
    let key = key_of(Action::Migrate);
    let decision = authorize(
        &team_role_in_token,
        Action::Migrate,
        key.as_ref(),
        &Context::default(),
    );
    assert_eq!(decision, Decision::Hidden);
}

#[test]
fn a_team_role_holds_for_that_team_only() {
    let (_, pay_owner) = &principals()[6];
    for action in actions() {
        let Some(key) = key_of(action).filter(|key| key.team.is_some()) else {
            continue;
        };
        let own = ResourceKey {
            team: Some(name("pay")),
            ..key.clone()
        };
        let (theirs, own) = (
            authorize(pay_owner, action, Some(&key), &Context::default()),
            authorize(pay_owner, action, Some(&own), &Context::default()),
        );
        assert!(!theirs.is_allowed(), "{}", title(action));
        let view = matches!(action, Action::Apply(kind) | Action::Delete(kind) if kind.is_view());
        assert!(
            own.is_allowed() || view || action == Action::PinInstance,
            "{}",
            title(action)
        );
    }
}

#[test]
fn more_role_never_means_less_right() {
    let [owner, developer, viewer] = [2, 3, 4].map(|column| principals()[column].1.clone());
    for action in actions() {
        let key = key_of(action);
        for subject_team in [None, Some(name("pay"))] {
            let context = Context {
                team: Some(name("shop")),
                subject_team,
                ..Context::default()
            };
            let allowed =
                |who: &Principal| authorize(who, action, key.as_ref(), &context).is_allowed();
            assert!(allowed(&owner) >= allowed(&developer), "{}", title(action));
            assert!(allowed(&developer) >= allowed(&viewer), "{}", title(action));
        }
    }
}
