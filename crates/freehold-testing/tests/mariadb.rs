//! A throwaway MariaDB server does what its documentation says.

use std::path::Path;
use std::time::{Duration, Instant};

use freehold_testing::certificates::Authority;
use freehold_testing::mariadb::Server;

fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_some_and(|rest| !rest.starts_with('Z'))
}

#[test]
fn a_server_answers_and_is_gone_after_drop() {
    let server = Server::start();
    assert_eq!(server.sql("SELECT 1 + 1"), "2");
    let (pid, home) = (
        server.pid().expect("it runs"),
        server.socket_dir().to_owned(),
    );
    assert!(runs(pid) && home.exists());
    drop(server);
    assert!(!runs(pid) && !home.exists());
}

#[test]
fn a_second_server_starts_quickly() {
    drop(Server::start());
    let began = Instant::now();
    let server = Server::start();
    assert_eq!(server.sql("SELECT 1"), "1");
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_panicking_test_leaves_nothing() {
    let (tell, told) = std::sync::mpsc::channel();
    let panicked = std::thread::spawn(move || {
        let server = Server::start();
        tell.send((
            server.pid().expect("it runs"),
            server.socket_dir().to_owned(),
        ))
        .expect("somebody listens");
        panic!("on purpose");
    });
    let (pid, home) = told.recv().expect("it started");
    panicked.join().expect_err("it panicked");
    assert!(!runs(pid) && !home.exists());
}

/// The owner dies in a way that it cannot answer to.
#[test]
fn a_killed_owner_takes_server_and_files_with_it() {
    use std::io::BufRead as _;
    let mut owner = std::process::Command::new(env!("CARGO_BIN_EXE_throwaway-mariadb"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it was built");
    let mut lines = std::io::BufReader::new(owner.stdout.take().expect("piped")).lines();
    let mut line = || lines.next().expect("it tells three").expect("text");
    let (home, pid) = (line(), line());
    let pid: u32 = pid.parse().expect("a process id");
    assert!(line().starts_with("mysql://"));
    owner.kill().expect("it is ours");
    owner.wait().expect("it is ours");
    let deadline = Instant::now() + Duration::from_secs(60);
    while runs(pid) || Path::new(&home).exists() {
        assert!(
            Instant::now() < deadline,
            "server and files outlive their owner"
        );
        std::thread::yield_now();
    }
}

#[test]
fn committed_data_survives_a_kill_and_a_restart() {
    let server = Server::start();
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (i int); INSERT INTO d.t VALUES (7)");
    server.kill9();
    assert_eq!(server.pid(), None);
    server.restart();
    assert_eq!(server.sql("SELECT i FROM d.t"), "7");
}

#[test]
fn a_clone_has_the_data_and_another_identity() {
    let server = Server::start();
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (i int); INSERT INTO d.t VALUES (7)");
    let clone = server.clone_files();
    assert_eq!(clone.sql("SELECT i FROM d.t"), "7");
    clone.sql("DELETE FROM d.t");
    assert_eq!(server.sql("SELECT i FROM d.t"), "7");
    let identity = "SELECT @@server_uid";
    assert_ne!(server.sql(identity), clone.sql(identity));
}

#[test]
fn a_paused_server_answers_after_it_was_resumed() {
    let server = Server::start();
    server.pause();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| server.sql("SELECT 1"));
        assert!(!asking.is_finished());
        server.resume();
        assert_eq!(asking.join().expect("answered"), "1");
    });
}

#[test]
fn settings_and_accounts_are_as_asked() {
    let authority = Authority::new("the test's authority");
    let server = Server::builder()
        .setting("sql_mode", "ANSI_QUOTES")
        .tls(&authority.certificate(&["127.0.0.1"]))
        .start();
    assert_eq!(
        server.sql("SELECT @@GLOBAL.sql_mode, @@have_ssl"),
        "ANSI_QUOTES\tYES"
    );
    let admin = server.create_managed_admin("CONNECTION ADMIN");
    let grants = server.sql_as(&admin, "", "SHOW GRANTS").expect("its own");
    assert!(
        !grants.contains("SUPER") && grants.contains("CONNECTION ADMIN"),
        "{grants}"
    );
    let mut wrong = admin;
    wrong.password.push('x');
    let refused = server.sql_as(&wrong, "", "SELECT 1").expect_err("refused");
    assert!(refused.contains("1045"), "{refused}");
}
