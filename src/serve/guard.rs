//! Who may ask what, before anything is routed, and what every response says.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::MatchedPath;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body::{Frame, SizeHint};
use tower_service::Service;

use super::bearer::Tokens;
use super::crowd::{Crowd, Kept};
use super::error::ApiError;
use super::headers::{REQUEST_ID, complete, request_id, too_slow};
use super::hosts::Hosts;
use super::metrics::{Metrics, OTHER};
use super::options::Limits;
use super::{page, panics};

/// How the server is: answered without a token, and where there are too many requests.
pub(super) const PROBES: [&str; 3] = ["/health", "/v1/health", "/ready"];

/// Lets requests in, and completes responses.
pub(super) struct Guard {
    pub(super) hosts: Hosts,
    pub(super) tokens: Option<Tokens>,
    pub(super) router: Router,
    pub(super) metrics: Arc<Metrics>,
    pub(super) limits: Limits,
    /// Requests whose body has not come whole.
    pub(super) bodies: Arc<Crowd>,
}

impl Guard {
    /// Answers a request. `unread` is told whether more of it may come.
    pub(super) async fn answer(&self, request: Request<Body>, unread: &AtomicBool) -> Response {
        let (begun, id) = (Instant::now(), request_id(request.headers().get(REQUEST_ID)));
        unread.store(!request.body().is_end_stream(), Ordering::Relaxed);
        let mut response = match self.let_in(request, unread).await {
            Ok(request) => self.route(request).await,
            Err(error) => refused(error),
        };
        complete(&mut response, id);
        let route = response.extensions().get::<MatchedPath>().map_or(OTHER, MatchedPath::as_str);
        self.metrics.answered(route, response.status().as_u16());
        let metrics = Arc::clone(&self.metrics);
        response.map(|body| Body::new(Timed { body, begun, metrics }))
    }

    /// Lets a request in, with its whole body if it may have one.
    async fn let_in(&self, request: Request<Body>, unread: &AtomicBool) -> Result<Request<Body>, ApiError> {
        let (method, headers) = (request.method(), request.headers());
        self.hosts.check(request.uri(), headers)?;
        if *method == Method::OPTIONS {
            return Err(ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "invalid_request_error",
                "pages of other servers may not ask",
            ));
        }
        let path = request.uri().path();
        let is_open = PROBES.contains(&path) || page::is_part(path);
        if self.tokens.as_ref().is_some_and(|tokens| !is_open && !tokens.has(headers)) {
            return Err(ApiError::unauthorized());
        }
        if *method != Method::POST || is_open {
            return Ok(request);
        }
        if !is_json(headers) {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "invalid_request_error",
                "the header Content-Type must be application/json",
            ));
        }
        let request = self.with_body(request).await?;
        unread.store(false, Ordering::Relaxed);
        Ok(request)
    }

    /// Reads the body of a request.
    async fn with_body(&self, request: Request<Body>) -> Result<Request<Body>, ApiError> {
        let most = self.limits.body_bytes;
        let too_large = || {
            let message = format!("the body has more than {most} bytes");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message))
        };
        let (parts, body) = request.into_parts();
        if body.size_hint().lower() > most as u64 {
            return too_large();
        }
        let mut member = self.bodies.enter();
        let read = tokio::select! {
            biased;
            read = read_whole(body, most, self.bodies.keep()) => read,
            () = member.sent_away() => return Err(ApiError::unavailable("there are too many requests")),
            () = tokio::time::sleep(self.limits.body_time) => {
                return Err(too_slow("the body of the request did not come in time"));
            }
        };
        match read {
            Ok(Some(bytes)) => Ok(Request::from_parts(parts, Body::from(bytes))),
            Ok(None) => too_large(),
            Err(_) => Err(ApiError::invalid("the body of the request breaks off, or is no body")),
        }
    }

    /// Hands a request to its handler. If that panics, only this request is lost.
    async fn route(&self, request: Request<Body>) -> Response {
        let mut router = self.router.clone();
        let Ok(called) = catch_unwind(AssertUnwindSafe(|| router.call(request))) else {
            return failed();
        };
        let mut called = pin!(called);
        let answered =
            poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| called.as_mut().poll(context))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(Ok(response))) => Poll::Ready(response),
                Err(_) => Poll::Ready(failed()),
            });
        answered.await
    }
}

/// An error, with what clients are told of how to ask.
fn refused(error: ApiError) -> Response {
    let told = match error.status {
        StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
        StatusCode::METHOD_NOT_ALLOWED => Some((header::ALLOW, "GET, HEAD, POST")),
        _ => None,
    };
    let mut response = error.into_response();
    if let Some((name, value)) = told {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What is answered where the program fails.
fn failed() -> Response {
    panics::caught();
    ApiError::internal("the program failed at this request").into_response()
}

/// Whether a body says that it is JSON, which no page of another server can say without asking first.
fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next().map(HeaderValue::to_str), values.next()) else { return false };
    let kind = value.unwrap_or_default().split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

/// Reads a body; nothing if it has more than `most` bytes.
async fn read_whole(mut body: Body, most: usize, mut kept: Kept) -> Result<Option<Vec<u8>>, axum::Error> {
    let mut bytes = vec![];
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        // Trailers mean nothing here.
        let Ok(data) = frame?.into_data() else { continue };
        if data.len() > most - bytes.len() {
            return Ok(None);
        }
        kept.add(data.len());
        bytes.extend_from_slice(&data);
    }
    Ok(Some(bytes))
}

/// The body of a response, whose end is the end of its request.
struct Timed {
    body: Body,
    begun: Instant,
    metrics: Arc<Metrics>,
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.metrics.took(self.begun.elapsed());
    }
}
