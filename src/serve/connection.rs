//! One connection: the head of a request, a place, the answer, the end. There is one request on each connection, so none
//! takes a place while nothing is asked.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::crowd::{Crowd, Member};
use super::error::ApiError;
use super::guard::Guard;
use super::head::{self, Head, MOST_HEADERS};
use super::headers::{raw, too_slow};
use super::metrics::OTHER;
use super::options::Limits;
use super::socket::{Io, Socket};

/// Requests at once that ask how the server is where all places are taken.
const PROBES: usize = 16;
/// How long a body may have been waited for where others want its place.
const BODY_PATIENCE: Duration = Duration::from_secs(1);
/// How long such a place takes to become free.
const HANDOVER: Duration = Duration::from_millis(200);
/// Bytes that hyper keeps of a request or an answer; it takes no fewer.
const BUFFER: usize = 8 << 10;
/// Connections at once that are answered but still send.
const LINGERING: usize = 32;
/// How long, and with how many bytes, they may.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 << 20;

/// What all connections share.
pub(super) struct Connections {
    guard: Guard,
    limits: Limits,
    /// Connections that have not sent a head yet.
    pub(super) heads: Arc<Crowd>,
    places: Arc<Semaphore>,
    probes: Arc<Semaphore>,
    lingering: Semaphore,
}

impl Connections {
    pub(super) fn new(guard: Guard) -> Connections {
        let limits = guard.limits;
        Connections {
            guard,
            limits,
            heads: Crowd::new(limits.waiting),
            places: Arc::new(Semaphore::new(limits.connections)),
            probes: Arc::new(Semaphore::new(PROBES)),
            lingering: Semaphore::new(LINGERING),
        }
    }

    /// Serves a connection. Until its head has come whole it holds nothing but the bytes that came.
    pub(super) async fn serve(self: Arc<Self>, mut socket: Socket, mut member: Member) {
        let _connected = self.guard.metrics.connected();
        let head = tokio::select! {
            biased;
            head = timeout(self.limits.head_time, head::read(&socket)) => head,
            () = member.sent_away() => return,
        };
        drop(member);
        let refused = match head {
            Ok(Ok(Ok(head))) => match self.place(&head).await {
                Ok(place) => return Box::pin(self.converse(socket, head, place)).await,
                Err(error) => error,
            },
            Ok(Ok(Err(error))) => error,
            Ok(Err(_)) => return,
            Err(_) => too_slow("the head of the request did not come in time"),
        };
        self.guard.metrics.answered(OTHER, refused.status.as_u16());
        // Who is gone does not read it.
        _ = socket.write_now(&raw(&refused));
        self.linger(&mut socket).await;
    }

    /// Finds a place for a request.
    async fn place(&self, head: &Head) -> Result<OwnedSemaphorePermit, ApiError> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        if head.is_probe
            && let Ok(place) = Arc::clone(&self.probes).try_acquire_owned()
        {
            return Ok(place);
        }
        // Who has not even sent a body makes room.
        if self.guard.bodies.send_away(BODY_PATIENCE)
            && let Ok(Ok(place)) = timeout(HANDOVER, Arc::clone(&self.places).acquire_owned()).await
        {
            return Ok(place);
        }
        Err(ApiError::unavailable("there are too many requests"))
    }

    /// Answers a request. Who closes the connection is not answered: what was under way for it is dropped at once.
    async fn converse(self: Arc<Self>, socket: Socket, head: Head, place: OwnedSemaphorePermit) {
        let socket = Arc::new(socket);
        let unread = AtomicBool::new(false);
        {
            let io = TokioIo::new(Io::new(Arc::clone(&socket), head.bytes, self.limits.write_time));
            let service = service_fn(async |request: hyper::Request<hyper::body::Incoming>| {
                Ok::<_, Infallible>(self.guard.answer(request.map(Body::new), &unread).await)
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(self.limits.head_time)
                .max_headers(MOST_HEADERS)
                .max_buf_size(BUFFER)
                .keep_alive(false)
                .half_close(false)
                .serve_connection(io, service);
            let connection = pin!(connection);
            tokio::select! {
                biased;
                _ = connection => {}
                () = socket.closed() => return,
            }
        }
        drop(place);
        let Ok(mut socket) = Arc::try_unwrap(socket) else { return };
        // What nobody reads would make the system take back an answer that is still on its way.
        if unread.load(Ordering::Relaxed) || socket.read_now(&mut vec![]).is_ok_and(|count| count > 0) {
            self.linger(&mut socket).await;
        }
    }

    /// Reads what an answered client still sends, so that it can read the answer.
    async fn linger(&self, socket: &mut Socket) {
        let Ok(_place) = self.lingering.try_acquire() else { return };
        let reading = async {
            socket.shut_down().await?;
            let (mut bytes, mut total) = (vec![], 0);
            while total < LINGER_BYTES {
                bytes.clear();
                match socket.read(&mut bytes).await? {
                    0 => break,
                    count => total += count,
                }
            }
            std::io::Result::Ok(())
        };
        // It is over either way.
        _ = timeout(LINGER_TIME, reading).await;
    }
}
