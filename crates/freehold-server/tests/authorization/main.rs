//! Every route with every role, over a real socket: who may do what, that nobody reads or changes
//! another team's things, and that what one may not know of looks exactly like what is not there.
//!
//! The operations come from the committed OpenAPI document, the expectations stand in `expected.txt`
//! as one table that people can read. A route without a case, a case without a route, a role that
//! the document declares otherwise, or an answer that is not in the table fails a test here.
//!
//! Left out: which database rights a credential has (freehold-engine's tests), and the pure decision
//! with every action and relation (`authorize::matrix` in freehold-control).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;
mod house;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::PathBuf,
};

use cases::{Case, cases};
use house::{Answer, CANARY, House, ROLES, Role};
use serde_json::Value;

/// What every case answered to every role.
type Seen = BTreeMap<String, Vec<(Role, u16)>>;

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_every_role_as_the_table_says() {
    let mut columns = Vec::new();
    for role in ROLES {
        columns.push(tokio::spawn(walk(role)));
    }
    let (mut seen, mut faults) = (Seen::new(), Vec::new());
    for column in columns {
        let column = column.await.unwrap();
        faults.extend(column.faults);
        for (title, role, status) in column.answers {
            seen.entry(title).or_default().push((role, status));
        }
    }
    faults.extend(differences_from_table(&seen));
    faults.extend(differences_from_document(&seen));
    assert!(
        faults.is_empty(),
        "{} faults:\n\n{}",
        faults.len(),
        faults.join("\n\n")
    );
}

/// What one role was answered, and what was wrong with it.
#[derive(Default)]
struct Column {
    answers: Vec<(String, Role, u16)>,
    faults: Vec<String>,
}

/// One role tries everything in a house of its own, so that no role finds what another one changed.
async fn walk(role: Role) -> Column {
    let house = House::open().await;
    let somebody = house.somebody(role).await;
    let bearer = &somebody.bearer;
    let before = house.everything().await;
    let mut column = Column::default();
    for case in cases(&house, &somebody) {
        let answer = house.ask(bearer, &case).await;
        check_shape(&case, role, &answer);
        if role.is_foreign() {
            if answer.status < 300 && answer.body.contains(CANARY) {
                column.faults.push(format!(
                    "{} shows `{}` what belongs to another team:\n{}",
                    case.title(),
                    role.title(),
                    answer.body
                ));
            }
            column
                .faults
                .extend(existence_told(&house, bearer, &case, role, &answer).await);
        }
        column.answers.push((case.title(), role, answer.status));
    }
    if role.changes_nothing() && before != house.everything().await {
        column
            .faults
            .push(format!("`{}` changed another's things", role.title()));
    }
    house.close().await;
    column
}

/// Refusals have the one error body; nothing fails inside.
fn check_shape(case: &Case, role: Role, answer: &Answer) {
    let title = case.title();
    assert!(
        answer.status < 500,
        "{title} as {}: {answer:?}",
        role.title()
    );
    if answer.status >= 400 {
        let body: Value = serde_json::from_str(&answer.body)
            .unwrap_or_else(|e| panic!("{title}: {e}: {answer:?}"));
        let id = body["error"]["request_id"].as_str().unwrap_or_default();
        assert_eq!(id, answer.request_id, "{title}");
    }
}

/// The same request for something that does not exist gets the same answer, byte for byte, once the
/// name is put in place of the other name and the request id is taken out.
async fn existence_told(
    house: &House,
    bearer: &str,
    case: &Case,
    role: Role,
    answer: &Answer,
) -> Vec<String> {
    let mut told = Vec::new();
    for twin in case.twins(house) {
        let other = house.ask(bearer, &twin.case).await;
        let absent = other.comparable().replace(&twin.absent, &twin.present);
        if answer.comparable() != absent {
            told.push(format!(
                "{} tells `{}` whether {:?} exists: it answers\n{}\n  and where there is none\n{absent}",
                case.title(),
                role.title(),
                twin.present,
                answer.comparable()
            ));
        }
    }
    told
}

