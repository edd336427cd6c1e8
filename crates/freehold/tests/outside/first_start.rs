//! A new user's first hour, and what every exit code stands for.

use std::{
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    process::Stdio,
};

use crate::plant::{Lines, Plant, database, said, signal};

#[test]
fn from_an_empty_directory_to_a_program_with_its_database() {
    let plant = Plant::new();
    let serving = plant.serve("data", &[]);
    for (file, mode) in [("data/bootstrap-token", 0o600), ("data/key", 0o600)] {
        let found = plant.path(file).metadata().unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{file}");
    }
    let token = plant.path("data/bootstrap-token");
    let login = ["login", "--server", &serving.url, "--token-file"];
    let login = [&login[..], &[token.to_str().unwrap(), "--team", "shop"]].concat();
    let told = said(&mut plant.command(&login)).ok();
    assert!(told.contains("logged in as admin"), "{told}");

    plant.apply(&serving, &plant.platform());
    plant.apply(&serving, &database("orders"));
    // From here the saved context alone says where and who.
    let mine = |arguments: &[&str]| said(&mut plant.command(arguments));
    let found = mine(&["get", "db", "orders", "-o", "json"]).json();
    assert_eq!(found["metadata"]["name"], "orders");
    let table = mine(&["get", "databases"]).ok();
    assert!(table.contains("orders"), "{table}");

    let psql = ["run", "orders", "--", "psql", "-XAtc", "SELECT 1 + 1"];
    assert_eq!(mine(&psql).ok().trim(), "2");
    assert_eq!(
        mine(&["run", "orders", "--", "sh", "-c", "exit 37"]).code(),
        37
    );
    let killed = mine(&["run", "orders", "--", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(killed.status.signal(), Some(15), "{killed:?}");

    // The program takes the command's place: it gets the signals itself.
    let script = "trap 'kill $!; exit 41' USR1; sleep 600 & echo up; wait";
    let mut child = plant
        .command(&["run", "orders", "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    Lines::of(child.stdout.take().unwrap()).wait_for("up");
    signal(child.id(), "USR1");
    assert_eq!(child.wait().unwrap().code(), Some(41));
    serving.stop();
}

#[test]
fn each_exit_code_means_what_the_page_says() {
    let (plant, serving) = Plant::furnished();
    let code = |arguments: &[&str]| {
        let said = plant.ask(&serving, arguments);
        (said.code(), format!("{said:?}"))
    };
    let expect = |expected: i32, arguments: &[&str]| {
        let (found, said) = code(arguments);
        assert_eq!(found, expected, "{arguments:?}: {said}");
    };
    expect(0, &["get", "db", "orders"]);
    expect(2, &["get"]);
    expect(3, &["get", "db", "absent"]);
    expect(3, &["run", "orders", "--", "no-such-program"]);
    // The world forbids it: a team that is still used.
    expect(4, &["delete", "team", "shop", "--yes"]);

    let differs = database("orders") + "  deletionPolicy: Retain\n";
    let file = plant.write("differs.yaml", &differs);
    expect(1, &["diff", "-f", file.to_str().unwrap(), "--exit-code"]);
    let other = [
        "apply",
        "-f",
        file.to_str().unwrap(),
        "--field-manager",
        "ci",
    ];
    expect(0, &other);
    let back = plant.write("back.yaml", &differs.replace("Retain", "Quarantine"));
    let (found, told) = code(&["apply", "-f", back.to_str().unwrap()]);
    assert_eq!(found, 5, "a field of another manager: {told}");

    // A viewer may look and not change; a token that is no token may nothing.
    let file = plant.path("vic-token");
    let made = ["token", "create", "vic", "--to", file.to_str().unwrap()];
    plant.ask(&serving, &made).ok();
    let vic = |arguments: &[&str]| {
        let mut command = plant.client(&serving, arguments);
        said(command.env("FREEHOLD_TOKEN_FILE", &file)).code()
    };
    assert_eq!(vic(&["get", "db", "orders"]), 0);
    assert_eq!(vic(&["delete", "db", "orders", "--yes"]), 4);
    let mut wrong = plant.client(&serving, &["get", "db"]);
    wrong.env_remove("FREEHOLD_TOKEN_FILE");
    assert_eq!(said(wrong.env("FREEHOLD_TOKEN", "fh_no_no")).code(), 4);

    // A failing script is 1, and so is the operation that ran it.
    plant.write("bad/V1__bad.sql", "SELECT no_such_column;\n");
    let (found, told) = code(&["migrate", "apply", "orders", "--dir", "bad"]);
    assert_eq!(found, 1, "{told}");
    assert!(told.contains("V1__bad.sql"), "{told}");

    let url = serving.url.clone();
    serving.stop();
    let mut gone = plant.command(&["get", "db", "--server", &url]);
    gone.env("FREEHOLD_TOKEN_FILE", plant.path("data/bootstrap-token"));
    assert_eq!(said(&mut gone).code(), 6);
}
