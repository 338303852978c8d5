//! Connections of the control socket and of the listener for metrics: who may connect, and what a connection may cost.
//!
//! | limit | |
//! |---|---|
//! | connections | 128; for a further one the oldest makes way that is asking for nothing, else it is told so and closed |
//! | head of a request | 16 KiB, 64 headers, 10 s |
//! | body of a request | 64 KiB, with the rest of the request 30 s |
//! | a client that takes nothing of its answer | 5 min |

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::{Extension, Router};
use hyper::body::{Frame, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep, timeout};

use super::failure;
use super::peer::Peer;

/// Most connections at once.
const CONNECTIONS_MAX: usize = 128;
/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Most headers of a request.
const HEADERS_MAX: usize = 64;
/// Longest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;
/// How long the head of a request may take, and the next request on the same connection be awaited.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// How long a request may take until its answer begins.
const REQUEST_PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may take nothing of its answer.
const STALL_PATIENCE: Duration = Duration::from_secs(5 * 60);
/// Before a listener that could not accept is asked again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers on the control socket for as long as it is polled.
pub async fn serve(listener: UnixListener, router: Router) {
    let router = limited(router);
    let places = Places::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let peer = Peer::of(&stream);
                admit(stream, router.clone().layer(Extension(peer)), &places);
            }
            // No descriptor is left, say: an agent that can be asked later is better than none.
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// The same over TCP, for what everybody may see.
pub async fn serve_tcp(listener: TcpListener, router: Router) {
    let router = limited(router);
    let places = Places::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => admit(stream, router.clone(), &places),
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

fn limited(router: Router) -> Router {
    router
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(in_time))
}

async fn in_time(request: Request, next: Next) -> Response {
    match timeout(REQUEST_PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => failure(
            StatusCode::REQUEST_TIMEOUT,
            "the request took too long".to_owned(),
        ),
    }
}

/// The connections that are being served, oldest first.
#[derive(Clone, Debug, Default)]
struct Places(Arc<Mutex<Vec<Arc<Place>>>>);

/// A connection that is being served.
#[derive(Debug, Default)]
struct Place {
    /// Requests that are there whole and whose answer is not over.
    asked: AtomicUsize,
    /// Told when it is to make way.
    leave: Notify,
}

impl Places {
    /// Gives out a place, if need be that of the connection that has been there longest without asking for something.
    fn take(&self) -> Option<Arc<Place>> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= CONNECTIONS_MAX {
            let is_idle = |place: &Arc<Place>| place.asked.load(Ordering::Relaxed) == 0;
            let idle = places.iter().position(is_idle)?;
            places.remove(idle).leave.notify_one();
        }
        let place = Arc::new(Place::default());
        places.push(Arc::clone(&place));
        Some(place)
    }

    fn give_back(&self, place: &Arc<Place>) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|other| !Arc::ptr_eq(other, place));
    }
}

/// A request, from its head to the end of its answer.
struct Asked {
    place: Arc<Place>,
    is_whole: AtomicBool,
}

impl Asked {
    fn new(place: &Arc<Place>) -> Self {
        Self {
            place: Arc::clone(place),
            is_whole: AtomicBool::new(false),
        }
    }

