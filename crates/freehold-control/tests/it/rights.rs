//! Who may do what, where it depends on what others have written, and what of it stands in the log.
//! No database server: what is decided here is decided before one is asked.

use std::{path::PathBuf, sync::Arc, time::Duration};

use freehold_api::{AuditEntry, AuditQuery, TokenCreate, TokenKind};
use freehold_control::{Caller, Control, Options};
use freehold_model::{Code, Kind, OperationId, ResourceKey, Result, SystemClock, SystemEntropy};
use freehold_store::{MemoryStore, StoreHandle};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::plant::{eventually, key, name, request};

/// `shop` gives `till` of `pay` a look into its ledger.
const WORLD: &str = "
apiVersion: freehold.dev/v1alpha1
kind: Team
metadata: {name: alpha}
spec: {members: [{subject: bea, role: viewer}]}
---
apiVersion: freehold.dev/v1alpha1
kind: Team
metadata: {name: shop}
spec:
  members:
    - {subject: ana, role: owner}
    - {subject: bea, role: developer}
    - {subject: vic, role: viewer}
---
apiVersion: freehold.dev/v1alpha1
kind: Team
metadata: {name: pay}
spec: {members: [{subject: eve, role: owner}]}
---
apiVersion: freehold.dev/v1alpha1
kind: Workload
metadata: {name: till, namespace: pay}
spec: {}
---
apiVersion: freehold.dev/v1alpha1
kind: Class
metadata: {name: standard}
spec: {engine: postgres, deletionPolicy: Quarantine}
---
apiVersion: freehold.dev/v1alpha1
kind: Database
metadata: {name: ledger, namespace: shop}
spec: {class: standard}
---
apiVersion: freehold.dev/v1alpha1
kind: Access
metadata: {name: till-reads, namespace: shop}
spec: {database: ledger, subject: {workload: till, team: pay}, level: readOnly}
";

/// A control plane in memory, running, and nothing else.
struct Desk {
    control: Control,
    admin: Caller,
    /// The operation that would make the ledger, if there were a server.
    operation: OperationId,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
    _folder: TempDir,
}

impl Desk {
    async fn open() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
        let store = StoreHandle::new(MemoryStore::new(clock.clone(), entropy.clone()));
        let mut options = Options::new("desk", folder.path().to_owned(), PathBuf::from("/none"));
        options.reconcile_interval = Duration::from_secs(1);
        let started = Control::start_on_any_store(store, clock, entropy, options).await;
        let control = started.expect("a control plane").control;
        let token = std::fs::read_to_string(folder.path().join("bootstrap-token"));
        let token = token.expect("its token");
        let admin = control.authenticate(token.trim(), "test").await;
        let admin = admin.expect("the admin");
        let report = control.apply(&admin, request(WORLD)).await;
        let operation = report
            .expect("a world")
            .applied
            .iter()
            .find_map(|applied| applied.operation);
        let shutdown = CancellationToken::new();
        let running = {
            let (control, shutdown) = (control.clone(), shutdown.clone());
            tokio::spawn(async move { control.run(shutdown).await })
        };
        Self {
            control,
            admin,
            operation: operation.expect("a new database needs work"),
            shutdown,
            running,
            _folder: folder,
        }
    }

    async fn caller(&self, subject: &str, kind: TokenKind) -> Caller {
        let request = TokenCreate {
            subject: name(subject),
            kind,
            platform_role: None,
            days: None,
        };
        let created = self.control.token_create(&self.admin, request).await;
        let token = created.expect("a token").token;
        let caller = self.control.authenticate(token.expose(), "test").await;
        caller.expect("a caller")
    }

    /// The newest entry of an action, once the log has one of that outcome.
    async fn logged(&self, query: AuditQuery, outcome: &str) -> AuditEntry {
        let found = std::sync::Mutex::new(None);
        eventually("the entry is in the log", || async {
            let list = self.control.audit_list(&self.admin, query.clone()).await;
            let entry = list
                .expect("the log")
                .items
                .into_iter()
                .find(|entry| entry.outcome == outcome);
            *found.lock().expect("no panic") = entry;
            found.lock().expect("no panic").is_some()
        })
        .await;
        found.into_inner().expect("no panic").expect("just found")
    }

    async fn close(self) {
        self.shutdown.cancel();
        self.running.await.expect("control stops without a panic");
    }
}

fn of_action(action: &str) -> AuditQuery {
    AuditQuery {
        action: Some(action.to_owned()),
        ..AuditQuery::default()
    }
}

fn of_team(team: &str, action: &str) -> AuditQuery {
    AuditQuery {
        team: Some(name(team)),
        ..of_action(action)
    }
}

fn code<T>(result: Result<T>) -> Option<Code> {
    result.err().map(|error| error.code)
}

