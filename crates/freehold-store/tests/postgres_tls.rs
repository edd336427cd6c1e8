//! The store on a PostgreSQL server that takes TLS connections only.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use freehold_model::{Secret, SystemEntropy};
use freehold_store::{
    ErrorKind, PostgresConfig, PostgresStore, PostgresTls, StoreHandle,
    conformance::{BoxFuture, PROPERTIES, Subject},
};
use freehold_testing::{
    certificates::{Authority, Certificate},
    postgres::Server,
};

/// One property of each kind of call: what TLS could break is the bytes on the way, which are the
/// same for all the others.
const PROMISES: &[&str] = &[
    "values_are_kept_byte_for_byte",
    "a_large_batch_is_still_one_batch",
    "pages_neither_skip_nor_repeat_while_others_write",
    "no_update_is_lost_among_32_writers",
    "a_reconnecting_reader_misses_nothing_among_16_writers",
    "a_lease_is_exclusive_and_its_epoch_grows",
];

fn only_tls(certificate: &Certificate) -> Server {
    Server::builder().tls_only(certificate).start()
}

fn proven_by(server: &Server, authority: &Authority) -> PostgresConfig {
    let mut config =
        PostgresConfig::new(server.host(), server.port(), server.superuser(), "postgres");
    config.password = Some(Secret::new(server.superuser_password()));
    config.tls = PostgresTls::Verified {
        authorities: authority.pem(),
    };
    config
}

async fn connect(config: PostgresConfig) -> freehold_store::Result<PostgresStore> {
    PostgresStore::connect(config, Arc::new(SystemEntropy)).await
}

/// The words of a refusal. It is one of configuration, because trying again does not help.
async fn refusal(config: PostgresConfig) -> String {
    let error = connect(config).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error.to_string()
}

struct OverTls(PostgresConfig);

impl Subject for OverTls {
    fn open(&self) -> BoxFuture<'_, StoreHandle> {
        Box::pin(async { StoreHandle::new(connect(self.0.clone()).await.unwrap()) })
    }

    /// The server's clock is real, so time must really pass.
    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(time))
    }

    fn soon(&self) -> Duration {
        Duration::from_secs(3)
    }

    fn set_clock_back(&self, _: Duration) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_keeps_its_promises_over_tls_and_every_connection_is_encrypted() {
    let authority = Authority::new("ours");
    let server = only_tls(&authority.certificate(&["127.0.0.1"]));
    for (at, name) in PROMISES.iter().enumerate() {
        let property = PROPERTIES.iter().find(|property| property.name == *name);
        let mut config = proven_by(&server, &authority);
        config.schema = format!("s{at}");
        (property.unwrap().check)(&OverTls(config)).await;
    }
    let _kept = connect(proven_by(&server, &authority)).await.unwrap();
    let ways = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                WHERE application_name = 'freehold-store'";
    assert_eq!(server.psql("postgres", ways), "t");
}

#[tokio::test]
async fn a_server_that_is_not_proven_is_refused_with_what_to_do() {
    let (ours, others) = (Authority::new("ours"), Authority::new("ours"));
    let server = only_tls(&others.certificate(&["127.0.0.1"]));
    let said = refusal(proven_by(&server, &ours)).await;
    assert!(said.contains("the PEM file of the authority"), "{said}");

    server.present(&ours.certificate(&["db.internal"]));
    let said = refusal(proven_by(&server, &ours)).await;
    assert!(said.contains("subject alternative names"), "{said}");

    server.present(&ours.expired(&["127.0.0.1"]));
    let said = refusal(proven_by(&server, &ours)).await;
    assert!(said.contains("renew it"), "{said}");

    server.present(&ours.certificate(&["127.0.0.1"]));
    connect(proven_by(&server, &ours)).await.unwrap();
}

#[tokio::test]
async fn a_server_that_insists_on_tls_is_not_used_in_clear_and_one_without_it_not_at_all() {
    let authority = Authority::new("ours");
    let server = only_tls(&authority.certificate(&["127.0.0.1"]));
    let mut clear = proven_by(&server, &authority);
    clear.tls = PostgresTls::Off;
    let said = refusal(clear).await;
    assert!(said.contains("no encryption"), "{said}");

    let without = Server::start();
    let said = refusal(proven_by(&without, &authority)).await;
    assert!(said.contains("check TLS"), "{said}");
}
