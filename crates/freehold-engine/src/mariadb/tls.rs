//! TLS by rustls with the aws-lc-rs provider, per [`Tls`] mode.
//!
//! The driver builds its own configuration; it takes authorities and two permissions to be careless.
//! [`Tls::Prefer`] is two attempts, because the driver refuses a server that offers no TLS.

use mysql_async::{DriverError, Error, IoError, SslOpts, TlsError};
use rustls::{
    CertificateError,
    pki_types::{CertificateDer, pem::PemObject},
};

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

/// Why a handshake failed and what to do about it; nothing when the trouble is another one.
pub(super) fn explain(error: &Error) -> Option<String> {
    let refusal = match error {
        Error::Driver(DriverError::NoClientSslFlagFromServer) => {
            return Some(
                "the server offers no TLS; give it `ssl_cert` and `ssl_key`, or, in a network that \
                 you trust, say `tls: disable`"
                    .to_owned(),
            );
        }
        Error::Io(IoError::Tls(TlsError::Tls(refusal))) => refusal,
        Error::Io(IoError::Io(error)) => error.get_ref()?.downcast_ref::<rustls::Error>()?,
        _ => return None,
    };
    let next = match refusal {
        rustls::Error::InvalidCertificate(fault) => match fault {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "let `ca` name the certificate of the authority that signed the server's"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "let `host` be a name that stands in the certificate's subject alternative names"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "renew the server's certificate and restart the server (or FLUSH SSL)"
            }
            _ => {
                "give the server a certificate that is right (MariaDB makes itself one that nobody \
                  can check when it is given none)"
            }
        },
        _ => "look into the server's log, and at its `tls_version` and `ssl_cipher`",
    };
    Some(format!("TLS failed: {refusal}; {next}"))
}
