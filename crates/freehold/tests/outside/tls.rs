//! TLS by an authority of one's own.

use std::path::Path;

use crate::plant::{Plant, said};

#[test]
fn a_server_with_a_certificate_is_trusted_through_its_authority_only() {
    let plant = Plant::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../freehold-server/tests/tls");
    let config = plant.write(
        "tls.toml",
        &format!(
            "[server.tls]\ncertificate = {:?}\nkey = {:?}\n",
            folder.join("server.pem"),
            folder.join("server.key")
        ),
    );
    let serving = plant.serve("data", &["--config", config.to_str().unwrap()]);
    assert!(serving.url.starts_with("https://"), "{}", serving.url);
    let port = serving.address().rsplit(':').next().unwrap().to_owned();
    let url = format!("https://localhost:{port}");
    let ca = folder.join("ca.pem");
    let ask = |more: &[&str]| {
        let arguments = [&["get", "environments", "--server", &url], more].concat();
        let mut command = plant.client(&serving, &arguments);
        said(command.env_remove("FREEHOLD_SERVER"))
    };
    ask(&["--ca", ca.to_str().unwrap()]).ok();
    let untrusted = ask(&[]);
    assert_eq!(untrusted.code(), 6, "{untrusted:?}");
    serving.stop();
}