fn differences_from_table(seen: &Seen) -> Option<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/authorization/expected.txt");
    let now = table(seen);
    if std::env::var_os("UPDATE_AUTHORIZATION").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (now_lines, expected_lines) = (lines(&now), lines(&expected));
    let new: Vec<_> = now_lines.difference(&expected_lines).collect();
    let gone: Vec<_> = expected_lines.difference(&now_lines).collect();
    (now != expected).then(|| {
        format!(
            "tests/authorization/expected.txt differs.\nAnswered:\n{new:#?}\nExpected:\n{gone:#?}\n\
             Is each difference right? Then run this test with UPDATE_AUTHORIZATION=1."
        )
    })
}

fn table(seen: &Seen) -> String {
    let mut text = String::from(
        "What each operation answers to each role. `pay` is another team; the things belong to `shop`.\n\
         2xx done · 400, 409, 412 allowed, but the request or the state of the world is in the way\n\
         401 who are you · 403 refused · 404 nothing there that you may know of\n\n",
    );
    write!(text, "{:48}", "").unwrap();
    for role in ROLES {
        write!(text, " {:>9}", role.title()).unwrap();
    }
    text.push('\n');
    for (title, row) in seen {
        write!(text, "{title:48}").unwrap();
        for role in ROLES {
            let (_, status) = row.iter().find(|(of, _)| *of == role).unwrap();
            write!(text, " {status:>9}").unwrap();
        }
        text.push('\n');
    }
    text
}

/// The roles that the document declares for an operation are those that it lets through.
fn differences_from_document(seen: &Seen) -> Vec<String> {
    let declared_roles = |operation: &Value| -> BTreeSet<String> {
        ["platformRoles", "teamRoles"]
            .iter()
            .flat_map(|key| {
                operation["x-freehold-action"][key]
                    .as_array()
                    .unwrap()
                    .clone()
            })
            .map(|role| role.as_str().unwrap().to_owned())
            .collect()
    };
    let named = ["admin", "operator", "owner", "developer", "viewer"];
    let mut faults = Vec::new();
    for (id, _, _, operation) in document_operations() {
        if operation["x-freehold-action"]["action"] == "none" {
            continue;
        }
        let observed: BTreeSet<String> = seen
            .iter()
            .filter(|(title, _)| title.split(' ').next() == Some(&id))
            .flat_map(|(_, row)| row)
            .filter(|(role, status)| {
                // What is said of a malformed request says nothing of rights, except where only
                // bytes come in.
                let malformed = *status == 400 && id != "bundle_put";
                named.contains(&role.title()) && !malformed && !matches!(status, 401 | 403 | 404)
            })
            .map(|(role, _)| role.title().to_owned())
            .collect();
        let declared = declared_roles(&operation);
        if declared != observed {
            faults.push(format!(
                "{id}: the OpenAPI document declares {declared:?}, and {observed:?} got through"
            ));
        }
    }
    faults
}

/// Id, method, path and declaration of every operation of the committed document.
fn document_operations() -> Vec<(String, String, String, Value)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../openapi/freehold.json");
    let document: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(id) = operation["operationId"].as_str() else {
                continue;
            };
            operations.push((
                id.to_owned(),
                method.to_uppercase(),
                path.clone(),
                operation.clone(),
            ));
        }
    }
    operations
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_of_the_document_has_a_case_and_every_case_an_operation() {
    let house = House::open().await;
    let somebody = house.somebody(Role::Owner).await;
    let cases = cases(&house, &somebody);
    let operations = document_operations();
    assert!(
        operations.len() >= 29,
        "the document holds only {} operations",
        operations.len()
    );
    for (id, method, path, _) in &operations {
        let own: Vec<_> = cases.iter().filter(|case| case.id == id).collect();
        assert!(
            !own.is_empty(),
            "{method} {path} ({id}) is new: say in tests/authorization/cases.rs how it is asked, \
             and in expected.txt who may"
        );
        for case in own {
            assert_eq!(&case.method, method, "{}", case.title());
            assert!(
                fits(path, &case.path),
                "{} asks {}, not {path}",
                case.title(),
                case.path
            );
        }
    }
    for case in &cases {
        assert!(
            operations.iter().any(|(id, ..)| case.id == id),
            "{} is no operation of the document any more",
            case.id
        );
    }
    let titles: BTreeSet<String> = cases.iter().map(Case::title).collect();
    assert_eq!(titles.len(), cases.len(), "two cases have one title");
    house.close().await;
}

/// Whether a path is one that the template describes.
fn fits(template: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let (template, path): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template
            .iter()
            .zip(&path)
            .all(|(t, p)| t == p || t.starts_with('{') && !p.is_empty())
}
