//! The contract of every engine, for both kinds of admin and under every `sql_mode`.

use freehold_engine::{conformance, mariadb::MariadbSession};
use freehold_model::Secret;
use freehold_testing::mariadb::{Login, Server};

use crate::world::{As, World, target};

struct Probe(u16);

impl conformance::LoginProbe for Probe {
    async fn can_log_in(&self, database: &str, login: &str, password: &Secret) -> bool {
        let login = Login {
            name: login.into(),
            password: password.expose().into(),
        };
        let mut target = target(self.0, &login);
        target.database = database.into();
        MariadbSession::connect(&target).await.is_ok()
    }
}

#[tokio::test]
async fn mariadb_conforms() {
    for admin in [As::Superuser, As::Managed] {
        let world = World::start(admin);
        conformance::check(&world.engine, &Probe(world.server.port())).await;
    }
}

#[tokio::test]
async fn mariadb_conforms_whatever_the_servers_sql_mode() {
    for mode in [
        "",
        "ANSI",
        "ORACLE",
        "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT",
        "STRICT_ALL_TABLES,NO_ZERO_DATE,ONLY_FULL_GROUP_BY,PAD_CHAR_TO_FULL_LENGTH",
    ] {
        let server = Server::with_settings(&[("sql_mode", mode), ("autocommit", "0")]);
        let world = World::around(server, As::Superuser);
        conformance::check(&world.engine, &Probe(world.server.port())).await;
    }
}
