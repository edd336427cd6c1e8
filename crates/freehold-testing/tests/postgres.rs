//! A throwaway server does what its documentation says.

use freehold_testing::postgres::{Server, StopMode};

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
