//! POST requests.
//!
//! A new connection for each: incidents are rare, and what was open for an hour is closed when it is needed. No redirect
//! is followed and no proxy asked.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1;
use hyper::header::RETRY_AFTER;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use super::target::check_url;
use super::{Again, Failure, Notice, Target, tls};
use crate::harmless::escape_short;

/// Longest secret, in bytes.
const SECRET_BYTES_MAX: u64 = 4096;
/// Of an answer that says no, so much is read.
const ANSWER_BYTES_MAX: usize = 4096;

/// Sends the notices of one target.
pub(super) struct Webhook {
    runtime: Runtime,
    /// Made when it is first needed.
    tls: Option<Arc<ClientConfig>>,
}

impl Webhook {
    pub(super) fn new() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self { runtime, tls: None })
    }

    pub(super) fn send(
        &mut self,
        target: &Target,
        notice: &Notice,
        lost_before: u64,
        timeout: Duration,
    ) -> Result<(), Failure> {
        let uri = url(target)?;
        let secret = secret(target)?;
        let shape = target.shape.unwrap_or_default();
        let body = shape.body(notice, lost_before, secret.as_deref());
        let mut request = Request::post(uri.path_and_query().map_or("/", |path| path.as_str()))
            .header("host", uri.authority().map_or("", |host| host.as_str()))
            .header(
                "user-agent",
                concat!("recorder/", env!("CARGO_PKG_VERSION")),
            )
            .header("content-type", shape.content_type())
            .header("connection", "close");
        if let (Some(secret), super::Shape::Json | super::Shape::Cloudevents) = (&secret, shape) {
            request = request.header("authorization", format!("Bearer {secret}"));
        }
        let request = request
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|_| Failure::again("the secret has characters that no header can have"))?;
        let tls = match uri.scheme_str() {
            Some("https") => Some(self.tls(target)?),
            _ => None,
        };
        let exchange = async {
            tokio::time::timeout(timeout, exchange(&uri, tls, request))
                .await
                .unwrap_or_else(|_| {
                    let seconds = timeout.as_secs_f64();
                    Err(Failure::again(format!("no answer within {seconds} s")))
                })
        };
        self.runtime.block_on(exchange)
    }

    fn tls(&mut self, target: &Target) -> Result<Arc<ClientConfig>, Failure> {
        if self.tls.is_none() {
            let config = tls::config(target.ca_file.as_deref()).map_err(Failure::again)?;
            self.tls = Some(config);
        }
        self.tls.clone().ok_or_else(|| Failure::again("no TLS"))
    }
}

/// Returns where to: read each time, so that what changes on the disk is taken without a restart.
fn url(target: &Target) -> Result<Uri, Failure> {
    let url = match (&target.url, &target.url_file) {
        (Some(url), _) => url.clone(),
        (None, Some(file)) => read(file)?,
        (None, None) => return Err(Failure::again("there is no url")),
    };
    check_url(&url).map_err(Failure::again)
}

fn secret(target: &Target) -> Result<Option<String>, Failure> {
    match (&target.secret_file, &target.secret_env) {
        (Some(file), _) => read(file).map(Some),
        (None, Some(name)) => match std::env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Failure::again(format!("secret_env {name}: it is not set"))),
        },
        (None, None) => Ok(None),
    }
}

/// Reads the one line of a file.
fn read(path: &std::path::Path) -> Result<String, Failure> {
    let failed = |why: String| Failure::again(format!("{}: {why}", path.display()));
    let metadata = fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if !metadata.is_file() || metadata.len() > SECRET_BYTES_MAX {
        return Err(failed("it is not a short file".to_owned()));
    }
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    match text.trim() {
        "" => Err(failed("it is empty".to_owned())),
        line => Ok(line.to_owned()),
    }
}

async fn exchange(
    uri: &Uri,
    tls: Option<Arc<ClientConfig>>,
    request: Request<Full<Bytes>>,
) -> Result<(), Failure> {
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri
        .port_u16()
        .unwrap_or(if tls.is_some() { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await;
    let stream = stream
        .map_err(|error| Failure::again(format!("cannot connect to {host}:{port}: {error}")))?;
    let Some(config) = tls else {
        return post(stream, request).await;
    };
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|_| Failure::again(format!("{host} is no name of a server")))?;
    let stream = TlsConnector::from(config).connect(name, stream).await;
    let stream = stream.map_err(|error| Failure::again(format!("no TLS with {host}: {error}")))?;
    post(stream, request).await
}

async fn post<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| Failure::again(format!("the answer is none: {error}"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    let judged = judge(response).await;
    connection.abort();
    judged
}

async fn judge<B>(response: Response<B>) -> Result<(), Failure>
where
    B: Body<Data: Send> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let wanted = response.headers().get(RETRY_AFTER);
    let wanted = wanted.and_then(|value| value.to_str().ok()?.parse().ok());
    let again = match status {
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::SERVICE_UNAVAILABLE => wanted.map_or(Again::Yes, |seconds| {
            Again::After(Duration::from_secs(seconds))
        }),
        // Perhaps the token is being replaced.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Again::Yes,
        status if status.is_client_error() => Again::No,
        _ => Again::Yes,
    };
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let said = String::from_utf8_lossy(&body);
    let why = match said.trim() {
        "" => status.to_string(),
        said => format!("{status}: {}", escape_short(said, 200)),
    };
    Err(Failure { why, again })
}
