//! A throwaway Redis server does what its documentation says.

use std::path::Path;
use std::time::{Duration, Instant};

use freehold_testing::redis::{Accounts, Server};

fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_some_and(|rest| !rest.starts_with('Z'))
}

#[test]
fn a_server_answers_and_is_gone_after_drop() {
    let server = Server::start();
    assert_eq!(server.run(&["PING"]), "PONG");
    let (pid, home) = (server.pid().expect("it runs"), server.data_dir());
    assert!(runs(pid) && home.exists());
    drop(server);
    assert!(!runs(pid) && !home.exists());
}

#[test]
fn a_panicking_test_leaves_nothing() {
    let (tell, told) = std::sync::mpsc::channel();
    let panicked = std::thread::spawn(move || {
        let server = Server::start();
        tell.send((server.pid().expect("it runs"), server.data_dir()))
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
    let mut owner = std::process::Command::new(env!("CARGO_BIN_EXE_throwaway-redis"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it was built");
    let mut lines = std::io::BufReader::new(owner.stdout.take().expect("piped")).lines();
    let mut line = || lines.next().expect("it tells three").expect("text");
    let (home, pid) = (line(), line());
    let pid: u32 = pid.parse().expect("a process id");
    assert!(line().starts_with("redis://"));
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
fn data_and_accounts_survive_a_restart_and_can_be_lost_apart() {
    for accounts in [Accounts::InAclFile, Accounts::InConfiguration] {
        let server = Server::builder().accounts(accounts).start();
        server.run(&["SET", "k", "v"]);
        server.run(&["ACL", "SETUSER", "more", "on"]);
        match accounts {
            Accounts::InAclFile => server.run(&["ACL", "SAVE"]),
            _ => server.run(&["CONFIG", "REWRITE"]),
        };
        assert!(server.kept_accounts().contains("user more"));
        server.restart();
        assert_eq!(server.run(&["GET", "k"]), "v");
        assert!(server.run(&["ACL", "USERS"]).contains("more"));
        server.restart_without_accounts();
        assert_eq!(server.run(&["GET", "k"]), "v");
        assert!(!server.run(&["ACL", "USERS"]).contains("more"));
        server.restart_without_data();
        assert_eq!(server.run(&["GET", "k"]), "");
    }
}

#[test]
fn a_server_may_keep_nothing_but_data() {
    let server = Server::builder().accounts(Accounts::Nowhere).start();
    assert_eq!(server.run(&["ACL", "WHOAMI"]), "default");
    let mut wrong = server.admin_login();
    wrong.password.push('x');
    server.run_as(&wrong, &["PING"]).expect_err("refused");
}

#[test]
fn a_clone_has_the_data_and_is_apart() {
    let server = Server::start();
    server.run(&["SET", "k", "v"]);
    server.run(&["ACL", "SETUSER", "more", "on"]);
    server.run(&["ACL", "SAVE"]);
    server.stop();
    let clone = server.clone_files();
    assert_eq!(clone.run(&["GET", "k"]), "v");
    assert!(clone.run(&["ACL", "USERS"]).contains("more"));
    clone.run(&["DEL", "k"]);
    server.restart();
    assert_eq!(server.run(&["GET", "k"]), "v");
}

#[test]
fn a_paused_server_answers_after_it_was_resumed() {
    let server = Server::start();
    server.pause();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| server.run(&["PING"]));
        assert!(!asking.is_finished());
        server.resume();
        assert_eq!(asking.join().expect("answered"), "PONG");
    });
}
