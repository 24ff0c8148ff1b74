//! Server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::error::ApiError;

/// Events that wait for a slow reader.
const BUFFERED: usize = 16;
/// Silence after which a comment says that there is somebody, as while a long prompt is read.
const SILENCE: Duration = Duration::from_secs(10);

/// Where events go.
pub(super) struct Events(Sender<Bytes>);

impl Events {
    /// Sends an event; false if nobody listens any more.
    pub(super) async fn send(&self, event: &impl Serialize) -> bool {
        match serde_json::to_string(event) {
            Ok(json) => self.write(format!("data: {json}\n\n")).await,
            Err(_) => false,
        }
    }

    /// Sends an error, after which there is nothing more.
    pub(super) async fn fail(&self, error: ApiError) {
        self.send(&error.body).await;
    }

    /// Says that this was all.
    pub(super) async fn done(&self) {
        self.write("data: [DONE]\n\n".to_owned()).await;
    }

    /// Waits for `work`, with a comment now and then; nothing if nobody listens any more.
    pub(super) async fn during<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                () = self.0.closed() => return None,
                done = &mut work => return Some(done),
                () = tokio::time::sleep(SILENCE) => {
                    self.write(": still at work\n\n".to_owned()).await;
                }
            }
        }
    }

    async fn write(&self, text: String) -> bool {
        self.0.send(text.into()).await.is_ok()
    }
}

/// A response whose events `work` sends; it is dropped when nobody listens any more.
pub(super) fn response<F>(work: impl FnOnce(Events) -> F) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = channel(BUFFERED);
    tokio::spawn(work(Events(sender)));
    let mut response = Body::new(Stream(receiver)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// The body of such a response.
struct Stream(Receiver<Bytes>);

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
