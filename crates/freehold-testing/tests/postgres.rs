//! A throwaway server does what its documentation says.

use std::{fs, process::Command};

use freehold_testing::{
    certificates::Authority,
    postgres::{Server, StopMode},
};

#[test]
fn a_server_answers_and_is_gone_after_drop() {
    let server = Server::start();
    assert_eq!(server.psql("postgres", "SELECT 1 + 1"), "2");
    let pid = server.pid().expect("it runs");
    let home = server.socket_dir().to_owned();
    drop(server);
    assert!(!home.exists(), "its files are removed");
    assert!(
        !std::path::Path::new(&format!("/proc/{pid}")).exists(),
        "its process is gone"
    );
}

#[test]
fn settings_reach_the_server() {
    let server = Server::with_settings(&[("max_connections", "20"), ("cluster_name", "it's mine")]);
    assert_eq!(server.psql("postgres", "SHOW max_connections"), "20");
    assert_eq!(server.psql("postgres", "SHOW cluster_name"), "it's mine");
}

#[test]
fn committed_rows_survive_kill_and_restart_on_the_same_port() {
    let server = Server::start();
    let port = server.port();
    server.psql(
        "postgres",
        "CREATE TABLE t (n int); INSERT INTO t VALUES (7)",
    );
    server.kill9();
    assert!(!server.is_running());
    server.restart();
    assert_eq!(server.psql("postgres", "SELECT n FROM t"), "7");
    server.stop(StopMode::Fast);
    server.restart();
    assert_eq!(server.port(), port);
    assert_eq!(server.psql("postgres", "SELECT n FROM t"), "7");
}

#[test]
fn every_installed_version_starts() {
    let versions = Server::versions();
    assert!(!versions.is_empty());
    for major in versions {
        let server = Server::start_version(major);
        let number: u32 = server
            .psql("postgres", "SHOW server_version_num")
            .parse()
            .unwrap();
        assert_eq!(number / 10_000, major);
    }
}

#[test]
#[should_panic(expected = "`cargo xtask test`")]
fn a_version_that_is_missing_is_a_failure_that_says_what_to_do() {
    drop(Server::start_version(7));
}

#[test]
fn a_paused_server_answers_when_it_is_resumed() {
    let server = Server::start();
    server.pause();
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| server.psql("postgres", "SELECT 'awake'"));
        // The kernel accepts the connection; nobody reads from it. Only waiting can show silence.
        std::thread::sleep(std::time::Duration::from_millis(150));
        assert!(!answer.is_finished());
        server.resume();
        assert_eq!(answer.join().unwrap(), "awake");
    });
}

#[test]
fn a_paused_server_can_be_dropped() {
    let server = Server::start();
    let pid = server.pid().unwrap();
    server.pause();
    drop(server);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_clone_has_the_same_identity_and_a_life_of_its_own() {
    let server = Server::start();
    server.psql(
        "postgres",
        "CREATE TABLE t (n int); INSERT INTO t VALUES (1)",
    );
    let clone = server.clone_files();
    let identity = "SELECT system_identifier FROM pg_control_system()";
    assert_eq!(
        server.psql("postgres", identity),
        clone.psql("postgres", identity)
    );
    clone.psql("postgres", "INSERT INTO t VALUES (2)");
    assert_eq!(server.psql("postgres", "SELECT count(*) FROM t"), "1");
    assert_eq!(clone.psql("postgres", "SELECT count(*) FROM t"), "2");
}

#[test]
fn a_managed_admin_is_no_superuser() {
    let server = Server::start();
    let admin = server.create_managed_admin();
    server
        .psql_as(&admin, "postgres", "CREATE DATABASE mine")
        .unwrap();
    server
        .psql_as(&admin, "postgres", "CREATE ROLE somebody LOGIN")
        .unwrap();
    let refused = server
        .psql_as(&admin, "postgres", "ALTER SYSTEM SET work_mem = '1MB'")
        .unwrap_err();
    assert!(refused.contains("42501"), "{refused}");
}

#[test]
fn psql_reports_what_the_server_said() {
    let server = Server::start();
    let error = server
        .psql_as(
            &server.superuser_login(),
            "postgres",
            "SELECT 1/0; SELECT 2",
        )
        .unwrap_err();
    assert!(
        error.contains("22012") && error.contains("division by zero"),
        "{error}"
    );
    let wrong = freehold_testing::postgres::Login {
        password: "wrong".into(),
        ..server.superuser_login()
    };
    let error = server.psql_as(&wrong, "postgres", "SELECT 1").unwrap_err();
    assert!(error.contains("password authentication failed"), "{error}");
}

#[test]
fn the_log_and_the_url_are_usable() {
    let server = Server::with_settings(&[("log_statement", "all")]);
    server.psql("postgres", "SELECT 'find me'");
    assert!(server.log().contains("find me"));
    server.psql("postgres", "CREATE DATABASE \"odd name/with?signs\"");
    let url = server.url("odd name/with?signs");
    let output = std::process::Command::new("psql")
        .args(["-X", "-A", "-t", "-c", "SELECT current_database()", &url])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "odd name/with?signs"
    );
}

#[test]
fn a_server_that_takes_only_tls_refuses_plain_connections() {
    let authority = Authority::new("the test's authority");
    let server = Server::builder()
        .tls_only(&authority.certificate(&["127.0.0.1"]))
        .start();
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    // psql asks for TLS by itself.
    assert_eq!(server.psql("postgres", encrypted), "t");
    let plain = Command::new("psql")
        .args(["-X", "-c", "SELECT 1"])
        .arg(format!("{}?sslmode=disable", server.url("postgres")))
        .output()
        .expect("psql is installed");
    let said = String::from_utf8_lossy(&plain.stderr).into_owned();
    assert!(said.contains("no pg_hba.conf entry"), "{said}");
}

#[test]
fn a_server_with_tls_is_proven_by_its_authority_alone() {
    let authority = Authority::new("the test's authority");
    let server = Server::builder()
        .tls(&authority.certificate(&["127.0.0.1"]))
        .start();
    let directory = tempfile::tempdir().expect("there is room");
    let connect = |authority: &Authority| {
        let file = directory.path().join("ca.pem");
        fs::write(&file, authority.pem()).expect("the directory is ours");
        let parameters = format!("sslmode=verify-full&sslrootcert={}", file.display());
        let url = format!("{}?{parameters}", server.url("postgres"));
        let psql = Command::new("psql")
            .args(["-X", "-At", "-c", "SELECT 1", &url])
            .output()
            .expect("psql is installed");
        psql.status.success()
    };
    assert!(connect(&authority));
    assert!(!connect(&Authority::new("the test's authority")));
}
