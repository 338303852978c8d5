//! `recorder serve`: the incidents of this host, or of a folder of dumps from many, as pages for a browser.
//!
//! ```text
//! $ recorder serve /srv/incidents
//! http://127.0.0.1:8744/ shows the dumps in /srv/incidents; end it with Ctrl-C
//! ```
//!
//! It only reads. By default it listens on the loopback interface, and there it answers only to that name: a page of another
//! site cannot read the dumps through the visitor's browser.

mod dumps;
mod page;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use self::dumps::Dumps;
use super::reading;
use super::report::report_of;
use super::show::describe;
use crate::config::Paths;
use crate::read::Dump;
use crate::report;

/// Pages of dumps that are made at the same time: each takes a processor and the memory of a page.
const PAGES_AT_ONCE: usize = 2;

/// Show the dumps of this host, or of folders of dumps from many, in a browser
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Directories of dumps, looked through with what is below them [default: the dumps of this host]
    #[arg(value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8744")]
    listen: SocketAddr,
}

/// Runs `recorder serve`.
///
/// # Errors
///
/// A directory that cannot be read, or an address that cannot be listened on.
pub fn run(args: &Args, paths: &Paths) -> Result<ExitCode> {
    let directories = match args.directories.is_empty() {
        true => vec![paths.dumps()],
        false => args.directories.clone(),
    };
    for directory in &directories {
        std::fs::read_dir(directory)
            .with_context(|| format!("cannot read {}", directory.display()))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(serve(args.listen, directories))?;
    Ok(ExitCode::SUCCESS)
}

struct Server {
    dumps: Dumps,
    making: Semaphore,
    /// Whether it answers to the names of the loopback interface only.
    is_local: bool,
}

async fn serve(listen: SocketAddr, directories: Vec<PathBuf>) -> Result<()> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}"))?;
    let address = listener.local_addr().context("cannot listen")?;
    let list: Vec<String> = directories
        .iter()
        .map(|directory| directory.display().to_string())
        .collect();
    eprintln!(
        "http://{address}/ shows the dumps in {}; end it with Ctrl-C",
        list.join(", ")
    );
    reading::confine(&[])?;
    let is_local = address.ip().is_loopback();
    if !is_local {
        eprintln!("recorder: whoever reaches {address} can read these dumps");
    }
    let server = Arc::new(Server {
        dumps: Dumps::new(directories),
        making: Semaphore::new(PAGES_AT_ONCE),
        is_local,
    });
    let router = Router::new()
        .route("/", get(list_page))
        .route("/dump/{key}", get(dump_page))
        .route("/file/{key}", get(dump_file))
        .fallback(|| async { failure(StatusCode::NOT_FOUND, "There is no such page.") })
        .layer(middleware::from_fn_with_state(Arc::clone(&server), guard))
        .with_state(server);
    axum::serve(listener, router)
        .await
        .context("the listener broke")
}

/// Refuses what came under another name, and says what every answer is.
async fn guard(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    if server.is_local && !is_local_name(request.headers(), request.uri()) {
        return failure(StatusCode::FORBIDDEN, "This answers to localhost only.");
    }
    let mut response = next.run(request).await;
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Tells whether a request names the loopback interface.
fn is_local_name(headers: &HeaderMap, uri: &Uri) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let Some(host) = host.or_else(|| uri.authority().map(|authority| authority.as_str())) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// What of the list is wanted.
#[derive(Debug, Default, Deserialize)]
struct Wanted {
    /// Words that all occur in a row.
    #[serde(default)]
    q: String,
    /// Page of the list, from 0.
    #[serde(default)]
    page: usize,
}

async fn list_page(State(server): State<Arc<Server>>, Query(wanted): Query<Wanted>) -> Response {
    let made = tokio::task::spawn_blocking(move || {
        let rows = server.dumps.rows();
        page::list(&rows, &wanted.q, wanted.page)
    });
    match made.await {
        Ok(page) => with_policy(
            Html(page).into_response(),
            &report::policy(report::STYLE, None),
        ),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

async fn dump_page(State(server): State<Arc<Server>>, Path(key): Path<String>) -> Response {
    let Some(path) = server.dumps.path(&key) else {
        return failure(
            StatusCode::NOT_FOUND,
            "There is no such dump, or not any more.",
        );
    };
    let Ok(_one) = server.making.acquire().await else {
        return failure(StatusCode::SERVICE_UNAVAILABLE, "This is ending.");
    };
    let made = tokio::task::spawn_blocking(move || -> Result<Vec<u8>> {
        let dump = Dump::open(&path)?;
        let (report, ..) = report_of(&dump)?;
        let mut page = Vec::new();
        report::html(&mut page, &dump, &report, describe)?;
        Ok(page)
    });
    match made
        .await
        .map_err(anyhow::Error::from)
        .and_then(|made| made)
    {
        Ok(page) => Html(page).into_response(),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}")),
    }
}

async fn dump_file(State(server): State<Arc<Server>>, Path(key): Path<String>) -> Response {
    let Some(path) = server.dumps.path(&key) else {
        return failure(
            StatusCode::NOT_FOUND,
            "There is no such dump, or not any more.",
        );
    };
    let name = page::file_name(&path);
    let opened = async {
        let file = tokio::fs::File::open(&path).await?;
        let bytes = file.metadata().await?.len();
        std::io::Result::Ok((file, bytes))
    };
    let Ok((file, bytes)) = opened.await else {
        return failure(StatusCode::NOT_FOUND, "The dump cannot be read.");
    };
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, disposition),
        (header::CONTENT_LENGTH, bytes.to_string()),
    ];
    (
        headers,
        Body::from_stream(tokio_util::io::ReaderStream::new(file)),
    )
        .into_response()
}

fn failure(status: StatusCode, words: &str) -> Response {
    let page = page::failure(words);
    let policy = report::policy(report::STYLE, None);
    with_policy((status, Html(page)).into_response(), &policy)
}

fn with_policy(mut response: Response, policy: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(policy) {
        response
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_of_the_loopback_interface_are_local() {
        for (host, is_local) in [
            ("localhost", true),
            ("LOCALHOST:8744", true),
            ("127.0.0.1:8744", true),
            ("[::1]:8744", true),
            ("[::1]", true),
            ("example.com", false),
            ("localhost.example.com:8744", false),
            ("127.0.0.1.example.com", false),
            ("192.0.2.1:8744", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static(host));
            assert_eq!(
                is_local_name(&headers, &Uri::from_static("/")),
                is_local,
                "{host}"
            );
        }
        assert!(!is_local_name(&HeaderMap::new(), &Uri::from_static("/")));
    }
}
