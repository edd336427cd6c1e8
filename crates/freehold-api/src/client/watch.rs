//! Following an operation to its end.
//!
//! The server's stream may break at any moment: a proxy's time limit, a restart, a laptop that
//! slept. The watch then connects again and asks for what comes after the last event it delivered;
//! an event that arrives twice is dropped by its sequence number. It gives up only when nothing has
//! answered for [`PATIENCE`] attempts in a row, or when the server refuses.

use std::time::Duration;

use freehold_model::{
    Code, OperationId,
    kinds::{OperationEvent, OperationView},
};
use reqwest::{Method, Response, header::ACCEPT};
use serde::de::DeserializeOwned;

use super::{
    Client, Error, Result,
    event_stream::{Frame, Parser},
};

/// Attempts without an answer, with pauses that grow to [`PAUSE_MAX`]: about two minutes.
const PATIENCE: u32 = 30;
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The server's heartbeat comes every ten seconds; three missing ones mean that it is gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What a watch delivers.
#[derive(Debug, Clone, PartialEq)]
pub enum Watched {
    Event(OperationEvent),
    /// The last item: how it ended, or that it waits for a person.
    Ended(Box<OperationView>),
}

/// See [`Client::operation_watch`].
#[derive(Debug)]
pub struct OperationWatch {
    client: Client,
    id: OperationId,
    after: u64,
    connection: Option<(Response, Parser)>,
    /// Parsed and not delivered yet, last first.
    pending: Vec<Frame>,
    failures: u32,
    ended: bool,
}

impl OperationWatch {
    pub(super) fn new(client: Client, id: OperationId, after: u64) -> Self {
        Self {
            client,
            id,
            after,
            connection: None,
            pending: Vec::new(),
            failures: 0,
            ended: false,
        }
    }

    /// The sequence number of the last event delivered; a later watch may start after it.
    pub fn position(&self) -> u64 {
        self.after
    }

    /// The next event, or `None` after the end. Cancel safe: an event is delivered or kept.
    pub async fn next(&mut self) -> Result<Option<Watched>> {
        while !self.ended {
            while let Some(frame) = self.pending.pop() {
                if let Some(item) = self.deliver(&frame)? {
                    return Ok(Some(item));
                }
            }
            if let Err(error) = self.fill().await {
                self.connection = None;
                self.pause_or_give_up(error).await?;
            }
        }
        Ok(None)
    }

    fn deliver(&mut self, frame: &Frame) -> Result<Option<Watched>> {
        match frame.event.as_str() {
            "progress" => {
                let event: OperationEvent = self.read(&frame.data)?;
                if event.sequence <= self.after {
                    return Ok(None);
                }
                self.after = event.sequence;
                Ok(Some(Watched::Event(event)))
            }
            "end" => {
                let view = self.read(&frame.data)?;
                self.ended = true;
                Ok(Some(Watched::Ended(Box::new(view))))
            }
            // A later server may say more.
            _ => Ok(None),
        }
    }

    fn read<T: DeserializeOwned>(&self, data: &str) -> Result<T> {
        serde_json::from_str(data).map_err(|e| {
            self.client
                .garbled("an event has another form than expected", Some(e.into()))
        })
    }

    /// Waits for bytes, connecting first when there is no connection.
    async fn fill(&mut self) -> Result<()> {
        if self.connection.is_none() {
            let response = self.connect().await?;
            self.connection = Some((response, Parser::default()));
        }
        let Some((response, parser)) = &mut self.connection else {
            return Ok(());
        };
        let chunk = match tokio::time::timeout(SILENCE_MAX, response.chunk()).await {
            Ok(chunk) => chunk.map_err(|e| self.client.transport(e, false))?,
            Err(_) => return Err(self.broken("the server has fallen silent")),
        };
        let Some(chunk) = chunk else {
            return Err(self.broken("the server ended the stream before the operation ended"));
        };
        let frames = parser
            .push(&chunk)
            .map_err(|_| self.client.garbled("an event is endless", None))?;
        self.pending.extend(frames.into_iter().rev());
        self.failures = 0;
        Ok(())
    }

    async fn connect(&self) -> Result<Response> {
        let id = self.id.to_string();
        let request = self
            .client
            .request(Method::GET, &["v1", "operations", &id, "events"])
            .header(ACCEPT, "text/event-stream")
            .header("last-event-id", self.after.to_string());
        self.client.send(request, false).await
    }

    fn broken(&self, what: &str) -> Error {
        Error::Interrupted {
            address: self.client.address().to_owned(),
            changing: false,
            source: what.into(),
        }
    }

    async fn pause_or_give_up(&mut self, error: Error) -> Result<()> {
        let passing = error.may_pass()
            || matches!(error, Error::Unreachable { .. })
            || matches!(error.code(), Code::Undetermined);
        self.failures += 1;
        // A server that has never answered is more likely absent than restarting.
        let patience = if self.after == 0 { 4 } else { PATIENCE };
        if !passing || self.failures > patience {
            return Err(error);
        }
        let pause = error
            .retry_after()
            .unwrap_or(self.client.retry_pause * 2u32.pow(self.failures.min(6) - 1));
        tokio::time::sleep(pause.min(PAUSE_MAX)).await;
        Ok(())
    }
}
