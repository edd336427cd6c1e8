//! A pooler lets in the logins of its server, also those made after it started.

use freehold_testing::pgbouncer::Bouncer;
use freehold_testing::postgres::{Login, Server, psql};

#[test]
fn a_login_of_the_server_works_through_the_pooler() {
    let server = Server::start();
    let bouncer = Bouncer::start(&server);
    server.psql(
        "postgres",
        "CREATE ROLE app LOGIN PASSWORD 'secret'; CREATE DATABASE shop OWNER app",
    );
    let app = Login {
        name: "app".into(),
        password: "secret".into(),
    };
    let answer = psql(
        bouncer.port(),
        &app,
        "shop",
        "SELECT current_user, current_database()",
    );
    assert_eq!(answer.as_deref(), Ok("app|shop"));
    let wrong = Login {
        password: "wrong".into(),
        ..app
    };
    assert!(psql(bouncer.port(), &wrong, "shop", "SELECT 1").is_err());
    let settings = psql(
        bouncer.port(),
        &server.superuser_login(),
        "pgbouncer",
        "SHOW CONFIG",
    );
    assert!(
        settings
            .as_ref()
            .is_ok_and(|text| text.contains("pool_mode|transaction")),
        "{settings:?}"
    );
}
