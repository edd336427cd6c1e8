//! How each operation is asked: about the things of `shop` in [`crate::house`], reading first,
//! changing then, deleting last. What exists of a request can be put in place of what does not, which
//! makes the request's twins.

use freehold_model::{Kind, Scope};
use serde_json::{Value, json};

use crate::house::{House, Somebody};

#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// The operation's id in the OpenAPI document.
    pub(crate) id: &'static str,
    /// What is particular to this case; may be empty.
    variant: String,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) body: String,
    pub(crate) content_type: &'static str,
    pub(crate) accept: &'static str,
    /// What of the request names something that the team has, or the team itself.
    hidden: Vec<String>,
}

/// A request like another, about something that is not there.
pub(crate) struct Twin {
    pub(crate) case: Case,
    pub(crate) present: String,
    pub(crate) absent: String,
}

impl Case {
    fn new(id: &'static str, method: &'static str, path: impl Into<String>) -> Self {
        Self {
            id,
            variant: String::new(),
            method,
            path: path.into(),
            body: String::new(),
            content_type: "application/json",
            accept: "application/json",
            hidden: Vec::new(),
        }
    }

    fn called(mut self, variant: impl Into<String>) -> Self {
        self.variant = variant.into();
        self
    }

    fn with(mut self, body: &Value) -> Self {
        self.body = body.to_string();
        self
    }

    /// Strangers must not learn that this exists.
    fn hides(mut self, name: impl Into<String>) -> Self {
        self.hidden.push(name.into());
        self
    }

    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.id, self.variant)
            .trim_end()
            .to_owned()
    }

    pub(crate) fn twins(&self, house: &House) -> Vec<Twin> {
        let twin = |present: &String| {
            let absent = absent(house, present);
            let replace = |text: &str| text.replace(present.as_str(), &absent);
            let case = Self {
                path: replace(&self.path),
                body: replace(&self.body),
                ..self.clone()
            };
            Twin {
                case,
                present: present.clone(),
                absent,
            }
        };
        self.hidden.iter().map(twin).collect()
    }
}

/// Something of the same form and length that is not there, and that no other text contains.
fn absent(house: &House, present: &str) -> String {
    if present == house.operation
        || [&house.shop_token, &house.pay_token].contains(&&present.to_owned())
    {
        // Another id of the same form: its last characters are turned around.
        let (head, tail) = present.split_at(present.len() - 6);
        let turned: String = tail
            .chars()
            .map(|c| if c == '7' { '8' } else { '7' })
            .collect();
        return format!("{head}{turned}");
    }
    "zyxwvutsrqponmlkjihgfedcba"[..present.len()].to_owned()
}

fn manifest(kind: Kind, metadata: &str, spec: &str) -> Value {
    let text = format!(
        "apiVersion: freehold.dev/v1alpha1\nkind: {}\nmetadata: {metadata}\nspec: {spec}\n",
        kind.as_str()
    );
    json!({"manifests": text, "environment": "local"})
}

/// The query that names where a thing of this kind lives.
fn scope(kind: Kind) -> &'static str {
    match kind.scope() {
        Scope::Global => "",
        Scope::Environment => "?environment=local",
        Scope::Team => "?team=shop",
        Scope::EnvironmentAndTeam => "?environment=local&team=shop",
    }
}

/// The thing of each kind that is there.
fn thing(kind: Kind) -> &'static str {
    match kind {
        Kind::Environment => "local",
        Kind::Team => "shop",
        Kind::Workload => "canary-api",
        Kind::Instance => "canary-pg",
        Kind::Class => "standard",
        Kind::Database => "canary-orders",
        Kind::Access | Kind::Binding => "canary-rw",
        Kind::Operation => "canary-op",
    }
}

pub(crate) fn cases(house: &House, somebody: &Somebody) -> Vec<Case> {
    let mut cases = open_to_all();
    cases.extend(reading(house));
    cases.extend(tokens(house, somebody));
    cases.extend(databases());
    cases.extend(applying());
    cases.extend(sharing());
    cases.extend(operations(house));
    cases.extend(deleting());
    cases
}

fn open_to_all() -> Vec<Case> {
    vec![
        Case::new("server_alive", "GET", "/healthz"),
        Case::new("server_ready", "GET", "/readyz"),
        Case::new("server_metrics", "GET", "/metrics"),
        Case::new("server_version", "GET", "/v1/version"),
        Case::new("schema_get", "GET", "/v1/schemas/databases"),
        Case::new("token_whoami", "GET", "/v1/whoami"),
        Case::new("token_login", "POST", "/v1/login"),
    ]
}

