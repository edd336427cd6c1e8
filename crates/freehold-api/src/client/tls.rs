//! Whom to trust: the system's authorities, or exactly those that the user names.

use std::sync::Arc;

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_platform_verifier::BuilderVerifierExt;

use super::{Error, Result};

type Source = Box<dyn std::error::Error + Send + Sync>;

fn refuse(message: &str, source: impl Into<Source>) -> Error {
    Error::Config {
        message: message.to_owned(),
        source: Some(source.into()),
    }
}

/// The provider is named here and nowhere installed for the whole process, so that two libraries in
/// one program cannot fight over it.
fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| refuse("TLS cannot be set up", e))
}

/// For clients that speak no TLS: the library below wants a configuration all the same.
pub(super) fn trusting_nobody() -> Result<ClientConfig> {
    let nobody = RootCertStore::empty();
    Ok(builder()?
        .with_root_certificates(nobody)
        .with_no_client_auth())
}

pub(super) fn configuration(ca: Option<&[u8]>) -> Result<ClientConfig> {
    let builder = builder()?;
    let Some(pem) = ca else {
        let config = builder
            .with_platform_verifier()
            .map_err(|e| refuse("the system's certificate authorities cannot be read", e))?
            .with_no_client_auth();
        return Ok(config);
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate =
            certificate.map_err(|e| refuse("the CA file is not PEM", e.to_string()))?;
        roots
            .add(certificate)
            .map_err(|e| refuse("the CA file holds a certificate that cannot be used", e))?;
    }
    if roots.is_empty() {
        return Err(Error::Config {
            message: "the CA file holds no certificate".to_owned(),
            source: None,
        });
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
