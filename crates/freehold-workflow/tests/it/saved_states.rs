//! The check that saved states of former releases still load, on the toy operation.

use std::{fs, path::Path, sync::Arc};

use freehold_workflow::saved;

use crate::toy::{Flaw, Provision, Server};

fn provision() -> Provision {
    Provision {
        server: Arc::new(Server::default()),
        flaw: Flaw::None,
    }
}

#[test]
fn every_state_saved_so_far_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/saved/provision");
    saved::check(&provision(), &folder).unwrap();
}

#[test]
fn a_missing_a_broken_and_a_mistaken_state_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("ChooseName.json", "{ \"phase\": \"ChooseName\" }");
    write(
        "CreateRole.2025-01.json",
        "{ \"phase\": \"CreateRole\", \"role\": \"x\" }",
    );
    write(
        "RemoveRole.json",
        "{ \"phase\": \"CreateDatabase\", \"name\": \"x\" }",
    );
    let wrong = saved::check(&provision(), folder.path()).unwrap_err();
    let wrong = wrong.join("\n");
    assert!(
        wrong.contains("CreateRole.2025-01.json does not load any more: missing field `name`"),
        "{wrong}"
    );
    assert!(
        wrong.contains("RemoveRole.json is loaded as CreateDatabase, not as RemoveRole"),
        "{wrong}"
    );
    assert!(
        wrong.contains("CreateDatabase has no saved state"),
        "{wrong}"
    );
    assert!(wrong.contains("CreateRole has no saved state"), "{wrong}");
}
