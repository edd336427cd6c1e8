//! The contract of every engine, on every installed version, for both kinds of admin.

use freehold_engine::{conformance, postgres::PostgresSession};
use freehold_model::Secret;
use freehold_testing::postgres::{Login, Server};

use crate::world::{BOTH, World, target};

struct Probe(u16);

impl conformance::LoginProbe for Probe {
    async fn can_log_in(&self, database: &str, login: &str, password: &Secret) -> bool {
        let login = Login {
            name: login.into(),
            password: password.expose().into(),
        };
        let mut target = target(self.0, &login);
        target.database = database.into();
        PostgresSession::connect(&target).await.is_ok()
    }
}

#[tokio::test]
async fn postgres_conforms() {
    for version in Server::versions() {
        for admin in BOTH {
            let world = World::start(version, admin);
            conformance::check(&world.engine, &Probe(world.server.port())).await;
        }
    }
}
