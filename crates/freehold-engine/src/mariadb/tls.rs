//! TLS by rustls with the aws-lc-rs provider, per [`Tls`] mode.
//!
//! The driver builds its own configuration; it takes authorities and two permissions to be careless.
//! [`Tls::Prefer`] is two attempts, because the driver refuses a server that offers no TLS.

use mysql_async::SslOpts;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::{EngineError, Fault, Result, Tls};

/// What the driver is told. `None`: no TLS.
pub(super) fn options(tls: &Tls) -> Result<Option<SslOpts>> {
    match tls {
        Tls::Disable => Ok(None),
        // Encrypted against onlookers, unprotected against an impostor.
        Tls::Prefer => Ok(Some(
            SslOpts::default()
                .with_danger_accept_invalid_certs(true)
                .with_danger_skip_domain_validation(true),
        )),
        Tls::VerifyFull { ca_pem } => {
            let roots = roots(ca_pem.as_deref())?;
            Ok(Some(
                SslOpts::default()
                    .with_disable_built_in_roots(true)
                    .with_root_certs(roots.into_iter().map(Into::into).collect()),
            ))
        }
    }
}

/// The given authorities or the system's, each as it is (DER).
fn roots(ca_pem: Option<&str>) -> Result<Vec<Vec<u8>>> {
    let mut roots: Vec<Vec<u8>> = Vec::new();
    match ca_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|error| {
                    let detail = error.to_string();
                    EngineError::new(Fault::Invalid { detail }, "read the CA certificates")
                        .because(error)
                })?;
                roots.push(certificate.to_vec());
            }
        }
        None => {
            let native = rustls_native_certs::load_native_certs().certs;
            roots.extend(native.iter().map(|certificate| certificate.to_vec()));
        }
    }
    if roots.is_empty() {
        let detail = "there is no CA certificate to check the server against; give `ca` with PEM \
            certificates"
            .to_owned();
        return Err(EngineError::new(
            Fault::Invalid { detail },
            "read the CA certificates",
        ));
    }
    Ok(roots)
}
