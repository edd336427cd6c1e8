//! One request and its answer: sending, trying again, and reading what came back.

use std::{fmt::Write as _, time::Duration};

use freehold_model::Code;
use reqwest::{
    Method, RequestBuilder, Response, StatusCode, Url,
    header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{Client, Error, Result};
use crate::{Failure, FailureBody};

/// What may be sent twice is sent this often at most.
const ATTEMPTS_MAX: u32 = 4;
/// A server may ask for patience, but not for more than this within one call.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// An answer other than a download is held in memory.
const ANSWER_BYTES_MAX: usize = 64 << 20;

impl Client {
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
    ) -> Result<T> {
        self.idempotent(self.request(Method::GET, path).query(query))
            .await
    }

    /// Sends a request that does no harm when it is sent twice until it is answered.
    async fn idempotent<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        let mut attempt = 1;
        loop {
            let again = request.try_clone();
            let again = again.expect("a body that is held in memory can be sent again");
            let error = match self.answer(again, false).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if attempt == ATTEMPTS_MAX || !error.may_pass() {
                return Err(error);
            }
            let pause = error
                .retry_after()
                .unwrap_or(self.retry_pause * 2u32.pow(attempt - 1));
            tokio::time::sleep(pause.min(PAUSE_MAX)).await;
            attempt += 1;
        }
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T> {
        self.answer(self.request(Method::POST, path).json(body), true)
            .await
    }

    /// Uploads what is named by its content. A server that is too busy to read it says so before it has
    /// read it, and then the connection may break before the refusal is seen.
    pub(super) async fn put_bytes<T: DeserializeOwned>(
        &self,
        path: &[&str],
        bytes: Vec<u8>,
    ) -> Result<T> {
        let request = self
            .request(Method::PUT, path)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(bytes);
        self.idempotent(request).await
    }

    pub(super) async fn delete<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
    ) -> Result<T> {
        self.answer(self.request(Method::DELETE, path).query(query), true)
            .await
    }

    pub(super) async fn download(&self, path: &[&str]) -> Result<Download> {
        let response = self.send(self.request(Method::GET, path), false).await?;
        Ok(Download {
            response,
            address: self.address().to_owned(),
        })
    }

    pub(super) async fn text(&self, path: &[&str]) -> Result<String> {
        let response = self.send(self.request(Method::GET, path), false).await?;
        let bytes = self.body(response, false).await?;
        String::from_utf8(bytes).map_err(|e| self.garbled("the answer is not text", Some(e.into())))
    }

    pub(super) fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut request = self.http.request(method, self.url(path));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(parent) = &self.trace_parent {
            request = request.header("traceparent", parent.as_str());
        }
        request
    }

    /// Appends the parts to the address, each escaped: no part can become two.
    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.address.clone();
        url.path_segments_mut()
            .expect("an http address has a path")
            .pop_if_empty()
            .extend(path);
        url
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        changing: bool,
    ) -> Result<T> {
        let request = request.header(ACCEPT, "application/json");
        let response = self.send(request, changing).await?;
        let bytes = self.body(response, changing).await?;
        serde_json::from_slice(&bytes)
            .map_err(|e| self.garbled("the answer has another form than expected", Some(e.into())))
    }

    /// Sends a request and tells refusals from answers.
    pub(super) async fn send(&self, request: RequestBuilder, changing: bool) -> Result<Response> {
        let response = request
            .send()
            .await
            .map_err(|e| self.transport(e, changing))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = retry_after(&response);
        let bytes = self.body(response, changing).await?;
        match serde_json::from_slice::<FailureBody>(&bytes) {
            Ok(FailureBody { error: failure }) => Err(Error::Refused {
                failure,
                retry_after,
            }),
            Err(_) => Err(self.foreign(status, retry_after)),
        }
    }

    /// An error status without Freehold's body: most often a proxy whose server is away.
    fn foreign(&self, status: StatusCode, retry_after: Option<Duration>) -> Error {
        let away = matches!(
            status,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
        );
        if !away {
            return self.garbled(&format!("HTTP status {status}"), None);
        }
        let failure = Failure {
            code: Code::Unavailable,
            message: format!(
                "what answers at {} says that the server behind it is away ({status})",
                self.address()
            ),
            hint: Some("Is `freehold serve` running behind the proxy?".to_owned()),
            request_id: String::new(),
        };
        Error::Refused {
            failure,
            retry_after,
        }
    }

    async fn body(&self, mut response: Response, changing: bool) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|e| self.transport(e, changing))?
        {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(self.garbled("the answer is larger than any of Freehold's", None));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    pub(super) fn transport(&self, error: reqwest::Error, changing: bool) -> Error {
        // The address is in our own message; the library would repeat it in each cause.
        let error = error.without_url();
        let address = self.address().to_owned();
        if error.is_connect() {
            return Error::Unreachable {
                address,
                source: error.into(),
            };
        }
        if error.is_builder() {
            return Error::Config {
                message: "the request cannot be made".to_owned(),
                source: Some(error.into()),
            };
        }
        Error::Interrupted {
            address,
            changing,
            source: error.into(),
        }
    }

    pub(super) fn garbled(
        &self,
        what: &str,
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        let mut text = String::new();
        for c in what.chars().take(300) {
            write!(text, "{}", c.escape_debug()).expect("writing to a String cannot fail");
        }
        Error::Garbled {
            address: self.address().to_owned(),
            what: text,
            source,
        }
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.parse().ok().map(Duration::from_secs)
}

/// A large answer, read piece by piece. It is whole only when [`Download::chunk`] has returned
/// `None`: a server that fails half way breaks the connection instead of ending the answer.
#[derive(Debug)]
pub struct Download {
    response: Response,
    address: String,
}

impl Download {
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        match self.response.chunk().await {
            Ok(chunk) => Ok(chunk.map(|bytes| bytes.to_vec())),
            Err(error) => Err(Error::Interrupted {
                address: self.address.clone(),
                changing: false,
                source: error.without_url().into(),
            }),
        }
    }
}