    /// All of it is there.
    fn whole(&self) {
        if !self.is_whole.swap(true, Ordering::Relaxed) {
            self.place.asked.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.is_whole.load(Ordering::Relaxed) {
            self.place.asked.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A body of a request, which is whole at its end, or of its answer, which is over once the last of it is on its way.
struct Part {
    body: Body,
    asked: Arc<Asked>,
}

impl HttpBody for Part {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() || self.body.is_end_stream() {
            self.asked.whole();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Serves a connection if there is a place for it.
fn admit<S>(stream: S, router: Router, places: &Places)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(place) = places.take() else {
        tokio::spawn(turn_away(stream));
        return;
    };
    let places = places.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = connection(stream, router, &place) => {}
            () = place.leave.notified() => {}
        }
        places.give_back(&place);
    });
}

async fn connection<S>(stream: S, router: Router, place: &Arc<Place>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let place = Arc::clone(place);
    let router = router.layer(from_fn(move |request: Request, next: Next| {
        let asked = Arc::new(Asked::new(&place));
        let part = |asked: &Arc<Asked>, body| {
            let asked = Arc::clone(asked);
            Body::new(Part { body, asked })
        };
        async move {
            if request.body().is_end_stream() {
                asked.whole();
            }
            let request = request.map(|body| part(&asked, body));
            let answer = next.run(request).await;
            asked.whole();
            answer.map(|body| part(&asked, body))
        }
    }));
    let stream = TokioIo::new(Patient::new(stream));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(stream, TowerToHyperService::new(router))
        .await;
    // Whoever sends garbage, or goes away, has been told what there is to tell.
    drop(served);
}

/// Says that there is no place; never waits for who does not listen.
async fn turn_away<S: AsyncWrite + Unpin>(mut stream: S) {
    const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
        content-length: 49\r\nconnection: close\r\n\r\n{\"error\":\"too many connections: try again later\"}";
    let write = pin!(stream.write_all(FULL));
    let _ = timeout(ACCEPT_PAUSE, write).await;
}

/// A stream that fails once its other end has taken nothing for too long.
struct Patient<S> {
    stream: S,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            stalled: None,
        }
    }

    /// Passes on what came of a write, unless none has come of it for too long.
    fn judge<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(STALL_PATIENCE)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(written, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.judge(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixStream;

    use super::*;

    /// Serves on a socket of its own and lets `talk` talk.
    fn with_server<F: Future<Output = ()>>(talk: impl FnOnce(std::path::PathBuf) -> F) {
        let directory = tempfile::tempdir().expect("there is room for tests");
        let path = directory.path().join("socket");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let listener = UnixListener::bind(&path).expect("the directory is ours");
            let router = Router::new()
                .route("/", get(|| async { "here" }))
                .route("/slow", get(std::future::pending::<&str>))
                .route(
                    "/",
                    post(|body: String| async move { body.len().to_string() }),
                );
            tokio::spawn(serve(listener, router));
            timeout(Duration::from_secs(60), talk(path))
                .await
                .expect("it does not hang");
        });
    }

    /// Writes all of `bytes`, as far as they are taken, and returns the answer.
    async fn ask(path: &std::path::Path, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).await.expect("it listens");
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    const SLOW: &[u8] = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n";

    #[test]
    fn garbage_is_refused_and_the_next_is_served() {
        with_server(|path| async move {
            for garbage in [&b"\0\xff\x1b[2J\r\n\r\n"[..], b"GET", b"", b"\r\n\r\n\r\n"] {
                let mut stream = UnixStream::connect(&path).await.expect("it listens");
                let _ = stream.write_all(garbage).await;
                let _ = stream.shutdown().await;
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer).await;
                assert!(!answer.starts_with(b"HTTP/1.1 200"));
            }
            assert!(ask(&path, GET).await.ends_with("here"));
        });
    }

    #[test]
    fn a_head_without_end_is_cut_off() {
        with_server(|path| async move {
            let mut stream = UnixStream::connect(&path).await.expect("it listens");
            let block = vec![b'a'; 1 << 20];
            let mut taken = 0_u64;
            // It stops taking long before a billion.
            while let Ok(count @ 1..) = stream.write(&block).await {
                taken += count as u64;
                assert!(taken < 4 << 20, "{taken}");
            }
            let many: String = (0..100).map(|n| format!("x-{n}: y\r\n")).collect();
            let head = format!("GET / HTTP/1.1\r\n{many}\r\n");
            assert!(ask(&path, head.as_bytes()).await.contains(" 431 "));
            assert!(ask(&path, GET).await.ends_with("here"));
        });
    }

    #[test]
    fn a_body_that_is_too_long_is_refused() {
        with_server(|path| async move {
            let head = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: ";
            let long = format!("{head}1000000000\r\n\r\n{}", "x".repeat(1 << 20));
            assert!(ask(&path, long.as_bytes()).await.contains(" 413 "));
            let short = format!("{head}4\r\n\r\nabcd");
            assert!(ask(&path, short.as_bytes()).await.ends_with("\r\n4"));
        });
    }

    #[test]
    fn who_asks_for_nothing_makes_way() {
        with_server(|path| async move {
            let mut idle = Vec::new();
            for _ in 0..3 * CONNECTIONS_MAX {
                let mut stream = UnixStream::connect(&path).await.expect("it listens");
                // Half a request, for ever; the oldest ones are closed by then.
                let half: &[u8] = match idle.len() % 2 {
                    0 => b"GET / HT",
                    _ => b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nx",
                };
                let _ = stream.write_all(half).await;
                idle.push(stream);
                tokio::task::yield_now().await;
            }
            assert!(ask(&path, GET).await.ends_with("here"));
            let mut first = Vec::new();
            let _ = idle[0].read_to_end(&mut first).await;
            assert!(first.is_empty(), "it was closed, not answered");
        });
    }

    #[test]
    fn who_waits_for_an_answer_stays_and_further_ones_are_told_so() {
        with_server(|path| async move {
            let mut asking = Vec::new();
            for _ in 0..CONNECTIONS_MAX {
                let mut stream = UnixStream::connect(&path).await.expect("it listens");
                stream.write_all(SLOW).await.expect("it reads");
                asking.push(stream);
            }
            // Until all of them are being answered.
            let mut answer = String::new();
            for _ in 0..100 {
                answer = ask(&path, GET).await;
                if answer.starts_with("HTTP/1.1 503 ") {
                    break;
                }
                sleep(Duration::from_millis(10)).await;
            }
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            let body = answer.rsplit("\r\n\r\n").next().unwrap_or_default();
            let length = format!("content-length: {}\r\n", body.len());
            assert!(answer.contains(&length), "{answer}");
            asking.pop();
            for _ in 0..100 {
                answer = ask(&path, GET).await;
                if answer.ends_with("here") {
                    break;
                }
                sleep(Duration::from_millis(10)).await;
            }
            assert!(answer.ends_with("here"), "{answer}");
        });
    }
}
