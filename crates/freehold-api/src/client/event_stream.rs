//! Reading `text/event-stream`, purely: bytes in, events out, whatever the pieces they arrive in.

/// One event as the server sent it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Frame {
    /// The `event:` field; empty means `message`.
    pub event: String,
    pub data: String,
    pub id: Option<String>,
}

/// One event of ours is a short JSON document; more than this is not from our server.
const FRAME_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Parser {
    /// The bytes of a line that has not ended yet.
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed that follows belongs to it.
    after_return: bool,
    frame: Frame,
    has_data: bool,
    size: usize,
}

/// The stream is not one of ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

impl Parser {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, TooLarge> {
        let mut frames = Vec::new();
        for &byte in bytes {
            let follows_return = std::mem::take(&mut self.after_return);
            match byte {
                b'\n' if follows_return => {}
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    frames.extend(self.end_line(&String::from_utf8_lossy(&line)));
                }
                _ => {
                    self.size += 1;
                    if self.size > FRAME_BYTES_MAX {
                        return Err(TooLarge);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(frames)
    }

    fn end_line(&mut self, line: &str) -> Option<Frame> {
        if line.is_empty() {
            self.size = 0;
            let frame = std::mem::take(&mut self.frame);
            return std::mem::take(&mut self.has_data).then_some(frame);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.frame.event),
            "id" => self.frame.id = Some(value.to_owned()),
            "data" => {
                if self.has_data {
                    self.frame.data.push('\n');
                }
                self.frame.data.push_str(value);
                self.has_data = true;
            }
            // A comment (the heartbeat), `retry`, or a field of a later version.
            _ => self.size = self.frame.data.len(),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": beat\n\nevent: progress\nid: 7\ndata: {\"a\":\"ä\"}\n\nretry: 5\r\ndata: x\r\ndata:y\r\n\r\nevent: end\rdata\r\rid: 9\n\n";

    fn expected() -> Vec<Frame> {
        let frame = |event: &str, data: &str, id: Option<&str>| Frame {
            event: event.to_owned(),
            data: data.to_owned(),
            id: id.map(str::to_owned),
        };
        vec![
            frame("progress", "{\"a\":\"ä\"}", Some("7")),
            frame("", "x\ny", None),
            frame("end", "", None),
        ]
    }

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let bytes = STREAM.as_bytes();
        for first in 0..bytes.len() {
            for second in first..bytes.len() {
                let mut parser = Parser::default();
                let mut frames = parser.push(&bytes[..first]).unwrap();
                frames.extend(parser.push(&bytes[first..second]).unwrap());
                frames.extend(parser.push(&bytes[second..]).unwrap());
                assert_eq!(frames, expected(), "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn an_event_that_was_cut_off_is_not_delivered() {
        let frames = Parser::default().push(b"id: 1\ndata: half").unwrap();
        assert_eq!(frames, []);
    }

    #[test]
    fn an_endless_event_is_refused_and_endless_heartbeats_are_not() {
        let mut parser = Parser::default();
        let endless = vec![b'x'; FRAME_BYTES_MAX + 1];
        assert_eq!(parser.push(&endless), Err(TooLarge));
        let mut parser = Parser::default();
        for _ in 0..FRAME_BYTES_MAX / 2 {
            assert_eq!(parser.push(b":beat\n"), Ok(vec![]));
        }
    }
}
