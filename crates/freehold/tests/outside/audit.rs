//! The log, verified by somebody who has a file and no server.

use std::fs;

use crate::plant::{Plant, database, said, until};

#[test]
fn an_export_is_verified_offline_and_any_tampering_is_located() {
    let (plant, serving) = Plant::furnished();
    let file = |name: &str| plant.path(name).to_str().unwrap().to_owned();
    let export = |name: &str| {
        plant
            .ask(&serving, &["audit", "export", "--to", &file(name)])
            .ok()
    };
    export("early.jsonl");
    let early = fs::read_to_string(plant.path("early.jsonl")).unwrap();
    plant.apply(&serving, &database("second"));
    // The checkpoint that somebody keeps covers what the early export does not have.
    until("the later entries are in the log", || {
        export("late.jsonl");
        let late = fs::read_to_string(plant.path("late.jsonl")).unwrap();
        (late.contains("second") && late.len() > early.len()).then_some(())
    });
    plant
        .ask(&serving, &["audit", "checkpoint", "--to", &file("kept")])
        .ok();
    export("last.jsonl");
    serving.stop();

    let verify = |export: &str, more: &[&str]| {
        let arguments = [&["audit", "verify", export], more].concat();
        said(&mut plant.command(&arguments))
    };
    let sound = verify(&file("last.jsonl"), &["--checkpoint", &file("kept")]).ok();
    assert!(sound.starts_with("sound\n"), "{sound}");

    // Every line in turn with one word changed: found, and its place told.
    let text = fs::read_to_string(plant.path("last.jsonl")).unwrap();
    let line = text
        .lines()
        .position(|line| line.contains("second"))
        .unwrap();
    let tampered: Vec<String> = text
        .lines()
        .enumerate()
        .map(|(number, content)| match number == line {
            true => content.replacen("second", "hidden", 1),
            false => content.to_owned(),
        })
        .collect();
    fs::write(plant.path("tampered.jsonl"), tampered.join("\n") + "\n").unwrap();
    let found = verify(&file("tampered.jsonl"), &[]);
    assert_eq!(found.code(), 1, "{found:?}");
    let place = format!("line {}", line + 1);
    assert!(
        found.out.starts_with("NOT SOUND") && found.out.contains(&place),
        "{place} is not named: {}",
        found.out
    );

    // A log cut off at its end is whole by itself, and too short for the kept checkpoint.
    verify(&file("early.jsonl"), &[]).ok();
    let cut = verify(&file("early.jsonl"), &["--checkpoint", &file("kept")]);
    assert_eq!(cut.code(), 1, "{cut:?}");
    assert!(cut.out.starts_with("NOT SOUND"), "{}", cut.out);
}
