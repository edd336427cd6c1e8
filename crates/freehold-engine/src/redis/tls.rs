//! TLS by rustls with the aws-lc-rs provider, per [`Tls`] mode.
//!
//! The protocol has no way to ask for TLS: a port speaks it from the first byte or never. A plain port
//! waits for ever for the rest of what a TLS greeting looks like to it. So a port is first asked in plain
//! words, with nothing secret in them, where [`Tls::Prefer`] leaves it open.

use std::{sync::Arc, time::Duration};

use redis::{Client, ConnectionAddr, ConnectionInfo, RedisError, TlsCertificates};
use rustls::{
    CertificateError,
    pki_types::{CertificateDer, pem::PemObject},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{ConnectTarget, EngineError, Fault, Result, Tls};

/// What to dial.
pub(super) async fn client(target: &ConnectTarget, info: &ConnectionInfo) -> Result<Client> {
    let (host, port) = (target.host.clone(), target.port);
    let secured = |insecure| ConnectionAddr::TcpTls {
        host: host.clone(),
        port,
        insecure,
        tls_params: None,
    };
    let open = |insecure, root_cert| {
        let info = info.clone().set_addr(secured(insecure));
        let certificates = TlsCertificates {
            client_tls: None,
            root_cert,
        };
        Client::build_with_tls(info, certificates)
    };
    let plain = || {
        Client::open(
            info.clone()
                .set_addr(ConnectionAddr::Tcp(host.clone(), port)),
        )
    };
    let client = match &target.tls {
        Tls::Disable => plain(),
        // Encrypted against onlookers, unprotected against an impostor.
        Tls::Prefer if speaks_plain(target).await => plain(),
        Tls::Prefer => open(true, None),
        Tls::VerifyFull { ca_pem } => {
            let pem = ca_pem.as_ref().map(|pem| pem.as_bytes().to_vec());
            if let Some(pem) = &pem {
                check(pem)?;
            }
            open(false, pem)
        }
    };
    client.map_err(|error| unusable(error.to_string()))
}

/// Whether the port answers a word in the plain protocol. TLS answers it with an alert, or hangs up.
pub(super) async fn speaks_plain(target: &ConnectTarget) -> bool {
    const PATIENCE: Duration = Duration::from_secs(2);
    let asking = async {
        let mut stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
        stream.write_all(b"PING\r\n").await?;
        stream.read_u8().await
    };
    let answer = timeout(PATIENCE.min(target.connect_timeout), asking).await;
    matches!(answer, Ok(Ok(b'+' | b'-')))
}

/// What is said of a port that speaks no TLS where it must.
pub(super) const PLAIN: &str = "this port speaks no TLS; name the one of the server's `tls-port`, or, in a \
    network that you trust, say `tls: disable`";

/// There is at least one certificate, and all can be read.
fn check(pem: &[u8]) -> Result<()> {
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        certificate.map_err(|error| unusable(error.to_string()))?;
        count += 1;
    }
    if count == 0 {
        return Err(unusable(
            "there is no CA certificate to check the server against; give `ca` with PEM certificates"
                .to_owned(),
        ));
    }
    Ok(())
}

fn unusable(detail: String) -> EngineError {
    EngineError::new(Fault::Invalid { detail }, "prepare the connection")
}

/// Why a handshake failed and what to do about it; nothing when the trouble is another one.
pub(super) fn explain(error: &RedisError) -> Option<String> {
    let source = std::error::Error::source(error);
    let refusal = source.and_then(refusal_in)?;
    let next = match refusal {
        rustls::Error::InvalidCertificate(fault) => match fault {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "let `ca` name the certificate of the authority that signed the server's"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "let `host` be a name that stands in the certificate's subject alternative names"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "renew the server's certificate and load it with CONFIG SET tls-cert-file"
            }
            _ => "give the server a certificate that is right",
        },
        rustls::Error::InvalidMessage(_) => PLAIN,
        _ => "look into the server's log, and at its `tls-protocols` and `tls-ciphers`",
    };
    Some(format!("TLS failed: {refusal}; {next}"))
}

fn refusal_in<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(refusal) = error.downcast_ref() {
        return Some(refusal);
    }
    // The driver shares what it wraps.
    if let Some(shared) = error.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>() {
        return refusal_in(&**shared);
    }
    // An `io::Error` gives what it wraps by `get_ref`, not as its source.
    if let Some(io) = error.downcast_ref::<std::io::Error>() {
        return refusal_in(io.get_ref()?);
    }
    refusal_in(error.source()?)
}
