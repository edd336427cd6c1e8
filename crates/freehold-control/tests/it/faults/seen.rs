//! What of a world counts: the server's catalog, the records, the audit entries, and whether the
//! credentials work; without times, random names and epochs.

use freehold_api::BindingRead;
use freehold_control::Control;
use freehold_model::Kind;
use freehold_store::{CollectionName, Range, Scan};
use freehold_testing::faults::Snapshot;
use serde_json::Value;

use super::shop::{self, Shop};
use crate::plant::{key, sql};

/// Roles, database and registry rows, and what is inside the database.
pub(super) fn server_rows(shop: &Shop, place: &str, query: &str) -> Vec<String> {
    let query = query
        .replace("TEAM", &shop.team)
        .replace("NAME", &shop.database());
    let text = shop::server().psql(place, &query);
    text.lines().map(|line| shop.plain(line)).collect()
}

pub(super) fn server(shop: &Shop, snapshot: Snapshot) -> Snapshot {
    let rows = |query: &str| server_rows(shop, "postgres", query);
    let exists = !rows("SELECT 1 FROM pg_database WHERE datname = 'NAME'").is_empty();
    let snapshot = snapshot
        .unordered(
            "registry",
            rows(
                "SELECT name, state, team, database, database_oid IS NOT NULL FROM freehold.registry WHERE team = 'TEAM';
                 SELECT r.name, r.purpose, r.verifier IS NOT NULL, p.oid = r.role_oid FROM freehold.role r LEFT JOIN pg_roles p ON p.rolname = r.name WHERE r.database = 'NAME'",
            ),
        )
        .unordered(
            "roles",
            rows("SELECT rolname, rolcanlogin, rolinherit, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolconnlimit, rolpassword IS NOT NULL, rolvaliduntil IS NOT NULL FROM pg_authid WHERE rolname LIKE 'TEAM\\_%';
                  SELECT rolname, rolconfig FROM pg_roles WHERE rolname LIKE 'TEAM\\_%'"),
        )
        .unordered(
            "members",
            rows("SELECT roleid::regrole, member::regrole, admin_option FROM pg_auth_members WHERE roleid::regrole::text LIKE '%TEAM\\_%'"),
        )
        .unordered(
            "database",
            rows("SELECT datname, datdba::regrole, datconnlimit, datallowconn FROM pg_database WHERE datname = 'NAME';
                  SELECT unnest(datacl) FROM pg_database WHERE datname = 'NAME';
                  SELECT setrole::regrole, unnest(setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE datname = 'NAME'"),
        )
        .unordered(
            "sessions",
            rows("SELECT usename FROM pg_stat_activity WHERE usename LIKE 'TEAM\\_%'"),
        );
    if !exists {
        return snapshot;
    }
    inside(shop, snapshot)
}

fn inside(shop: &Shop, snapshot: Snapshot) -> Snapshot {
    let name = shop.database();
    let rows = |query: &str| server_rows(shop, &name, query);
    let history = rows("SELECT 1 FROM pg_class WHERE relname = 'flyway_schema_history'");
    let snapshot = snapshot
        .unordered(
            "inside",
            rows("SELECT nspname, nspowner::regrole, unnest(nspacl) FROM pg_namespace WHERE nspname IN ('public', 'stock');
                  SELECT defaclrole::regrole, defaclnamespace, defaclobjtype, unnest(defaclacl) FROM pg_default_acl WHERE defaclnamespace = 0;
                  SELECT defaclrole::regrole, defaclnamespace::regnamespace, defaclobjtype, unnest(defaclacl) FROM pg_default_acl WHERE defaclnamespace <> 0;
                  SELECT relname, relkind, relowner::regrole, unnest(relacl) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname IN ('public', 'stock') AND relkind IN ('r', 'v', 'S')"),
        );
    if history.is_empty() {
        return snapshot;
    }
    snapshot.ordered(
        "history",
        rows("SELECT installed_rank, version, description, type, script, checksum, installed_by, success FROM flyway_schema_history ORDER BY installed_rank;
              SELECT count(*), sum(id) FROM items"),
    )
}

async fn all(shop: &Shop, collection: &'static str) -> Vec<Value> {
    let name = CollectionName::new(collection).expect("a collection");
    let scan = Scan {
        limit: 1000,
        ..Scan::new(name, Range::All)
    };
    let page = shop.store().scan(scan).await.expect("a page");
    let values = page.records.iter().map(|record| record.value.decode());
    values.map(|value| value.expect("JSON")).collect()
}

fn conditions(resource: &Value) -> Vec<String> {
    let list = resource.pointer("/status/conditions");
    let list = list.and_then(Value::as_array).cloned().unwrap_or_default();
    let said = list.iter().map(|c| {
        format!(
            "{}={} {}",
            c["type"].as_str().unwrap_or_default(),
            c["status"].as_str().unwrap_or_default(),
            c["reason"].as_str().unwrap_or_default()
        )
    });
    let mut said: Vec<String> = said.collect();
    said.sort();
    said
}

fn unrepaired(database: &Value) -> Vec<String> {
    let list = database.pointer("/status/drift").and_then(Value::as_array);
    let open = list
        .into_iter()
        .flatten()
        .filter(|d| d["repaired"] == false);
    open.map(|d| d["key"].to_string()).collect()
}

/// Records, claims, operations and audit entries.
pub(super) async fn records(shop: &Shop, snapshot: Snapshot) -> Snapshot {
    let mut lines = Vec::new();
    for database in all(shop, "databases").await {
        lines.push(shop.plain(&format!(
            "database placed {:?} as {} generation {} observed {} going {} quarantined {} migration {:?} drift {:?} {:?}",
            database.pointer("/status/placement/instance"),
            database["status"]["databaseName"],
            database["metadata"]["generation"],
            database["status"]["observedGeneration"],
            !database["metadata"]["deletionTimestamp"].is_null(),
            !database["status"]["quarantine"].is_null(),
            database.pointer("/status/migration/version"),
            unrepaired(&database),
            conditions(&database),
        )));
    }
    for access in all(shop, "accesses").await {
        lines.push(shop.plain(&format!(
            "access {} login {} slot {} going {} {:?}",
            access["metadata"]["name"],
            access["status"]["login"],
            access["status"]["activeSlot"],
            !access["metadata"]["deletionTimestamp"].is_null(),
            conditions(&access),
        )));
    }
    for credentials in all(shop, "credentials").await {
        let accesses = credentials["accesses"].as_object();
        let published = accesses.map(|all| {
            all.values()
                .filter(|held| !held["publishedAt"].is_null())
                .count()
        });
        lines.push(format!(
            "credentials published {published:?} of {:?}, retired {}",
            accesses.map(serde_json::Map::len),
            credentials["retired"].as_array().map_or(0, Vec::len),
        ));
    }
    for allocation in all(shop, "allocations").await {
        let databases = allocation["databases"].as_object();
        let count = databases.map_or_else(|| allocation.to_string().len(), serde_json::Map::len);
        lines.push(format!("promised to {count}"));
    }
    for history in all(shop, "migration_histories").await {
        let rows = history["rows"].as_array().map_or(0, Vec::len);
        lines.push(format!("history of {rows}"));
    }
    lines.push(format!("claims {}", all(shop, "claims").await.len()));
    let operations = all(shop, "operations").await.into_iter().map(|operation| {
        shop.plain(&format!(
            "{} {} in {}",
            operation["verb"], operation["phase"], operation["stateName"]
        ))
    });
    lines.extend(operations);
    let audit = all(shop, "audit_pending").await.into_iter().map(|entry| {
        shop.plain(&format!(
            "{} of {} {}",
            entry["action"], entry["target"]["name"], entry["outcome"]
        ))
    });
    // What the harness itself asks for to look is not part of the world.
    let audit = audit.filter(|line| !line.starts_with("\"binding.read\""));
    snapshot
        .unordered("records", lines)
        .unordered("audit", audit)
}

/// What a workload gets and whether it opens the door, and no more than it should.
pub(super) async fn credentials(shop: &Shop, control: &Control, snapshot: Snapshot) -> Snapshot {
    let admin = shop.admin(control).await;
    let mut lines = Vec::new();
    for access in ["orders-api", "part", "extra"] {
        let asked = BindingRead {
            reason: "a test".to_owned(),
        };
        let key = key(Kind::Binding, Some(&shop.team), access);
        let said = match control.binding_read(&admin, &key, asked).await {
            Err(error) => format!("{:?}", error.code),
            Ok(secret) => {
                let binding = secret.target.server().expect("a server's").clone();
                let opens = sql(&binding, "SELECT 1").await;
                let makes = sql(&binding, "CREATE TABLE stock.mine (id int)").await;
                let own = sql(&binding, "CREATE DATABASE mine").await;
                format!("{opens:?} {:?} {:?}", makes.is_ok(), own.is_ok())
            }
        };
        lines.push(format!("{access}: {}", shop.plain(&said)));
    }
    snapshot.ordered("credentials", lines)
}
