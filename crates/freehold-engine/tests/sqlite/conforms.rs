//! The contract of every engine.

use std::path::PathBuf;

use freehold_engine::{conformance, sqlite::SqliteEngine};
use freehold_model::Secret;

use crate::world::{World, program};

struct Probe(PathBuf);

impl conformance::LoginProbe for Probe {
    async fn can_log_in(&self, database: &str, _login: &str, _password: &Secret) -> bool {
        let file = SqliteEngine::file_of(&self.0, database).expect("a name");
        program(&file).is_ok()
    }
}

#[tokio::test]
async fn sqlite_conforms() {
    let world = World::start();
    conformance::check(&world.engine, &Probe(world.directory.clone())).await;
}
