//! TLS from two PEM files.

use std::{path::Path, sync::Arc};

use freehold_model::{Error, Result};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::TlsFiles;

pub(crate) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let chain = read_chain(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|e| unusable("private key", &files.key, e))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::internal("setting up TLS", e))?
        .with_no_client_auth();
    let mut config = builder.with_single_cert(chain, key).map_err(|e| {
        unusable("certificate", &files.certificate, e)
            .hint("The certificate file holds the server's own certificate first, and the key belongs to it.")
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_file_iter(path)
        .map_err(|e| unusable("certificate", path, e))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| unusable("certificate", path, e))?;
    if chain.is_empty() {
        return Err(unusable(
            "certificate",
            path,
            "the file holds none".to_owned(),
        ));
    }
    Ok(chain)
}

fn unusable(
    what: &str,
    path: &Path,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    let cause = cause.into();
    Error::invalid(format!(
        "the TLS {what} {} cannot be used: {cause}",
        path.display()
    ))
    .hint("`tls` in the server section of freehold.toml names PEM files.")
    .because(cause)
}
