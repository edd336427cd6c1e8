//! TLS by rustls with the aws-lc-rs provider, per [`Tls`] mode.
//!
//! A password never travels through it in clear: SCRAM is bound to the server's certificate wherever
//! the certificate's signature names a digest, so a login through somebody in the middle fails also
//! where the certificate is not checked ([`Tls::Prefer`]).
//!
//! What is refused is explained here, because the TLS library's words name the fault and not what an
//! administrator can do about it.

use std::{error::Error, io, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{EngineError, Fault, Result, Tls};

/// What the driver needs to speak TLS; with [`Tls::Disable`] it is never asked to.
pub(crate) fn connector(tls: &Tls) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("choose TLS versions", error))?;
    let config = match tls {
        Tls::Disable | Tls::Prefer => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth(),
        Tls::VerifyFull { ca_pem } => builder
            .with_root_certificates(roots(ca_pem.as_deref())?)
            .with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(config))
}

fn roots(ca_pem: Option<&str>) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    match ca_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate =
                    certificate.map_err(|error| unusable("read the CA certificates", error))?;
                store
                    .add(certificate)
                    .map_err(|error| unusable("read the CA certificates", error))?;
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if store.is_empty() {
        return Err(EngineError::new(
            Fault::Invalid {
                detail: "there is no CA certificate to check the server against; give `ca` with PEM certificates"
                    .into(),
            },
            "read the CA certificates",
        ));
    }
    Ok(store)
}

/// Why a handshake failed and what to do about it; nothing when the trouble is another one.
pub(crate) fn explain(error: &tokio_postgres::Error) -> Option<String> {
    let cause = Error::source(error)?;
    if cause.to_string() == "server does not support TLS" {
        return Some(
            "the server offers no TLS; turn on `ssl` in its postgresql.conf, or, in a network that \
             you trust, say `tls: disable`"
                .to_owned(),
        );
    }
    // An `io::Error` gives what it wraps by `get_ref`, not as its source.
    let cause = cause.downcast_ref::<io::Error>()?.get_ref()?;
    let refusal = cause.downcast_ref::<rustls::Error>()?;
    let next = match refusal {
        rustls::Error::InvalidCertificate(fault) => remedy(fault),
        _ => "look into the server's log, and at its `ssl_min_protocol_version` and `ssl_ciphers`",
    };
    Some(format!("TLS failed: {refusal}; {next}"))
}

fn remedy(fault: &CertificateError) -> &'static str {
    match fault {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "let `ca` name the certificate of the authority that signed the server's, and let the \
             server send the authorities between them"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "let `host` be a name that stands in the certificate's subject alternative names, or \
             give the server a certificate for it (a common name alone does not count)"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "renew the server's certificate and reload the server"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "look at this machine's clock, or wait"
        }
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "a certificate that `openssl req -x509` made vouches for itself as an authority and is \
             not accepted as a server's; sign one with `basicConstraints = CA:FALSE`"
        }
        _ => "give the server a certificate that is right, and reload it",
    }
}

fn unusable(doing: &str, error: impl Error + Send + Sync + 'static) -> EngineError {
    let detail = error.to_string();
    EngineError::new(Fault::Invalid { detail }, doing).because(error)
}

/// [`Tls::Prefer`]: encrypted against onlookers, unprotected against an impostor. The signature is
/// still checked, so that the handshake is at least with the holder of the shown certificate.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
