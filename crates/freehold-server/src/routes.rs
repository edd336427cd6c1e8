//! Every route, and the OpenAPI document made from the same list.
//!
//! Schemas come from the handlers' signatures. Beside its summary, an operation says in
//! `x-freehold-action` which action of the authorization rules it needs and which roles have it, so
//! that a test can walk all routes with all roles. This is the only module that knows `aide`.

use aide::{
    axum::{
        ApiRouter,
        routing::{ApiMethodRouter, delete_with, get_with, post_with, put_with},
    },
    openapi::{Info, License, OpenApi, SecurityScheme, Server},
    transform::TransformOperation,
};
use axum::{Router, extract::DefaultBodyLimit};
use serde_json::{Value, json};

use crate::{
    App,
    handlers::{
        audit, bundles, databases, identity, operations, platform,
        resources::{self, APPLY_BODY_BYTES_MAX},
    },
};

/// Answered whatever else is going on.
pub(crate) const PLATFORM: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/openapi.json"];
/// Moves much data: has more time than others.
pub(crate) const TRANSFERS: [&str; 3] = ["/v1/bundles/{digest}", "/v1/audit/export", "/v1/backup"];

const BODY_BYTES_MAX: usize = 256 * 1024;

/// Who may use an operation.
#[derive(Clone, Copy)]
struct Needs {
    /// As in the authorization rules; `{kind}` stands for the kind in the path or manifest.
    action: &'static str,
    /// Roles that have it for the whole platform.
    platform: &'static [&'static str],
    /// Roles that have it within their team.
    team: &'static [&'static str],
}

/// No token at all.
const NOTHING: Needs = needs("none", &[], &[]);
/// Any valid token.
const TOKEN: Needs = needs(
    "WhoAmI",
    &["admin", "operator"],
    &["owner", "developer", "viewer"],
);
const EVERY_ROLE: &[&str] = &["owner", "developer", "viewer"];
const CHANGERS: &[&str] = &["owner", "developer"];

const fn needs(
    action: &'static str,
    platform: &'static [&'static str],
    team: &'static [&'static str],
) -> Needs {
    Needs {
        action,
        platform,
        team,
    }
}

/// The routes, ready for the server's state.
pub(crate) fn router() -> Router<App> {
    list().finish_api(&mut OpenApi::default())
}

/// The OpenAPI document as JSON text, ending with a line feed.
pub fn document() -> String {
    aide::generate::in_context(|ctx| {
        // OpenAPI 3.1 speaks the newer dialect; the library's default is draft 7.
        let settings = schemars::generate::SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "#/components/schemas/".into();
        });
        ctx.schema = settings.into_generator();
    });
    let mut api = OpenApi {
        info: Info {
            title: "Freehold".to_owned(),
            summary: Some("Self-service datastores".to_owned()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            license: Some(License {
                name: "Apache-2.0".to_owned(),
                identifier: Some("Apache-2.0".to_owned()),
                ..License::default()
            }),
            ..Info::default()
        },
        servers: vec![Server {
            url: freehold_address(),
            ..Server::default()
        }],
        ..OpenApi::default()
    };
    let _router: Router<App> = list().finish_api_with(&mut api, |api| {
        api.security_scheme(
            "token",
            SecurityScheme::Http {
                scheme: "bearer".to_owned(),
                bearer_format: None,
                description: Some("A token made by `freehold token create`.".to_owned()),
                extensions: Default::default(),
            },
        )
    });
    let mut text = serde_json::to_string_pretty(&api).expect("the document is plain data");
    text.push('\n');
    text
}

fn freehold_address() -> String {
    "http://127.0.0.1:7440".to_owned()
}

