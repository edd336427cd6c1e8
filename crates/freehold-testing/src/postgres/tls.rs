//! A data directory that speaks TLS.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::template;
use crate::certificates::Certificate;
use crate::throwaway::Account;

/// What happens to connections over the network that are not encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plain {
    Allowed,
    Refused,
}

const HOSTSSL_ONLY: &str = "\
local   all all           scram-sha-256
hostssl all all 0.0.0.0/0 scram-sha-256
";

pub(super) fn set_up(data: &Path, account: Account, certificate: &Certificate, plain: Plain) {
    show(data, account, certificate);
    template::append(&data.join("postgresql.conf"), "\nssl = on\n");
    if plain == Plain::Refused {
        fs::write(data.join("pg_hba.conf"), HOSTSSL_ONLY).expect("the data directory is ours");
    }
}

pub(super) fn show(data: &Path, account: Account, certificate: &Certificate) {
    for (name, pem) in [
        ("server.crt", &certificate.chain_pem),
        ("server.key", &certificate.key_pem),
    ] {
        let path = data.join(name);
        fs::write(&path, pem).expect("the data directory is ours");
        // The server refuses a key that others may read.
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("the file is ours");
        account.own(&path);
    }
}
