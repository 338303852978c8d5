//! Connections of the control socket and of the listener for metrics: who may connect, and what a connection may cost.
//!
//! | limit | |
//! |---|---|
//! | connections | 128, further ones are told so and closed |
//! | head of a request | 16 KiB, 64 headers, 10 s |
//! | body of a request | 64 KiB, with the rest of the request 30 s |
//! | a client that takes nothing of its answer | 5 min |

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
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
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
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
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
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

/// Serves a connection if there is a place for it.
fn admit<S>(stream: S, router: Router, places: &Arc<Semaphore>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match Arc::clone(places).try_acquire_owned() {
        Ok(place) => {
            tokio::spawn(connection(stream, router, place));
        }
        Err(_) => {
            tokio::spawn(turn_away(stream));
        }
    }
}

async fn connection<S>(stream: S, router: Router, _place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
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
            let router = Router::new().route("/", get(|| async { "here" })).route(
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
    fn too_many_connections_are_told_so() {
        with_server(|path| async move {
            let mut idle = Vec::new();
            for _ in 0..CONNECTIONS_MAX {
                idle.push(UnixStream::connect(&path).await.expect("it listens"));
                tokio::task::yield_now().await;
            }
            let answer = ask(&path, GET).await;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            let body = answer.rsplit("\r\n\r\n").next().unwrap_or_default();
            let length = format!("content-length: {}\r\n", body.len());
            assert!(answer.contains(&length), "{answer}");
            idle.pop();
            let mut answer = String::new();
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