fn till_reads() -> ResourceKey {
    key(Kind::Access, Some("shop"), "till-reads")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_for_another_team_is_the_owners_however_the_manifest_words_it() {
    let desk = Desk::open().await;
    let (ana, bea) = (
        desk.caller("ana", TokenKind::Person).await,
        desk.caller("bea", TokenKind::Person).await,
    );
    let access = |subject: &str, rest: &str| {
        let mut asked = request(&format!(
            "apiVersion: freehold.dev/v1alpha1\nkind: Access\nmetadata: {{name: till-reads, namespace: shop}}\n\
             spec: {{database: ledger, subject: {subject}, {rest}}}\n"
        ));
        asked.manager = Some("x".to_owned());
        asked.force = true;
        asked
    };
    let attempts = [
        access("{workload: till}", "level: readWrite"),
        access(
            "{workload: till}",
            "level: readOnly, expiresAt: '2199-01-01T00:00:00Z'",
        ),
        access("{workload: till, team: pay}", "level: readWrite"),
        access("{workload: till, team: shop}", "level: readWrite"),
    ];
    for attempt in attempts {
        let refused = desk.control.apply(&bea, attempt.clone()).await;
        assert_eq!(code(refused), Some(Code::Forbidden), "{attempt:?}");
    }
    let label = "apiVersion: freehold.dev/v1alpha1\nkind: Access\n\
                 metadata: {name: till-reads, namespace: shop, labels: {mine: yes-it-is}}\n\
                 spec: {database: ledger, subject: {workload: till}, level: readOnly}\n";
    let refused = desk.control.apply(&bea, request(label)).await;
    assert_eq!(code(refused), Some(Code::Forbidden));
    let now = desk.control.resource_get(&desk.admin, &till_reads()).await;
    assert_eq!(now.expect("there").spec["level"], "readOnly");
    // The team sees who tried it on what, and the owner may do it.
    let entry = desk.logged(of_team("shop", "apply"), "refused").await;
    assert_eq!(entry.target, Some(till_reads()));
    assert_eq!(entry.actor, "bea");
    let raised = access("{workload: till}", "level: readWrite");
    desk.control.apply(&ana, raised).await.expect("the owner's");
    let now = desk.control.resource_get(&desk.admin, &till_reads()).await;
    assert_eq!(now.expect("there").spec["level"], "readWrite");
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_migrate_in_any_team_uploads_and_refusals_are_logged() {
    let desk = Desk::open().await;
    let bundle = freehold_migrate::Bundle::from_files([("V1__one.sql", "SELECT 1;")]);
    let bundle = bundle.expect("a bundle");
    let upload = |caller: Caller| {
        let (control, bytes) = (desk.control.clone(), bundle.to_archive());
        let digest = bundle.digest().clone();
        async move { control.bundle_put(&caller, &digest, bytes).await }
    };
    // A viewer of `alpha`, which comes first, and a developer of `shop`.
    let bea = desk.caller("bea", TokenKind::Person).await;
    assert!(upload(bea).await.expect("a developer").new);
    let vic = desk.caller("vic", TokenKind::Person).await;
    assert_eq!(code(upload(vic).await), Some(Code::Forbidden));
    let entry = desk.logged(of_action("bundle.put"), "refused").await;
    assert_eq!(entry.actor, "vic");
    let stray = desk.caller("stray", TokenKind::Person).await;
    assert_eq!(code(upload(stray).await), Some(Code::NotFound));
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_about_operations_exports_and_backups_is_in_the_log() {
    let desk = Desk::open().await;
    let (ana, eve) = (
        desk.caller("ana", TokenKind::Person).await,
        desk.caller("eve", TokenKind::Person).await,
    );
    let control = &desk.control;
    // Nothing to resume: refused, and never said to be accepted.
    let cancelled = control.operation_cancel(&eve, desk.operation).await;
    assert_eq!(code(cancelled), Some(Code::NotFound));
    let tried = desk
        .logged(of_team("shop", "operation.cancel"), "refused")
        .await;
    assert_eq!(tried.actor, "eve");
    control
        .operation_cancel(&ana, desk.operation)
        .await
        .expect("hers");
    let done = desk
        .logged(of_team("shop", "operation.cancel"), "accepted")
        .await;
    assert_eq!(done.actor, "ana");
    eventually("it is cancelled", || async {
        let found = control.operation_get(&ana, desk.operation).await;
        found.expect("hers").spec.phase.is_final()
    })
    .await;
    let resumed = control.operation_resume(&ana, desk.operation).await;
    assert!(resumed.is_err());
    let resume = of_team("shop", "operation.resume");
    let entry = desk.logged(resume.clone(), "refused").await;
    assert_eq!(entry.actor, "ana");
    let all = control.audit_list(&desk.admin, resume).await.expect("all");
    assert_eq!(all.items.len(), 1, "nothing was accepted: {all:?}");

    assert_eq!(
        code(control.audit_export(&ana).await.map(drop)),
        Some(Code::Forbidden)
    );
    assert_eq!(
        code(control.audit_checkpoint(&ana).await),
        Some(Code::Forbidden)
    );
    assert_eq!(
        code(control.backup(&ana).await.map(drop)),
        Some(Code::Forbidden)
    );
    for action in ["audit.export", "audit.checkpoint", "admin.backup"] {
        let entry = desk.logged(of_action(action), "refused").await;
        assert_eq!(entry.actor, "ana", "{action}");
    }
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_tokens_are_in_the_log_and_cannot_fill_it() {
    let desk = Desk::open().await;
    let request = TokenCreate {
        subject: name("ana"),
        kind: TokenKind::Person,
        platform_role: None,
        days: None,
    };
    let created = desk.control.token_create(&desk.admin, request).await;
    let created = created.expect("a token");
    let id = created.view.id;
    let token = created.token.expose();
    desk.control
        .token_revoke(&desk.admin, &id)
        .await
        .expect("revoked");
    let refused = desk.control.authenticate(token, "req-1").await;
    assert_eq!(code(refused), Some(Code::Unauthenticated));
    for _ in 0..200 {
        let refused = desk.control.authenticate("not a token", "req-2").await;
        assert_eq!(code(refused), Some(Code::Unauthenticated));
    }
    let entry = desk.logged(of_action("login"), "refused").await;
    assert_eq!(
        (entry.actor.as_str(), entry.request_id.as_str()),
        ("anonymous", "req-1")
    );
    assert_eq!(entry.details["token"], serde_json::json!(id));
    let (control, admin) = (desk.control.clone(), desk.admin.clone());
    let all = control
        .audit_list(&admin, of_action("login"))
        .await
        .expect("the log");
    assert!(all.items.len() < 5, "{} entries", all.items.len());
    desk.close().await;
}
