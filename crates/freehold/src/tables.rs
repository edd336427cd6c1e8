//! Resources as rows, purely: which columns a kind has, and what stands in them.

use std::fmt::Write as _;

use freehold_model::{
    Condition, ConditionStatus, ConditionType, Conditions, Kind, Resource,
    kinds::{
        Access, AccessSpec, Binding, BindingSpec, Class, Database, DatabaseSpec, Environment,
        Instance, InstanceSpec, OperationView, OperationViewSpec, Subject, Team, Workload,
    },
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::units;

/// Left-aligned columns, two spaces apart, no lines: easy to read, easy to cut.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    headers: Vec<String>,
    rows: Vec<Vec<String>>,
    right: Vec<usize>,
}

impl Table {
    pub(crate) fn new(headers: &[&str]) -> Self {
        Self {
            headers: headers.iter().map(|h| (*h).to_owned()).collect(),
            rows: Vec::new(),
            right: Vec::new(),
        }
    }

    /// Numbers of this column (from 0) end below each other.
    pub(crate) fn right(mut self, column: usize) -> Self {
        self.right.push(column);
        self
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn render(&self) -> String {
        use comfy_table::{CellAlignment, Table as Grid, presets};
        let mut grid = Grid::new();
        grid.load_style(presets::NOTHING)
            .set_header(self.headers.iter().map(|h| shown(h)));
        for row in &self.rows {
            grid.add_row(row.iter().map(|cell| shown(cell)));
        }
        let last = self.headers.len().saturating_sub(1);
        for (index, column) in grid.column_iter_mut().enumerate() {
            column.set_padding((0, if index == last { 0 } else { 2 }));
            if self.right.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = String::new();
        for line in grid.lines() {
            writeln!(text, "{}", line.trim_end()).expect("writing to a String cannot fail");
        }
        text
    }
}

/// A cell is one line, and nothing from outside may move the cursor.
fn shown(text: &str) -> String {
    text.chars()
        .map(|c| if c == '\n' { ' ' } else { c })
        .filter(|c| !c.is_control())
        .collect()
}

/// A unit variant as it is written in manifests.
pub(crate) fn lower(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(text)) => text,
        _ => String::new(),
    }
}

/// What all kinds with conditions say about themselves.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Observed {
    pub observed_generation: u64,
    pub conditions: Conditions,
}

impl Observed {
    pub(crate) fn of(resource: &Resource) -> Self {
        let status = resource.status.clone().unwrap_or_default();
        serde_json::from_value(status).unwrap_or_default()
    }
}

/// Which columns are wanted beside the usual ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub wide: bool,
    /// Resources of more than one team are listed.
    pub team: bool,
    pub now: Timestamp,
}

/// Resources of one kind as a table.
pub(crate) fn of_resources(kind: Kind, resources: &[Resource], wanted: Wanted) -> String {
    let columns = columns(kind, wanted);
    let headers: Vec<&str> = columns.iter().map(|(header, _)| *header).collect();
    let mut table = Table::new(&headers);
    for resource in resources {
        table.row(
            columns
                .iter()
                .map(|(_, cell)| cell(resource, wanted.now))
                .collect(),
        );
    }
    table.render()
}

