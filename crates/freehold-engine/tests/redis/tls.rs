//! Servers that speak TLS, and those that do not, by each way of asking.

use std::sync::Arc;

use freehold_engine::{EngineError, EngineHandle, Fault, Tls, redis::RedisEngine};
use freehold_model::SystemEntropy;
use freehold_testing::{certificates::Authority, redis::Server};

use crate::world::target;

async fn try_with(server: &Server, host: &str, tls: Tls) -> Result<(), EngineError> {
    let mut target = target(server.port(), &server.admin_login());
    target.host = host.into();
    target.tls = tls;
    let engine = EngineHandle::new(RedisEngine::new(target, Arc::new(SystemEntropy)));
    engine.inspect().await.map(|_| ())
}

fn checked(authority: &Authority) -> Tls {
    Tls::VerifyFull {
        ca_pem: Some(authority.pem()),
    }
}

#[tokio::test]
async fn a_certificate_is_checked_when_it_shall_be() {
    let authority = Authority::new("the test's authority");
    let server = Server::builder()
        .tls(&authority.certificate(&["127.0.0.1"]))
        .start();
    try_with(&server, "127.0.0.1", checked(&authority))
        .await
        .expect("it is the one");
    try_with(&server, "127.0.0.1", Tls::Prefer)
        .await
        .expect("it is encrypted");
    let stranger = Authority::new("somebody else");
    for (host, tls, why) in [
        ("127.0.0.1", checked(&stranger), "`ca`"),
        ("localhost", checked(&authority), "`host`"),
    ] {
        let error = try_with(&server, host, tls).await.expect_err(why);
        let told = matches!(&error.fault, Fault::Unreachable { detail } if detail.contains(why));
        assert!(told, "{error}");
    }
    try_with(&server, "127.0.0.1", Tls::Disable)
        .await
        .expect_err("it speaks TLS only");
}

#[tokio::test]
async fn a_server_without_tls_is_used_only_when_that_is_allowed() {
    let server = Server::start();
    try_with(&server, "127.0.0.1", Tls::Prefer)
        .await
        .expect("plain, because there is nothing better");
    let authority = Authority::new("the test's authority");
    let error = try_with(&server, "127.0.0.1", checked(&authority))
        .await
        .expect_err("there is no TLS");
    let told = matches!(&error.fault, Fault::Unreachable { detail } if detail.contains("tls-port"));
    assert!(told, "{error}");
}