fn reading(house: &House) -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in Kind::ALL {
        let plural = kind.plural();
        let own = matches!(kind.scope(), Scope::Team | Scope::EnvironmentAndTeam);
        let get = Case::new(
            "resource_get",
            "GET",
            format!("/v1/resources/{plural}/{}{}", thing(kind), scope(kind)),
        )
        .called(kind.as_str());
        cases.push(match kind {
            Kind::Environment | Kind::Class => get,
            _ if own => get.hides(thing(kind)).hides("shop"),
            _ => get.hides(thing(kind)),
        });
        let all = format!("/v1/resources/{plural}?environment=local");
        cases.push(Case::new("resource_list", "GET", &all).called(kind.as_str()));
        let team = format!("{all}&team=shop");
        let team = Case::new("resource_list", "GET", team);
        cases.push(
            team.called(format!("{} of shop", kind.as_str()))
                .hides("shop"),
        );
    }
    for access in ["resource_get", "binding"] {
        let (plural, called) = match access {
            "binding" => ("bindings", "Binding of pay's workload"),
            _ => ("accesses", "Access of pay's workload"),
        };
        let path = format!("/v1/resources/{plural}/till-reads?environment=local&team=shop");
        cases.push(Case::new("resource_get", "GET", path).called(called));
    }
    let operation = format!("/v1/operations/{}", house.operation);
    cases.extend([
        Case::new("operation_list", "GET", "/v1/operations"),
        Case::new("operation_list", "GET", "/v1/operations?team=shop")
            .called("of shop")
            .hides("shop"),
        Case::new(
            "operation_list",
            "GET",
            "/v1/operations?environment=local&team=shop&database=canary-orders",
        )
        .called("of a database")
        .hides("canary-orders")
        .hides("shop"),
        Case::new("operation_get", "GET", &operation).hides(&house.operation),
        Case::new("operation_events", "GET", format!("{operation}/events")).hides(&house.operation),
        Case {
            accept: "text/event-stream",
            ..Case::new("operation_events", "GET", format!("{operation}/events"))
        }
        .called("as a stream")
        .hides(&house.operation),
        Case::new("audit_list", "GET", "/v1/audit").called("of all"),
        Case::new("audit_list", "GET", "/v1/audit?team=shop")
            .called("of shop")
            .hides("shop"),
        Case::new("audit_export", "GET", "/v1/audit/export"),
        Case::new("audit_checkpoint", "GET", "/v1/audit/checkpoint"),
        Case::new("server_backup", "GET", "/v1/backup"),
    ]);
    cases
}

fn tokens(house: &House, somebody: &Somebody) -> Vec<Case> {
    let create = |called: &str, subject: &str, kind: &str| {
        Case::new("token_create", "POST", "/v1/tokens")
            .called(called)
            .with(&json!({"subject": subject, "kind": kind}))
    };
    let with_role = json!({"subject": "canary-x", "kind": "person", "platformRole": "admin"});
    vec![
        Case::new("token_list", "GET", "/v1/tokens"),
        create("for oneself", somebody.subject, somebody.kind),
        create("for another person", "canary-ana", "person").hides("canary-ana"),
        create("for shop's machine", "canary-ci", "machine").hides("canary-ci"),
        create("for a machine of no team", "lonely", "machine"),
        Case::new("token_create", "POST", "/v1/tokens")
            .called("for an admin")
            .with(&with_role),
        Case::new(
            "token_revoke",
            "DELETE",
            format!("/v1/tokens/{}", house.shop_token),
        )
        .called("of shop's machine")
        .hides(&house.shop_token),
        Case::new(
            "token_revoke",
            "DELETE",
            format!("/v1/tokens/{}", somebody.spare_token),
        )
        .called("of one's own"),
    ]
}

fn databases() -> Vec<Case> {
    let of = |environment: &str, rest: &str| {
        format!("/v1/databases/{environment}/shop/canary-orders/{rest}")
    };
    let binding = |environment: &str, access: &str| {
        let path = format!("/v1/bindings/{environment}/shop/{access}/read");
        Case::new("binding_read", "POST", path).with(&json!({"reason": "a test"}))
    };
    let bundle = format!("sha256:{}", "0".repeat(64));
    let hidden = |case: Case| case.hides("canary-orders").hides("shop");
    vec![
        hidden(Case::new("database_explain", "GET", of("local", "explain"))),
        hidden(Case::new(
            "migration_status",
            "GET",
            of("local", "migrations"),
        )),
        hidden(Case::new(
            "migration_submit",
            "POST",
            of("local", "migrations"),
        ))
        .with(&json!({"bundle": bundle})),
        hidden(Case::new(
            "migration_submit",
            "POST",
            of("prod", "migrations"),
        ))
        .called("where protected")
        .with(&json!({"bundle": bundle})),
        hidden(Case::new(
            "database_undelete",
            "POST",
            of("local", "undelete"),
        )),
        binding("local", "canary-rw")
            .hides("canary-rw")
            .hides("shop"),
        binding("prod", "canary-rw")
            .called("where protected")
            .hides("canary-rw")
            .hides("shop"),
        binding("local", "till-reads").called("of pay's workload"),
        Case {
            content_type: "application/octet-stream",
            body: "no bundle".to_owned(),
            ..Case::new("bundle_put", "PUT", format!("/v1/bundles/{bundle}"))
        },
    ]
}

