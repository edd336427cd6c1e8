//! Servers that are down, slow, full, read-only, cloned, or already hold what is wanted.

use freehold_model::Kind;
use freehold_testing::{
    postgres::{Login, Server, StopMode, psql},
    proxy::{Tcp, Towards},
};

use crate::plant::{
    ORDERS, PATIENCE, Plant, Setup, condition, eventually, is_condition, key, platform, sql, within,
};

fn orders() -> freehold_model::ResourceKey {
    key(Kind::Database, Some("shop"), "orders")
}

fn instance() -> freehold_model::ResourceKey {
    key(Kind::Instance, None, "pg-1")
}

fn reason(resource: &freehold_model::Resource, kind: &str) -> String {
    let found = condition(resource, kind).and_then(|c| c["reason"].as_str().map(str::to_owned));
    found.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_swallows_everything_is_unknown_and_delays_no_other() {
    let plant = Plant::start().await;
    let proxy = Tcp::start((plant.server.host(), plant.server.port()));
    plant.apply(&plant.platform_at(proxy.port(), "")).await;
    plant.apply(ORDERS).await;
    plant.ready(&orders()).await;
    proxy.stall();
    // Another version, because servers of one version are copies of one template.
    let oldest = Server::versions().into_iter().next().expect("installed");
    let healthy = Server::start_version(oldest);
    let password = plant.directory.path().join("other-password");
    std::fs::write(&password, healthy.superuser_password()).expect("written");
    let other = platform(&healthy, "")
        .replace("PASSWORD_FILE", &password.to_string_lossy())
        .replace("name: pg-1", "name: pg-2");
    plant.apply(&other).await;
    let second = ORDERS.replace("name: orders", "name: returns").replace(
        "class: standard",
        "class: standard\n  placement: {instance: pg-2}",
    );
    plant.apply(&second).await;
    plant
        .ready(&key(Kind::Database, Some("shop"), "returns"))
        .await;
    within(PATIENCE * 2, "the silent server is unknown", || async {
        is_condition(&plant.get(&instance()).await, "Reachable", "Unknown")
    })
    .await;
    proxy.pass();
    plant.ready(&instance()).await;
    plant.ready(&orders()).await;
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_in_the_middle_of_provisioning_leave_nothing_half_made() {
    let plant = Plant::start().await;
    let proxy = Tcp::start((plant.server.host(), plant.server.port()));
    plant.apply(&plant.platform_at(proxy.port(), "")).await;
    plant.ready(&instance()).await;
    let mut names = Vec::new();
    for bytes in [700, 4_000, 9_000, 15_000, 22_000] {
        let name = format!("cut{bytes}");
        proxy.cut_after(Towards::Server, bytes);
        let before = proxy.accepted();
        plant.apply(&ORDERS.replace("orders", &name)).await;
        eventually("somebody runs into the cut", || async {
            proxy.accepted() >= before + 2
        })
        .await;
        proxy.pass();
        names.push(name);
    }
    for name in &names {
        plant.ready(&key(Kind::Database, Some("shop"), name)).await;
        let access = format!("{name}-api");
        plant.ready(&key(Kind::Access, Some("shop"), &access)).await;
        let binding = plant.binding("shop", &access).await;
        assert!(sql(&binding, "SELECT 1").await.is_ok(), "{name}");
    }
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_free_connections_is_said_to_be_exhausted_and_recovers() {
    let server = Server::with_settings(&[("max_connections", "10")]);
    let plant = Plant::start_on(server, Setup::default()).await;
    plant.apply(&plant.platform("")).await;
    plant.apply(ORDERS).await;
    plant.ready(&orders()).await;
    let login = plant.server.superuser_login();
    let mut hogs = Vec::new();
    let exhausted = async {
        loop {
            // Whatever Freehold gives back is taken until nothing is left for it.
            match connection(&plant.server, &login).await {
                Some(hog) => hogs.push(hog),
                None => {
                    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                               WHERE application_name LIKE 'freehold/%'";
                    let first: &tokio_postgres::Client = hogs.first().expect("one got in");
                    first.batch_execute(end).await.expect("ended");
                }
            }
            let found = plant.get(&instance()).await;
            if reason(&found, "Reachable") == "ServerExhausted" {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, exhausted).await;
    let found = found.expect("it is said that the server is exhausted");
    assert!(is_condition(&found, "Ready", "Unknown"));
    drop(hogs);
    plant.ready(&instance()).await;
    plant.ready(&orders()).await;
    plant.stop().await;
}

async fn connection(server: &Server, login: &Login) -> Option<tokio_postgres::Client> {
    let mut config = tokio_postgres::Config::new();
    config
        .host(server.host())
        .port(server.port())
        .user(&login.name)
        .password(&login.password)
        .dbname("postgres");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_server_gets_no_database_until_it_takes_writes_again() {
    let plant = Plant::start().await;
    plant.apply(&plant.platform("")).await;
    plant.ready(&instance()).await;
    let read_only = |on: &str| {
        plant.server.psql(
            "postgres",
            &format!("ALTER SYSTEM SET default_transaction_read_only = {on}; "),
        );
        plant.server.restart();
    };
    read_only("on");
    plant
        .until(&instance(), "read-only", |found| {
            reason(found, "Reachable") == "ServerReadOnly"
        })
        .await;
    plant.apply(ORDERS).await;
    plant
        .until(&orders(), "waiting", |found| {
            is_condition(found, "Placed", "False")
        })
        .await;
    plant.server.psql(
        "postgres",
        "SET default_transaction_read_only = off; ALTER SYSTEM RESET default_transaction_read_only",
    );
    plant.server.restart();
    plant.ready(&orders()).await;
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_admin_password_is_said_and_picked_up_from_its_file() {
    let plant = Plant::start().await;
    let admin = plant.server.create_managed_admin();
    let file = plant.directory.path().join("pg-password");
    std::fs::write(&file, &admin.password).expect("writable");
    let manifests = plant.platform("").replace(
        &format!("username: {}", plant.server.superuser()),
        &format!("username: {}", admin.name),
    );
    plant.apply(&manifests).await;
    plant.apply(ORDERS).await;
    plant.ready(&orders()).await;
    plant.server.psql(
        "postgres",
        "ALTER ROLE managed_admin PASSWORD 'changed'; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'managed_admin'",
    );
    let refused = plant
        .until(&instance(), "refused", |found| {
            reason(found, "Reachable") == "AdminLoginRefused"
        })
        .await;
    let said = condition(&refused, "Reachable").expect("a condition");
    assert!(
        said["message"]
            .as_str()
            .is_some_and(|m| m.contains("secret")),
        "it says where to look: {said}"
    );
    std::fs::write(&file, "changed").expect("writable");
    plant.ready(&instance()).await;
    plant.ready(&orders()).await;
    plant.stop().await;
}

/// Everything that a stranger could have changed on a server, as text.
fn catalog(server: &Server, login: &Login) -> String {
    let seen = server.psql_as(
        login,
        "postgres",
        "SELECT datname, datdba::regrole, datacl::text, datconnlimit FROM pg_database ORDER BY 1; \
         SELECT rolname, rolcanlogin, rolconnlimit, rolpassword FROM pg_authid ORDER BY 1; \
         SELECT name, epoch, actor, state, server FROM freehold.registry ORDER BY 1",
    );
    seen.expect("a catalog")
}

/// Everything of a server in SQL, as a logical backup holds it.
fn dump(server: &Server, with: &Server) -> String {
    let dumped = std::process::Command::new(with.bin_dir().join("pg_dumpall"))
        .args(["-h", server.host(), "-p", &server.port().to_string()])
        .args(["-U", server.superuser()])
        .env("PGPASSWORD", server.superuser_password())
        .output()
        .expect("pg_dumpall runs");
    assert!(dumped.status.success(), "{dumped:?}");
    let text = String::from_utf8(dumped.stdout).expect("text");
    let own = format!("ROLE {}", server.superuser());
    let lines = text.lines().filter(|line| !line.contains(&own));
    lines.collect::<Vec<_>>().join("\n")
}

/// Answers on a port for another server, as after an address was given away.
async fn answer_instead(port: u16, other: u16) -> tokio::task::JoinHandle<()> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await;
    let listener = listener.expect("the port is free");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let server = tokio::net::TcpStream::connect(("127.0.0.1", other)).await;
                if let Ok(mut server) = server {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_copy_at_the_servers_address_is_left_as_it_is() {
    // Servers of one version are copies of one template and have its identity.
    let other = Server::versions().into_iter().next().expect("installed");
    let plant = Plant::start_on(Server::start_version(other), Setup::default()).await;
    plant.provisioned(ORDERS).await;
    let copy = Server::start();
    assert_ne!(copy.version(), other, "two versions are installed");
    copy.psql("postgres", &dump(&plant.server, &copy));
    let password = plant.server.superuser_password();
    copy.psql(
        "postgres",
        &format!("ALTER ROLE {} PASSWORD '{password}'", copy.superuser()),
    );
    let copy_login = Login {
        name: copy.superuser().to_owned(),
        password: password.to_owned(),
    };
    let changed = "GRANT CONNECT ON DATABASE shop_orders TO PUBLIC";
    copy.psql_as(&copy_login, "postgres", changed)
        .expect("granted");
    let seen = || catalog(&copy, &copy_login);
    let before = seen();
    assert!(before.contains("shop_orders"), "the stamps came with it");
    plant.server.stop(StopMode::Fast);
    let answering = answer_instead(plant.server.port(), copy.port()).await;
    for (key, kind) in [(orders(), "Ready"), (instance(), "Reachable")] {
        plant
            .until(&key, "refused", |found| {
                reason(found, kind) == "ServerMismatch"
            })
            .await;
    }
    // Nor does a change of what is declared reach it.
    let more = ORDERS.replace("class: standard", "class: standard\n  schemas: [stock]");
    plant.apply(&more).await;
    plant
        .until(&orders(), "refused again", |found| {
            condition(found, "Ready")
                .is_some_and(|c| c["reason"] == "ServerMismatch" && c["observedGeneration"] == 2)
        })
        .await;
    assert_eq!(before, seen(), "nothing was changed on the copy");
    answering.abort();
    let _ = answering.await;
    plant.server.restart();
    plant.ready(&instance()).await;
    plant.ready(&orders()).await;
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_registered_beside_its_original_keeps_its_databases_as_they_are() {
    let plant = Plant::start().await;
    plant.provisioned(ORDERS).await;
    let clone = plant.server.clone_files();
    clone.psql(
        "postgres",
        "GRANT CONNECT ON DATABASE shop_orders TO PUBLIC",
    );
    let login = clone.superuser_login();
    let before = catalog(&clone, &login);
    let second = plant
        .platform_at(clone.port(), "")
        .replace("name: pg-1", "name: pg-clone");
    plant.apply(&second).await;
    plant
        .until(
            &key(Kind::Instance, None, "pg-clone"),
            "known for a copy",
            |found| reason(found, "Ready") == "SameServer",
        )
        .await;
    let more = ORDERS.replace("class: standard", "class: standard\n  schemas: [stock]");
    plant.apply(&more).await;
    eventually("the original has the new schema", || async {
        let there = "SELECT count(*) FROM pg_namespace WHERE nspname = 'stock'";
        plant.server.psql("shop_orders", there).trim() == "1"
    })
    .await;
    assert_eq!(before, catalog(&clone, &login));
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_exists_and_is_not_ours_is_refused_with_a_way_out() {
    let plant = Plant::start().await;
    plant.server.psql("postgres", "CREATE DATABASE shop_orders");
    plant
        .server
        .psql("shop_orders", "CREATE TABLE theirs (id int)");
    let before = plant.server.psql(
        "postgres",
        "SELECT datacl::text, datdba FROM pg_database WHERE datname = 'shop_orders'",
    );
    plant.apply(&plant.platform("")).await;
    let report = plant.apply(ORDERS).await;
    let operation = report.applied[0].operation.expect("an operation");
    let found = plant
        .until(&orders(), "refused", |found| {
            reason(found, "Provisioned") == "NameTaken"
        })
        .await;
    let said = condition(&found, "Ready").expect("a condition");
    assert!(
        said["message"]
            .as_str()
            .is_some_and(|m| m.contains("Rename")),
        "{said}"
    );
    let after = plant.server.psql(
        "postgres",
        "SELECT datacl::text, datdba FROM pg_database WHERE datname = 'shop_orders'",
    );
    assert_eq!(before, after);
    // The way out: the other one goes elsewhere, and the operation goes on.
    plant.ended(operation).await;
    plant.server.psql(
        "postgres",
        "ALTER DATABASE shop_orders RENAME TO legacy_orders",
    );
    plant
        .control
        .operation_resume(&plant.admin, operation)
        .await
        .expect("resumed");
    plant.ready(&orders()).await;
    let theirs = plant
        .server
        .psql("legacy_orders", "SELECT count(*) FROM theirs");
    assert_eq!(theirs.trim(), "0");
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_grants_does_not_keep_an_access_from_being_closed() {
    let plant = Plant::start().await;
    plant.provisioned(ORDERS).await;
    plant.server.psql(
        "shop_orders",
        "SET ROLE shop_orders_owner; CREATE TABLE items (id int); RESET ROLE; \
         CREATE ROLE stormy LOGIN PASSWORD 'x'; GRANT shop_orders_owner TO stormy; \
         GRANT CONNECT ON DATABASE shop_orders TO stormy",
    );
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let storm: Vec<_> = (0..2)
        .map(|_| {
            let (port, stop) = (plant.server.port(), stop.clone());
            let login = plant.server.superuser_login();
            std::thread::spawn(move || {
                let some = "SET ROLE shop_orders_owner; GRANT SELECT ON items TO PUBLIC; \
                            REVOKE SELECT ON items FROM PUBLIC; "
                    .repeat(50);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    // They fail one another; that is the storm.
                    let _ = psql(port, &login, "shop_orders", &some);
                }
            })
        })
        .collect();
    plant
        .apply(&ORDERS.replace("[{workload: api, level: readWrite}]", "[]"))
        .await;
    let access = key(Kind::Access, Some("shop"), "orders-api");
    eventually("the access is gone", || async {
        let found = plant.control.resource_get(&plant.admin, &access).await;
        found.is_err()
    })
    .await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for one in storm {
        one.join().expect("no panic");
    }
    let open =
        "SELECT count(*) FROM pg_roles WHERE rolcanlogin AND rolname LIKE 'shop_orders-api%'";
    assert_eq!(plant.server.psql("postgres", open).trim(), "0");
    plant.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_server_ends_with_its_instance_and_keeps_its_files() {
    let plant = Plant::start().await;
    let local = r"
apiVersion: freehold.dev/v1alpha1
kind: Instance
metadata: {name: own}
spec:
  engine: postgres
  local: {}
";
    plant.apply(&plant.platform("")).await;
    plant.apply(local).await;
    let own = key(Kind::Instance, None, "own");
    let made = plant.ready(&own).await;
    let uid = made.metadata.uid.expect("a uid").to_string();
    let data = plant
        .directory
        .path()
        .join("data/instances")
        .join(uid)
        .join("data");
    assert!(data.join("postmaster.pid").exists(), "it runs");
    let deleted = plant.control.resource_delete(&plant.admin, &own).await;
    deleted.expect("nothing is on it");
    eventually("the server is stopped", || async {
        !data.join("postmaster.pid").exists()
    })
    .await;
    assert!(data.join("PG_VERSION").exists(), "its files are there");
    plant.stop().await;
}
