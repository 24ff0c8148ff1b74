//! Server-sent events.

use std::time::{Duration, Instant};

use super::super::error::ConnectError;
use super::http::Body;

/// Bytes of an event.
const MAX_EVENT: usize = 1 << 20;
/// Bytes of all events of an answer, with comments.
const MAX_STREAM: usize = 256 << 20;
/// Time without an event, whatever else is said.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// The events of a response.
pub(super) struct Events {
    body: Body,
    /// The line under way.
    line: Vec<u8>,
    /// What the event under way holds.
    data: String,
    has_data: bool,
    /// Bytes so far.
    total: usize,
}

impl Events {
    pub(super) fn new(body: Body) -> Events {
        Events { body, line: vec![], data: String::new(), has_data: false, total: 0 }
    }

    /// The data of the next event; nothing at the end.
    ///
    /// # Errors
    /// If the connection breaks or is cancelled, or an event is too long.
    pub(super) fn next(&mut self) -> Result<Option<String>, ConnectError> {
        let since = Instant::now();
        loop {
            let before = self.line.len();
            if !self.body.next(&mut self.line)? {
                self.take_line();
                return Ok(self.take_event());
            }
            self.total += self.line.len() - before;
            self.check(since)?;
            if self.line.ends_with(b"\n") && self.take_line() && self.has_data {
                return Ok(self.take_event());
            }
        }
    }

    fn check(&self, since: Instant) -> Result<(), ConnectError> {
        if self.line.len() + self.data.len() > MAX_EVENT {
            return Err(ConnectError::TooLong { what: "an event", limit: MAX_EVENT });
        }
        if self.total > MAX_STREAM {
            return Err(ConnectError::TooLong { what: "an answer", limit: MAX_STREAM });
        }
        if since.elapsed() > PATIENCE {
            return Err(ConnectError::Silent { seconds: PATIENCE.as_secs() });
        }
        Ok(())
    }

    /// Takes the line that has ended; whether it ends an event.
    fn take_line(&mut self) -> bool {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches(['\r', '\n']);
        if let Some(data) = line.trim_start_matches('\u{FEFF}').strip_prefix("data:") {
            if self.has_data {
                self.data.push('\n');
            }
            self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            self.has_data = true;
        }
        line.is_empty()
    }

    fn take_event(&mut self) -> Option<String> {
        let data = std::mem::take(&mut self.data);
        std::mem::take(&mut self.has_data).then_some(data)
    }
}
