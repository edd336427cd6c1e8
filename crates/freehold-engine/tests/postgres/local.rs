//! A private server.

use std::os::unix::fs::PermissionsExt as _;

use freehold_engine::{
    Fault, ScriptSession as _,
    postgres::{LocalServer, PostgresSession, installed},
};
use freehold_testing::entropy::SeededEntropy;

#[tokio::test]
async fn a_local_server_is_made_adopted_stopped_and_started_on_its_port() {
    let directory = tempfile::Builder::new()
        .prefix("freehold-local")
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir_in("/tmp")
        .expect("a directory");
    let place = directory.path().join("instance");
    let entropy = SeededEntropy::new(3);
    let server = LocalServer::ensure(&place, None, None, &entropy)
        .await
        .expect("made");
    let newest = installed()
        .await
        .pop()
        .expect("a version is installed")
        .major;
    assert_eq!(server.major(), newest);
    let mut session = PostgresSession::connect(&server.target())
        .await
        .expect("connects");
    let rows = session
        .query("SELECT current_setting('data_checksums'), current_setting('listen_addresses'), current_setting('unix_socket_directories'), rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = current_user", &[])
        .await
        .expect("asked");
    assert_eq!(
        rows[0],
        ["on", "127.0.0.1", "", "t"].map(|value| Some(value.to_owned()))
    );
    let mut wrong = server.target();
    wrong.password = None;
    assert!(
        PostgresSession::connect(&wrong).await.is_err(),
        "nobody is trusted"
    );
    let secret = std::fs::metadata(place.join("superuser.password")).expect("it is there");
    assert_eq!(secret.permissions().mode() & 0o777, 0o600);

    let adopted = LocalServer::ensure(&place, None, None, &entropy)
        .await
        .expect("adopted");
    assert_eq!(adopted.port(), server.port());
    session
        .execute("CREATE TABLE kept (id int)")
        .await
        .expect("the session lived on");
    drop(session);

    adopted.stop().await.expect("stopped");
    adopted.stop().await.expect("stopped already");
    assert!(!adopted.is_running().await.expect("asked"));
    let again = LocalServer::ensure(&place, Some(newest), None, &entropy)
        .await
        .expect("started");
    assert_eq!(again.port(), server.port());
    let mut session = PostgresSession::connect(&again.target())
        .await
        .expect("connects");
    session
        .execute("DROP TABLE kept")
        .await
        .expect("the data is there");

    let error = LocalServer::ensure(&place, Some(newest - 1), None, &entropy)
        .await
        .expect_err("another version");
    assert!(matches!(error.fault, Fault::Invalid { .. }), "{error}");
    again.stop().await.expect("stopped");

    let error = LocalServer::ensure(&place.join("x"), Some(9), None, &entropy)
        .await
        .expect_err("too old");
    assert!(error.to_string().contains("not installed"), "{error}");
}

#[tokio::test]
async fn two_processes_make_one_server() {
    let directory = tempfile::Builder::new()
        .prefix("freehold-local")
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir_in("/tmp")
        .expect("a directory");
    let place = directory.path().join("instance");
    let entropy = SeededEntropy::new(4);
    let (one, two) = tokio::join!(
        LocalServer::ensure(&place, None, None, &entropy),
        LocalServer::ensure(&place, None, None, &entropy)
    );
    let (one, two) = (one.expect("made"), two.expect("adopted"));
    assert_eq!(one.port(), two.port());
    PostgresSession::connect(&two.target())
        .await
        .expect("connects");
    one.stop().await.expect("stopped");
}
