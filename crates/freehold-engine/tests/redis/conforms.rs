//! The contract of every engine, wherever the server keeps its accounts.

use freehold_engine::conformance;
use freehold_model::Secret;
use freehold_testing::redis::{Accounts, Login, Server, run_as};

use crate::world::World;

struct Probe(u16);

impl conformance::LoginProbe for Probe {
    async fn can_log_in(&self, database: &str, login: &str, password: &Secret) -> bool {
        let login = Login {
            name: login.into(),
            password: password.expose().into(),
        };
        let key = format!("{database}:probe");
        run_as(self.0, &login, &["SET", &key, "1"]).is_ok()
    }
}

#[tokio::test]
async fn redis_conforms_with_an_acl_file() {
    let world = World::start();
    conformance::check(&world.engine, &Probe(world.server.port())).await;
}

#[tokio::test]
async fn redis_conforms_with_accounts_in_its_configuration() {
    let server = Server::builder()
        .accounts(Accounts::InConfiguration)
        .setting("acl-pubsub-default", "allchannels")
        .start();
    let world = World::around(server);
    conformance::check(&world.engine, &Probe(world.server.port())).await;
}
