//! The typed HTTP client: one method per verb, the same words as the server's.
//!
//! * A refusal by Freehold keeps its code, message, hint and request id ([`Error::Refused`]). What
//!   happened on the way is told apart from it: nothing answered, the connection broke, something
//!   else than Freehold answered.
//! * Only reads are tried again, and only for trouble that may pass. A change whose answer was lost
//!   is [`Error::Interrupted`]: nobody knows yet whether it happened, and the caller must look.
//! * Following an operation ([`Client::operation_watch`]) survives broken connections and server
//!   restarts without losing or repeating an event.
//!
//! There is no process-wide state: the TLS provider and the authorities belong to the client.

mod call;
mod error;
mod event_stream;
mod tls;
mod verbs;
mod watch;

use std::time::Duration;

use freehold_model::{Secret, trace::TraceParent};
use reqwest::Url;

pub use call::Download;
pub use error::{Error, Result};
pub use verbs::DatabasePath;
pub use watch::{OperationWatch, Watched};

/// Where the server is when nobody says otherwise.
pub const DEFAULT_ADDRESS: &str = "http://127.0.0.1:7440";

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may stay silent within an answer. The server's heartbeats are far shorter.
const READ_TIMEOUT: Duration = Duration::from_secs(90);

/// A connection pool to one Freehold server, with one token. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    address: Url,
    token: Option<Secret>,
    trace_parent: Option<TraceParent>,
    retry_pause: Duration,
}

impl Client {
    /// `address` is `http://` or `https://`, host, and port; a path prefix is kept. `ca` holds PEM
    /// certificates to trust instead of the system's.
    ///
    /// Fails with [`Error::Config`] when the address or the certificates cannot be read. It does
    /// not connect.
    pub fn new(address: &str, token: Option<Secret>, ca: Option<&[u8]>) -> Result<Self> {
        let address = parse_address(address)?;
        let builder = http(&address, ca)?.read_timeout(READ_TIMEOUT);
        let http = builder.build().map_err(|source| Error::Config {
            message: "the HTTP client cannot be set up".to_owned(),
            source: Some(source.into()),
        })?;
        Ok(Self {
            http,
            address,
            token,
            trace_parent: None,
            retry_pause: Duration::from_millis(200),
        })
    }

    /// Sends the caller's span with every request, so that the server's work shows in its trace.
    #[must_use]
    pub fn within_trace(mut self, parent: Option<TraceParent>) -> Self {
        self.trace_parent = parent;
        self
    }

    /// The address without a trailing slash, as people write it.
    pub fn address(&self) -> &str {
        self.address.as_str().trim_end_matches('/')
    }

    /// Whether the token would travel unencrypted to another machine.
    pub fn is_clear_text(&self) -> bool {
        self.address.scheme() == "http" && !is_loopback(&self.address)
    }
}

/// A connection pool to one address as Freehold sets it up: no process-wide TLS provider, no
/// redirects, no proxy before this machine. `ca` as in [`Client::new`].
pub fn http(address: &Url, ca: Option<&[u8]>) -> Result<reqwest::ClientBuilder> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("freehold/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .tls_backend_preconfigured(match address.scheme() {
            "https" => tls::configuration(ca)?,
            // Redirects are not followed, so this one trusts nobody and is never used.
            _ => tls::trusting_nobody()?,
        });
    // A proxy from the environment cannot reach this machine's loopback.
    Ok(if is_loopback(address) {
        builder.no_proxy()
    } else {
        builder
    })
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

fn parse_address(text: &str) -> Result<Url> {
    let refuse = |message: String| Error::Config {
        message,
        source: None,
    };
    let example = "write it like http://127.0.0.1:7440 or https://freehold.example.com";
    let url = Url::parse(text)
        .map_err(|e| refuse(format!("{text:?} is not a server address ({e}): {example}")))?;
    let usable = matches!(url.scheme(), "http" | "https") && url.has_host();
    if !usable {
        return Err(refuse(format!(
            "{text:?} is not a server address: {example}"
        )));
    }
    let plain = url.username().is_empty() && url.password().is_none();
    if !plain || url.query().is_some() || url.fragment().is_some() {
        return Err(refuse(format!(
            "the server address may hold scheme, host, port and path only: {example}"
        )));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_http_or_https_and_nothing_secret() {
        for good in [
            "http://127.0.0.1:7440",
            "https://db.example.com/freehold",
            "http://[::1]:7440",
        ] {
            assert!(Client::new(good, None, None).is_ok(), "{good}");
        }
        for bad in [
            "127.0.0.1:7440",
            "ftp://x",
            "http://ana:secret@x",
            "http://x?token=1",
            "",
        ] {
            let error = Client::new(bad, None, None).expect_err(bad);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn clear_text_is_only_a_worry_beyond_this_machine() {
        let clear = |address| Client::new(address, None, None).unwrap().is_clear_text();
        assert!(clear("http://db.example.com"));
        assert!(!clear("https://db.example.com"));
        assert!(!clear("http://localhost:7440"));
        assert!(!clear("http://[::1]:7440"));
    }
}