type Cell = fn(&Resource, Timestamp) -> String;
type Columns = Vec<(&'static str, Cell)>;

fn columns(kind: Kind, wanted: Wanted) -> Columns {
    let mut columns: Columns = Vec::new();
    if wanted.team && crate::session::parts(kind).1 {
        columns.push(("TEAM", |r, _| {
            r.metadata
                .namespace
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default()
        }));
    }
    columns.push(("NAME", |r, _| r.metadata.name.to_string()));
    let (usual, wide) = particular(kind);
    columns.extend(usual);
    if wanted.wide {
        columns.extend(wide);
        columns.push(("LABELS", |r, _| labels(r)));
    }
    columns.push(("AGE", age));
    columns
}

fn particular(kind: Kind) -> (Columns, Columns) {
    match kind {
        Kind::Database => (database(), database_wide()),
        Kind::Instance => (instance(), instance_wide()),
        Kind::Access => (
            access(),
            vec![("LOGIN", |r, _| {
                read::<Access>(r)
                    .and_then(|a| a.status)
                    .and_then(|s| s.login)
                    .unwrap_or_default()
            })],
        ),
        Kind::Binding => (
            binding(),
            vec![("LOGIN", |r, _| {
                read::<Binding>(r)
                    .and_then(|b| b.status)
                    .and_then(|s| s.username)
                    .unwrap_or_default()
            })],
        ),
        Kind::Class => (class(), vec![]),
        Kind::Environment => (
            vec![
                ("ORDER", |r, _| {
                    read::<Environment>(r)
                        .map(|e| e.spec.order.to_string())
                        .unwrap_or_default()
                }),
                ("PROTECTED", |r, _| {
                    read::<Environment>(r)
                        .map(|e| yes_no(e.spec.protected))
                        .unwrap_or_default()
                }),
            ],
            vec![],
        ),
        Kind::Team => (
            vec![
                ("MEMBERS", |r, _| {
                    read::<Team>(r)
                        .map(|t| t.spec.members.len().to_string())
                        .unwrap_or_default()
                }),
                ("DISPLAY NAME", |r, _| {
                    read::<Team>(r)
                        .map(|t| t.spec.display_name)
                        .unwrap_or_default()
                }),
            ],
            vec![],
        ),
        Kind::Workload => (
            vec![("DESCRIPTION", |r, _| {
                read::<Workload>(r)
                    .map(|w| w.spec.description)
                    .unwrap_or_default()
            })],
            vec![],
        ),
        Kind::Operation => (vec![], vec![]),
    }
}

fn database() -> Columns {
    vec![
        ("CLASS", |r, _| {
            spec::<DatabaseSpec>(r)
                .map(|s| s.class.to_string())
                .unwrap_or_default()
        }),
        ("INSTANCE", |r, _| {
            database_status(r)
                .and_then(|s| s.placement)
                .map(|p| p.instance.to_string())
                .unwrap_or_default()
        }),
        ("READY", ready),
        ("REASON", reason),
        ("MIGRATED", |r, _| {
            database_status(r)
                .and_then(|s| s.migration)
                .and_then(|m| m.version)
                .unwrap_or_default()
        }),
    ]
}

fn database_wide() -> Columns {
    vec![
        ("SERVER NAME", |r, _| {
            database_status(r)
                .and_then(|s| s.database_name)
                .unwrap_or_default()
        }),
        ("SIZE", |r, _| {
            database_status(r)
                .and_then(|s| s.size_bytes)
                .map(units::bytes)
                .unwrap_or_default()
        }),
        ("DRIFTED", |r, _| status_of(r, ConditionType::Drifted)),
        ("CHECKED", |r, now| {
            database_status(r)
                .and_then(|s| s.checked_at)
                .map(|at| format!("{} ago", units::age(now, at)))
                .unwrap_or_default()
        }),
    ]
}

fn instance() -> Columns {
    vec![
        ("ENGINE", |r, _| {
            spec::<InstanceSpec>(r)
                .map(|s| s.engine.to_string())
                .unwrap_or_default()
        }),
        ("VERSION", |r, _| {
            instance_status(r)
                .and_then(|s| s.version)
                .unwrap_or_default()
        }),
        ("READY", ready),
        ("REASON", reason),
        ("DATABASES", |r, _| {
            instance_status(r)
                .and_then(|s| s.databases)
                .map(|n| n.to_string())
                .unwrap_or_default()
        }),
        ("CONNECTIONS", |r, _| {
            instance_status(r)
                .map(|s| fraction(s.connections, s.connections_max))
                .unwrap_or_default()
        }),
    ]
}

fn instance_wide() -> Columns {
    vec![
        ("ADDRESS", |r, _| {
            instance_status(r)
                .and_then(|s| s.address)
                .unwrap_or_default()
        }),
        ("SIZE", |r, _| {
            instance_status(r)
                .and_then(|s| s.size_bytes)
                .map(units::bytes)
                .unwrap_or_default()
        }),
        ("TENANCY", |r, _| {
            spec::<InstanceSpec>(r)
                .map(|s| lower(&s.tenancy))
                .unwrap_or_default()
        }),
        ("CORDON", |r, _| {
            spec::<InstanceSpec>(r)
                .map(|s| yes_no(s.cordon))
                .unwrap_or_default()
        }),
        ("SEEN", |r, now| {
            instance_status(r)
                .and_then(|s| s.observed_at)
                .map(|at| format!("{} ago", units::age(now, at)))
                .unwrap_or_default()
        }),
    ]
}

fn access() -> Columns {
    vec![
        ("DATABASE", |r, _| {
            spec::<AccessSpec>(r)
                .map(|s| s.database.to_string())
                .unwrap_or_default()
        }),
        ("WORKLOAD", |r, _| {
            spec::<AccessSpec>(r)
                .map(|s| subject(&s.subject))
                .unwrap_or_default()
        }),
        ("LEVEL", |r, _| {
            spec::<AccessSpec>(r)
                .map(|s| lower(&s.level))
                .unwrap_or_default()
        }),
        ("READY", ready),
        ("REASON", reason),
        ("EXPIRES", |r, now| {
            spec::<AccessSpec>(r)
                .and_then(|s| s.expires_at)
                .map(|at| units::age(now, at))
                .unwrap_or_default()
        }),
    ]
}

fn binding() -> Columns {
    vec![
        ("DATABASE", |r, _| {
            spec::<BindingSpec>(r)
                .map(|s| s.database.to_string())
                .unwrap_or_default()
        }),
        ("WORKLOAD", |r, _| {
            spec::<BindingSpec>(r)
                .map(|s| subject(&s.subject))
                .unwrap_or_default()
        }),
        ("LEVEL", |r, _| {
            spec::<BindingSpec>(r)
                .map(|s| lower(&s.level))
                .unwrap_or_default()
        }),
        ("ADDRESS", |r, _| {
            read::<Binding>(r)
                .and_then(|b| b.status)
                .map(|s| s.address)
                .unwrap_or_default()
        }),
    ]
}

fn class() -> Columns {
    vec![
        ("ENGINE", |r, _| {
            read::<Class>(r)
                .map(|c| c.spec.engine.to_string())
                .unwrap_or_default()
        }),
        ("ISOLATION", |r, _| {
            read::<Class>(r)
                .map(|c| lower(&c.spec.isolation))
                .unwrap_or_default()
        }),
        ("VERSIONS", |r, _| {
            read::<Class>(r)
                .map(|c| versions(c.spec.version_min.as_deref(), c.spec.version_max.as_deref()))
                .unwrap_or_default()
        }),
        ("CONNECTIONS", |r, _| {
            read::<Class>(r)
                .and_then(|c| c.spec.limits.connections)
                .map(|n| n.to_string())
                .unwrap_or_default()
        }),
        ("DELETION", |r, _| {
            read::<Class>(r)
                .map(|c| lower(&c.spec.deletion_policy))
                .unwrap_or_default()
        }),
    ]
}

/// Operations have columns of their own: their name is an id.
pub(crate) fn of_operations(operations: &[OperationView], wanted: Wanted) -> String {
    let mut headers = vec!["ID", "VERB", "TARGET", "PHASE", "STATE", "AGE", "MESSAGE"];
    if wanted.wide {
        headers.extend(["ATTEMPTS", "REQUESTED BY", "TOOK"]);
    }
    let mut table = Table::new(&headers);
    for operation in operations {
        let spec = &operation.spec;
        let mut row = vec![
            spec.id.to_string(),
            spec.verb.clone(),
            spec.target.to_string(),
            lower(&spec.phase),
            spec.state.clone(),
            units::age(wanted.now, spec.created_at),
            first_line(spec),
        ];
        if wanted.wide {
            let took = spec.finished_at.map(|end| units::age(end, spec.created_at));
            row.extend([
                spec.attempts.to_string(),
                spec.requested_by.clone(),
                took.unwrap_or_default(),
            ]);
        }
        table.row(row);
    }
    table.render()
}

fn first_line(spec: &OperationViewSpec) -> String {
    spec.message.lines().next().unwrap_or_default().to_owned()
}

pub(crate) fn of_conditions<'a>(
    conditions: impl Iterator<Item = &'a Condition>,
    now: Timestamp,
) -> String {
    let mut table = Table::new(&["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"]);
    for condition in conditions {
        table.row(vec![
            lower(&condition.kind),
            lower(&condition.status),
            condition.reason.clone(),
            units::age(now, condition.last_transition_time),
            condition.message.clone(),
        ]);
    }
    table.render()
}

