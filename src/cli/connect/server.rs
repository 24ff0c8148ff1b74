//! What a server has, and what is asked of it.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::super::error::{Code, ConnectError};
use super::Address;
use super::http::{self, Request, Response};
use super::reply::{Answering, message_of};
use super::sse::Events;
use crate::generate::CancelHandle;

/// Bytes of the list of models.
const MAX_LIST: usize = 1 << 20;
/// Bytes of an error.
const MAX_ERROR: usize = 64 << 10;
/// Characters of a model's name.
const MAX_NAME: usize = 200;
/// Models that are named where one is not there.
const MAX_NAMED: usize = 5;
/// How often a busy server is asked again.
const MAX_RETRIES: u64 = 5;
/// Seconds that are waited for a busy server at most, each time.
const MAX_WAIT: u64 = 30;
/// What servers take for the model that they have.
const ANY_MODEL: &str = "default";
/// Who owns the models of smolt's servers.
const OWNER: &str = "smolt";

/// A server that can be asked.
#[derive(Debug)]
pub(in crate::cli) struct Server {
    pub(in crate::cli) address: Address,
    token: Option<String>,
    /// The model that is asked.
    pub(in crate::cli) model: String,
    /// Tokens that prompt and answer have together at most, where the server says it.
    pub(in crate::cli) context: Option<usize>,
    /// Whether it is one of smolt's, which knows more than OpenAI's interface.
    pub(in crate::cli) is_smolt: bool,
}

#[derive(Deserialize)]
struct List {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    owned_by: Option<String>,
    max_model_len: Option<usize>,
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    n_ctx: Option<usize>,
}

impl Model {
    fn is_smolt(&self) -> bool {
        self.owned_by.as_deref() == Some(OWNER)
    }
}

impl Server {
    /// Finds out what a server has; of several models it takes the one that is named, else the first.
    ///
    /// # Errors
    /// If there is none, it refuses, or has no such model.
    pub(in crate::cli) fn open(
        address: Address,
        token: Option<String>,
        model: Option<&str>,
    ) -> Result<Server, ConnectError> {
        let mut server =
            Server { address, token, model: ANY_MODEL.to_owned(), context: None, is_smolt: false };
        let Some(list) = server.list()? else {
            server.model = model.unwrap_or(ANY_MODEL).to_owned();
            return Ok(server);
        };
        let found = match model {
            Some(name) => list.iter().find(|found| found.id == name),
            None => list.first(),
        };
        // smolt's servers have one model, and know the name of its file too.
        let found = match (found, model, &list[..]) {
            (None, Some(name), [only]) if only.is_smolt() && server.knows(name)? => Some(only),
            (found, ..) => found,
        };
        let Some(found) = found else {
            let names: Vec<String> = list.iter().take(MAX_NAMED).map(|model| short(&model.id)).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(ConnectError::NoModel { found: short(model.unwrap_or_default()), known });
        };
        server.is_smolt = found.is_smolt();
        server.context = found.max_model_len.or(found.meta.as_ref().and_then(|meta| meta.n_ctx));
        server.model.clone_from(&found.id);
        Ok(server)
    }

    /// What it is called, for people.
    pub(in crate::cli) fn name(&self) -> String {
        short(&self.model)
    }

    fn get(&self, path: &str) -> Result<Response, ConnectError> {
        let request = Request { body: None, path, token: self.token.as_deref() };
        http::ask(&self.address, &request, &CancelHandle::new())
    }

    /// Its models; nothing where it lists none.
    fn list(&self) -> Result<Option<Vec<Model>>, ConnectError> {
        let response = self.get("/models")?;
        match response.status {
            200 => {}
            404 | 405 | 501 => return Ok(None),
            _ => return Err(refusal(response)),
        }
        let bytes = response.body.read_all("a list of models", MAX_LIST)?;
        let list: List = serde_json::from_slice(&bytes).map_err(|error| ConnectError::Foreign {
            reason: format!("its models cannot be read: {error}"),
        })?;
        Ok(Some(list.data))
    }

    /// Whether it has a model of this name, which it does not list.
    fn knows(&self, name: &str) -> Result<bool, ConnectError> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~:".contains(c);
        if name.is_empty() || name.starts_with('.') || name.len() > MAX_NAME || !name.chars().all(is_plain) {
            return Ok(false);
        }
        Ok(self.get(&format!("/models/{name}"))?.status == 200)
    }

    /// Asks for an answer to a conversation. A busy server is asked again, a few times; `wait` is told the seconds.
    ///
    /// # Errors
    /// If it refuses, or it was cancelled.
    pub(in crate::cli) fn ask(
        &self,
        body: &Value,
        cancel: &CancelHandle,
        wait: impl Fn(u64),
    ) -> Result<Answering, ConnectError> {
        let body = body.to_string();
        let (body, token) = (Some(body.as_bytes()), self.token.as_deref());
        let mut tries = 0;
        loop {
            let request = Request { body, path: "/chat/completions", token };
            let response = http::ask(&self.address, &request, cancel)?;
            if response.status == 200 {
                if !response.is_stream {
                    return Err(ConnectError::Foreign {
                        reason: "it does not stream its answers".to_owned(),
                    });
                }
                return Ok(Answering::new(Events::new(response.body)));
            }
            let (status, retry_after) = (response.status, response.retry_after);
            let error = refusal(response);
            if !matches!(status, 429 | 503) || tries == MAX_RETRIES {
                return Err(error);
            }
            tries += 1;
            let seconds = retry_after.unwrap_or(1).max(tries).min(MAX_WAIT);
            wait(seconds);
            sleep(Duration::from_secs(seconds), cancel)?;
        }
    }
}

fn short(name: &str) -> String {
    name.chars().take(MAX_NAME).collect()
}

/// Waits, unless it is cancelled.
fn sleep(time: Duration, cancel: &CancelHandle) -> Result<(), ConnectError> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        if cancel.is_cancelled() {
            return Err(ConnectError::Cancelled);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// What a response that is none says.
fn refusal(response: Response) -> ConnectError {
    let status = response.status;
    let bytes = match response.body.read_all("an error", MAX_ERROR) {
        Ok(bytes) => bytes,
        Err(ConnectError::Cancelled) => return ConnectError::Cancelled,
        Err(_) => vec![],
    };
    let body: Option<Value> = serde_json::from_slice(&bytes).ok();
    let error = body.as_ref().and_then(|body| body.get("error"));
    let text = |key: &str| error.and_then(|error| error.get(key)).and_then(Value::as_str);
    let code = match (text("code"), text("type")) {
        (Some("context_length_exceeded"), _) | (_, Some("exceed_context_size_error")) => Code::TooLong,
        (Some("system_locked"), _) => Code::Locked,
        _ => Code::Other,
    };
    let message = match error {
        Some(error) => message_of(error),
        None if (300..400).contains(&status) => "it is somewhere else".to_owned(),
        None => "it does not say why".to_owned(),
    };
    ConnectError::Refused { status, message, code }
}