fn applying() -> Vec<Case> {
    let apply = |kind: Kind, metadata: &str, spec: &str| {
        Case::new("resource_apply", "POST", "/v1/apply")
            .called(kind.as_str())
            .with(&manifest(kind, metadata, spec))
    };
    let access = "{database: canary-orders, subject: {workload: canary-api}, level: readOnly}";
    let mut pruning = manifest(Kind::Workload, "{name: newest, namespace: pay}", "{}");
    pruning["pruneSet"] = json!("shops-own");
    pruning["dryRun"] = json!(true);
    let mut dry = manifest(
        Kind::Database,
        "{name: canary-orders, namespace: shop}",
        "{class: standard, deletionPolicy: Retain}",
    );
    dry["dryRun"] = json!(true);
    vec![
        apply(Kind::Environment, "{name: spare}", "{order: 4}"),
        apply(
            Kind::Team,
            "{name: shop}",
            "{displayName: Shop, members: [{subject: canary-ana, role: owner}, \
             {subject: canary-dev, role: developer}, {subject: canary-vic, role: viewer}, \
             {subject: canary-ci, role: developer}, {subject: canary-bot, role: developer}]}",
        )
        .hides("shop"),
        apply(Kind::Team, "{name: newcomers}", "{}").called("Team that is new"),
        apply(Kind::Workload, "{name: canary-api, namespace: shop}", "{}")
            .hides("canary-api")
            .hides("shop"),
        apply(
            Kind::Instance,
            "{name: canary-pg}",
            "{engine: postgres, external: {host: 127.0.0.1, port: 2, username: admin, \
             password: 'env:NOWHERE', tls: disable}}",
        )
        .hides("canary-pg"),
        apply(
            Kind::Class,
            "{name: spare-class}",
            "{engine: postgres, deletionPolicy: Retain}",
        ),
        Case::new("resource_apply", "POST", "/v1/apply")
            .called("Database, dry run")
            .with(&dry)
            .hides("canary-orders")
            .hides("shop"),
        apply(
            Kind::Database,
            "{name: canary-orders, namespace: shop}",
            "{class: standard, deletionPolicy: Quarantine}",
        )
        .hides("canary-orders")
        .hides("shop"),
        apply(
            Kind::Database,
            "{name: canary-pinned, namespace: shop}",
            "{class: standard, placement: {instance: canary-pg}}",
        )
        .called("Database on an instance of choice")
        .hides("shop"),
        apply(Kind::Access, "{name: canary-rw, namespace: shop}", access)
            .hides("canary-rw")
            .hides("canary-api")
            .hides("shop"),
        apply(Kind::Binding, "{name: canary-rw, namespace: shop}", "{}").hides("canary-rw"),
        Case::new("resource_apply", "POST", "/v1/apply")
            .called("that prunes the set of shop")
            .with(&pruning)
            .hides("shops-own"),
    ]
}

/// What `shop` gives to the workload of `pay`.
fn sharing() -> Vec<Case> {
    let apply = |name: &str, spec: &str| {
        let metadata = format!("{{name: {name}, namespace: shop}}");
        Case::new("resource_apply", "POST", "/v1/apply").with(&manifest(
            Kind::Access,
            &metadata,
            spec,
        ))
    };
    let to_pay = "{database: ledger, subject: {workload: till, team: pay}, level: readWrite}";
    // Who it is for is left out: the access as it is already says so.
    let raised = "{database: ledger, subject: {workload: till}, level: readWrite}";
    let mut raised = manifest(Kind::Access, "{name: till-reads, namespace: shop}", raised);
    raised["manager"] = json!("x");
    raised["force"] = json!(true);
    vec![
        apply("till-writes", to_pay)
            .called("Access of pay's workload")
            .hides("ledger"),
        apply(
            "till-reads",
            "{database: ledger, subject: {workload: canary-api, team: shop}, level: owner}",
        )
        .called("Access of pay's workload, given to another"),
        Case::new("resource_apply", "POST", "/v1/apply")
            .called("Access of pay's workload, raised without its team")
            .with(&raised)
            .hides("ledger"),
    ]
}

fn operations(house: &House) -> Vec<Case> {
    let path = |verb: &str| format!("/v1/operations/{}/{verb}", house.operation);
    vec![
        Case::new("operation_resume", "POST", path("resume")).hides(&house.operation),
        Case::new("operation_cancel", "POST", path("cancel")).hides(&house.operation),
    ]
}

fn deleting() -> Vec<Case> {
    let mut cases = Vec::new();
    let path =
        |kind: Kind, name: &str| format!("/v1/resources/{}/{name}{}", kind.plural(), scope(kind));
    let cross = path(Kind::Access, "till-reads");
    cases.push(Case::new("resource_delete", "DELETE", cross).called("Access of pay's workload"));
    for kind in Kind::ALL {
        let name = match kind {
            Kind::Environment => "spare",
            Kind::Workload => "canary-idle",
            Kind::Class => "spare-class",
            other => thing(other),
        };
        let own = matches!(kind.scope(), Scope::Team | Scope::EnvironmentAndTeam);
        let case = Case::new("resource_delete", "DELETE", path(kind, name)).called(kind.as_str());
        cases.push(match kind {
            _ if own => case.hides(name).hides("shop"),
            _ => case.hides(name),
        });
    }
    cases
}