fn read<T: DeserializeOwned>(resource: &Resource) -> Option<T> {
    serde_json::from_value(serde_json::to_value(resource).ok()?).ok()
}

fn spec<T: DeserializeOwned>(resource: &Resource) -> Option<T> {
    serde_json::from_value(resource.spec.clone()).ok()
}

fn database_status(resource: &Resource) -> Option<freehold_model::kinds::DatabaseStatus> {
    read::<Database>(resource).and_then(|database| database.status)
}

fn instance_status(resource: &Resource) -> Option<freehold_model::kinds::InstanceStatus> {
    read::<Instance>(resource).and_then(|instance| instance.status)
}

fn ready(resource: &Resource, _: Timestamp) -> String {
    status_of(resource, ConditionType::Ready)
}

/// `Unknown` also when nothing has been said yet: it is not the same as not ready.
fn status_of(resource: &Resource, kind: ConditionType) -> String {
    let observed = Observed::of(resource);
    let status = observed.conditions.get(kind).map(|c| c.status);
    lower(&status.unwrap_or(ConditionStatus::Unknown))
}

fn reason(resource: &Resource, _: Timestamp) -> String {
    if resource.metadata.deletion_timestamp.is_some() {
        return "Deleting".to_owned();
    }
    let observed = Observed::of(resource);
    let ready = observed.conditions.get(ConditionType::Ready);
    ready
        .map(|condition| condition.reason.clone())
        .unwrap_or_default()
}

fn age(resource: &Resource, now: Timestamp) -> String {
    let created = resource.metadata.creation_timestamp;
    created.map(|at| units::age(now, at)).unwrap_or_default()
}

fn labels(resource: &Resource) -> String {
    let pairs: Vec<String> = resource
        .metadata
        .labels
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    pairs.join(",")
}

fn subject(subject: &Subject) -> String {
    match &subject.team {
        Some(team) => format!("{team}/{}", subject.workload),
        None => subject.workload.to_string(),
    }
}

fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn fraction(part: Option<u32>, whole: Option<u32>) -> String {
    match (part, whole) {
        (Some(part), Some(whole)) => format!("{part}/{whole}"),
        (Some(part), None) => part.to_string(),
        (None, _) => String::new(),
    }
}

fn versions(min: Option<&str>, max: Option<&str>) -> String {
    match (min, max) {
        (None, None) => "any".to_owned(),
        (Some(min), None) => format!("{min}+"),
        (None, Some(max)) => format!("to {max}"),
        (Some(min), Some(max)) => format!("{min}-{max}"),
    }
}

#[cfg(test)]
mod tests;