fn list() -> ApiRouter<App> {
    ApiRouter::new()
        .merge(platform_routes())
        .merge(identity_routes())
        .merge(resource_routes())
        .merge(database_routes())
        .merge(operation_routes())
        .merge(audit_routes())
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

fn platform_routes() -> ApiRouter<App> {
    let open = |id, summary| doc(id, "Platform", summary, NOTHING);
    ApiRouter::new()
        .api_route(
            "/healthz",
            get_with(
                platform::alive,
                open("server_alive", "Whether the process answers"),
            ),
        )
        .api_route(
            "/readyz",
            get_with(
                platform::ready,
                open("server_ready", "Whether the server can do its work"),
            ),
        )
        .api_route(
            "/metrics",
            get_with(
                platform::metrics,
                open("server_metrics", "Metrics for Prometheus"),
            ),
        )
        .route("/openapi.json", axum::routing::get(platform::openapi))
        .api_route(
            "/v1/version",
            get_with(
                identity::version,
                open("server_version", "Version and control plane"),
            ),
        )
        .api_route(
            "/v1/schemas/{kind}",
            get_with(
                resources::schema,
                open("schema_get", "JSON Schema of a manifest"),
            ),
        )
}

fn identity_routes() -> ApiRouter<App> {
    // Everybody looks after their own tokens, owners after those of their teams' machines too.
    let tokens = |action| needs(action, &["admin", "operator"], EVERY_ROLE);
    ApiRouter::new()
        .api_route(
            "/v1/whoami",
            get_with(
                identity::whoami,
                doc(
                    "token_whoami",
                    "Identity",
                    "Who the token is and may be",
                    TOKEN,
                ),
            ),
        )
        .api_route(
            "/v1/login",
            post_with(
                identity::login,
                doc(
                    "token_login",
                    "Identity",
                    "The same, recorded in the audit log",
                    TOKEN,
                ),
            ),
        )
        .api_route(
            "/v1/tokens",
            get_with(
                identity::token_list,
                doc(
                    "token_list",
                    "Identity",
                    "Tokens, without their secrets",
                    tokens("ListTokens"),
                ),
            )
            .post_with(
                identity::token_create,
                doc(
                    "token_create",
                    "Identity",
                    "Make a token; the answer is the only one that holds it",
                    tokens("CreateToken"),
                ),
            ),
        )
        .api_route(
            "/v1/tokens/{id}",
            delete_with(
                identity::token_revoke,
                doc(
                    "token_revoke",
                    "Identity",
                    "Revoke a token, at once and for good",
                    tokens("RevokeToken"),
                ),
            ),
        )
}

fn resource_routes() -> ApiRouter<App> {
    let platform = &["admin", "operator"];
    ApiRouter::new()
        .api_route(
            "/v1/apply",
            larger(
                post_with(
                    resources::apply,
                    doc(
                        "resource_apply",
                        "Resources",
                        "Apply manifests: all are accepted together, or none",
                        needs("Apply({kind})", platform, CHANGERS),
                    ),
                ),
                APPLY_BODY_BYTES_MAX,
            ),
        )
        .api_route(
            "/v1/resources/{kind}",
            get_with(
                resources::list,
                doc(
                    "resource_list",
                    "Resources",
                    "Resources of a kind that the caller may see, by pages",
                    needs("List({kind})", platform, EVERY_ROLE),
                ),
            ),
        )
        .api_route(
            "/v1/resources/{kind}/{name}",
            get_with(
                resources::get,
                doc(
                    "resource_get",
                    "Resources",
                    "One resource with its status",
                    needs("Get({kind})", platform, EVERY_ROLE),
                ),
            )
            .delete_with(
                resources::delete,
                doc(
                    "resource_delete",
                    "Resources",
                    "Delete a resource; its deletion policy says what becomes of the data",
                    needs("Delete({kind})", platform, CHANGERS),
                ),
            ),
        )
}

fn database_routes() -> ApiRouter<App> {
    let admin = &["admin"];
    ApiRouter::new()
        .api_route(
            "/v1/databases/{environment}/{team}/{name}/undelete",
            post_with(
                databases::undelete,
                doc(
                    "database_undelete",
                    "Databases",
                    "Bring a quarantined database back",
                    needs("Undelete", admin, CHANGERS),
                ),
            ),
        )
        .api_route(
            "/v1/databases/{environment}/{team}/{name}/explain",
            get_with(
                databases::explain,
                doc(
                    "database_explain",
                    "Databases",
                    "Where it is or would be placed, and why",
                    needs("Explain", &["admin", "operator"], EVERY_ROLE),
                ),
            ),
        )
        .api_route(
            "/v1/databases/{environment}/{team}/{name}/migrations",
            get_with(
                databases::migrations,
                doc(
                    "migration_status",
                    "Databases",
                    "The history, and how a bundle's scripts stand against it",
                    needs("Get(Database)", &["admin", "operator"], EVERY_ROLE),
                ),
            )
            .post_with(
                databases::migrate,
                doc(
                    "migration_submit",
                    "Databases",
                    "Run an uploaded bundle's pending scripts",
                    needs("Migrate", admin, CHANGERS),
                ),
            ),
        )
        .api_route(
            "/v1/bindings/{environment}/{team}/{name}/read",
            post_with(
                databases::read_binding,
                doc(
                    "binding_read",
                    "Databases",
                    "Hand out a workload's credential; always recorded",
                    needs("ReadBinding", admin, CHANGERS),
                ),
            ),
        )
        .api_route(
            "/v1/bundles/{digest}",
            larger(
                put_with(
                    bundles::put,
                    doc(
                        "bundle_put",
                        "Databases",
                        "Upload a bundle of migrations under its digest",
                        needs("Migrate", admin, CHANGERS),
                    ),
                ),
                bundles::BUNDLE_BYTES_MAX,
            ),
        )
}

fn operation_routes() -> ApiRouter<App> {
    let read = || needs("Get(Operation)", &["admin", "operator"], EVERY_ROLE);
    let change = || needs("CancelOperation", &["admin", "operator"], CHANGERS);
    ApiRouter::new()
        .api_route(
            "/v1/operations",
            get_with(
                operations::list,
                doc(
                    "operation_list",
                    "Operations",
                    "Operations that the caller may see, oldest first, by pages",
                    needs("List(Operation)", &["admin", "operator"], EVERY_ROLE),
                ),
            ),
        )
        .api_route(
            "/v1/operations/{id}",
            get_with(
                operations::get,
                doc(
                    "operation_get",
                    "Operations",
                    "One operation and its state",
                    read(),
                ),
            ),
        )
        .api_route(
            "/v1/operations/{id}/events",
            get_with(operations::events, |op| {
                doc(
                    "operation_events",
                    "Operations",
                    "What happened so far, or a stream of what happens",
                    read(),
                )(op)
                .response::<200, axum::Json<freehold_api::OperationEvents>>()
                .with(event_stream)
            }),
        )
        .api_route(
            "/v1/operations/{id}/cancel",
            post_with(
                operations::cancel,
                doc(
                    "operation_cancel",
                    "Operations",
                    "Ask an operation to stop, where it still can",
                    change(),
                ),
            ),
        )
        .api_route(
            "/v1/operations/{id}/resume",
            post_with(
                operations::resume,
                doc(
                    "operation_resume",
                    "Operations",
                    "Go on with an operation that waits for a person",
                    change(),
                ),
            ),
        )
}

fn audit_routes() -> ApiRouter<App> {
    let admin = &["admin"];
    ApiRouter::new()
        .api_route(
            "/v1/audit",
            get_with(
                audit::list,
                doc(
                    "audit_list",
                    "Audit",
                    "Entries of the log, newest first",
                    needs("ReadAudit", &["admin", "operator"], EVERY_ROLE),
                ),
            ),
        )
        .api_route(
            "/v1/audit/export",
            get_with(
                audit::export,
                doc(
                    "audit_export",
                    "Audit",
                    "The whole log as JSON Lines, for verification elsewhere",
                    needs("ExportAudit", &["admin", "operator"], &[]),
                ),
            ),
        )
        .api_route(
            "/v1/audit/checkpoint",
            get_with(
                audit::checkpoint,
                doc(
                    "audit_checkpoint",
                    "Audit",
                    "The newest signed checkpoint; keep it",
                    needs("ExportAudit", &["admin", "operator"], &[]),
                ),
            ),
        )
        .api_route(
            "/v1/backup",
            get_with(
                audit::backup,
                doc(
                    "server_backup",
                    "Platform",
                    "The store and the log in one archive",
                    needs("Backup", admin, &[]),
                ),
            ),
        )
}

/// A route whose bodies may be larger than most.
fn larger(route: ApiMethodRouter<App>, bytes_max: usize) -> ApiMethodRouter<App> {
    route.layer(DefaultBodyLimit::max(bytes_max))
}

fn doc(
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    needs: Needs,
) -> impl FnOnce(TransformOperation<'_>) -> TransformOperation<'_> {
    move |operation| {
        let open = needs.action == "none";
        let action: Value = json!({
            "action": needs.action,
            "platformRoles": needs.platform,
            "teamRoles": needs.team,
        });
        let mut operation = operation.id(id).tag(tag).summary(summary);
        operation
            .inner_mut()
            .extensions
            .insert("x-freehold-action".to_owned(), action);
        if open {
            operation
        } else {
            operation.security_requirement("token")
        }
    }
}

/// The second form of the answer, which no signature can tell.
fn event_stream(mut operation: TransformOperation<'_>) -> TransformOperation<'_> {
    use aide::openapi::{MediaType, ReferenceOr, StatusCode};
    let responses = operation.inner_mut().responses.get_or_insert_default();
    if let Some(ReferenceOr::Item(answer)) = responses.responses.get_mut(&StatusCode::Code(200)) {
        let stream = MediaType::default();
        answer
            .content
            .insert("text/event-stream".to_owned(), stream);
        "With `Accept: text/event-stream`: `progress` events whose ids are sequence numbers, and one \
         `end` event that holds the operation. `Last-Event-ID` or `after` resumes."
            .clone_into(&mut answer.description);
    }
    operation
}
