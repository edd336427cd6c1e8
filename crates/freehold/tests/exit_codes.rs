//! The built program: exit codes, quiet pipes, and what a person sees without a server.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

fn freehold(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freehold"));
    command
        .args(arguments)
        .env_clear()
        .env("HOME", home)
        .env("XDG_DATA_HOME", home.join("data"))
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null());
    command
}

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let home = tempfile::tempdir().unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = freehold(home.path(), arguments)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    (
        status.code().unwrap(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

/// A loopback port that nothing listens on: taken once and given back.
fn silent_server() -> (tokio::net::TcpSocket, String) {
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = format!("http://{}", taken.local_addr().unwrap());
    (taken, address)
}

#[test]
fn wrong_usage_is_2() {
    for arguments in [
        &["nonsense"][..],
        &["get", "tables"],
        &["get", "db", "--env", "Not A Name"],
        &["run", "orders"],
        &["get", "db", "--config", "/nowhere.toml"],
    ] {
        let (code, out, err) = run(arguments, &[]);
        assert_eq!(code, 2, "{arguments:?}: {out}{err}");
        assert!(out.is_empty(), "{arguments:?} wrote a result: {out}");
    }
}

#[test]
fn without_a_token_one_is_refused_with_4() {
    let (code, _, err) = run(&["get", "teams"], &[]);
    assert_eq!(code, 4);
    assert!(
        err.contains("not logged in") && err.contains("hint: "),
        "{err}"
    );
}

#[test]
fn no_server_is_6_and_says_what_to_do() {
    let (_taken, server) = silent_server();
    let variables = [
        ("FREEHOLD_TOKEN", "x"),
        ("FREEHOLD_SERVER", server.as_str()),
    ];
    let (code, out, err) = run(&["get", "teams"], &variables);
    assert_eq!((code, out.as_str()), (6, ""), "{err}");
    assert!(
        err.starts_with(&format!("error: nothing answers at {server}\n")),
        "{err}"
    );
    assert!(err.contains("hint: Is `freehold serve` running?"), "{err}");
    assert!(!err.contains('\u{1b}'), "colour away from a terminal");
}

#[test]
fn doctor_finds_that_no_server_answers_and_fails() {
    let (_taken, server) = silent_server();
    let (code, out, err) = run(&["doctor", "--server", &server], &[]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("WRONG  server: nothing answers"), "{out}");
    assert!(out.contains("hint: Is `freehold serve` running?"), "{out}");
}

#[test]
fn doctor_finds_a_broken_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.toml");
    std::fs::write(&path, "[server]\nlisten = '127.0.0.1:1'\ntsl = {}\n").unwrap();
    let (code, out, _) = run(&["doctor", "--config", path.to_str().unwrap()], &[]);
    assert_eq!(code, 1);
    assert!(
        out.contains("f.toml:3: there is no key `server.tsl`"),
        "{out}"
    );
}

#[test]
fn doctor_finds_another_program_on_the_port() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    // Accepts and hangs up, as many programs do with what they do not understand.
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            drop(stream);
        }
    });
    let (code, out, _) = run(&["doctor", "--server", &address], &[]);
    assert_eq!(code, 1);
    assert!(
        out.contains("another program than Freehold answers"),
        "{out}"
    );
}

#[test]
fn a_file_that_is_not_there_is_3_and_a_bad_export_is_1() {
    let (code, _, err) = run(&["audit", "verify", "/nowhere"], &[]);
    assert_eq!(code, 3, "{err}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    std::fs::write(&path, "not a log\n").unwrap();
    let (code, out, _) = run(&["audit", "verify", path.to_str().unwrap()], &[]);
    assert_eq!(code, 1);
    assert!(out.starts_with("NOT SOUND"), "{out}");
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let home = tempfile::tempdir().unwrap();
    let mut child = freehold(home.path(), &["completion", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn a_new_migration_is_named_after_the_ones_that_are_there() {
    let home = tempfile::tempdir().unwrap();
    let new = |words: &[&str]| {
        let arguments = [&["migrate", "new", "--dir", "m"], words].concat();
        let output = freehold(home.path(), &arguments)
            .current_dir(home.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(new(&["create", "orders"]), "m/V1__create_orders.sql");
    assert_eq!(new(&["add email"]), "m/V2__add_email.sql");
    assert!(home.path().join("m/V2__add_email.sql").is_file());
}

/// Scripts and containers unset a variable by leaving it empty.
#[test]
fn an_empty_variable_is_an_unset_one() {
    let (_taken, server) = silent_server();
    let variables = [
        "FREEHOLD_TOKEN_FILE",
        "FREEHOLD_CA",
        "FREEHOLD_CONFIG",
        "FREEHOLD_CONTEXT",
        "FREEHOLD_ENV",
        "FREEHOLD_TEAM",
        "FREEHOLD_OUTPUT",
    ];
    for variable in variables {
        let settings = [
            (variable, ""),
            ("FREEHOLD_SERVER", &server),
            ("FREEHOLD_TOKEN", "t"),
        ];
        // It gets as far as the server, which is not there.
        let (code, out, err) = run(&["get", "environments"], &settings);
        assert_eq!(code, 6, "{variable}: {out}{err}");
        assert!(!err.contains(variable), "{err}");
    }
    // An empty flag is somebody's mistake.
    let (code, _, err) = run(&["get", "environments", "--token-file", ""], &[]);
    assert_eq!(code, 2, "{err}");
}
