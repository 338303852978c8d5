//! `GET /v1/incidents`: the incidents whose dumps are kept, and the dumps themselves.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{self, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::failure;
use super::query::Query;
use super::range::{Asked, range};
use super::router::Agent;
use crate::dump::SIDECAR_EXTENSION;
use crate::store::{Access, Catalog, Filter, FindError, State as Whether};

/// Incidents in one answer, unless more are asked for.
const LIMIT: u64 = 100;
/// Bytes of a dump that are read at a time.
const BLOCK_BYTES: u64 = 128 << 10;

pub(super) async fn list(State(agent): State<Arc<Agent>>, uri: Uri) -> Response {
    let filter = match filter(&uri) {
        Ok(filter) => filter,
        Err(error) => return failure(StatusCode::BAD_REQUEST, error),
    };
    let found = blocking(move || {
        let catalog = Catalog::open(&agent.state_dir, Access::Read);
        Ok(catalog.and_then(|mut catalog| catalog.list(&filter)))
    });
    match found.await {
        Ok(Ok(mut records)) => {
            records.reverse();
            Json(json!({ "incidents": records })).into_response()
        }
        Ok(Err(error)) => failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        Err(error) => unreadable(&error),
    }
}

fn filter(uri: &Uri) -> Result<Filter, String> {
    let query = Query::parse(
        uri,
        &["rule", "severity", "tag", "unit", "comm", "limit", "all"],
    )?;
    let words = |name| query.all(name).map(str::to_owned).collect::<Vec<_>>();
    let limit = query.one("limit").map_or(Ok(LIMIT), str::parse);
    Ok(Filter {
        // Those that are gone only if all are wanted.
        states: match query.one("all") {
            Some("1") => Vec::new(),
            _ => vec![Whether::Kept, Whether::Unwritten],
        },
        rules: words("rule"),
        severities: words("severity"),
        tags: words("tag"),
        units: words("unit"),
        comms: words("comm"),
        limit: Some(limit.map_err(|_| "limit: write a number".to_owned())?),
        ..Filter::default()
    })
}

pub(super) async fn one(
    State(agent): State<Arc<Agent>>,
    extract::Path(id): extract::Path<String>,
) -> Response {
    let found = blocking(move || {
        let catalog = Catalog::open(&agent.state_dir, Access::Read).map_err(FindError::from);
        let record = catalog.and_then(|mut catalog| catalog.find(&id));
        Ok(record.map(|record| {
            let sidecar = record.path.as_deref().and_then(sidecar);
            json!({ "record": record, "dump": sidecar })
        }))
    });
    match found.await {
        Ok(Ok(found)) => Json(found).into_response(),
        Ok(Err(error)) => not_found(&error),
        Err(error) => unreadable(&error),
    }
}

/// Reads the file beside a dump.
fn sidecar(dump: &Path) -> Option<Value> {
    let bytes = std::fs::read(dump.with_extension(SIDECAR_EXTENSION)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// A dump that is open, as it was then: that it makes way for another does not end the download.
struct Opened {
    file: Arc<File>,
    bytes: u64,
    name: String,
    sha256: Option<String>,
}

pub(super) async fn download(
    State(agent): State<Arc<Agent>>,
    extract::Path(id): extract::Path<String>,
    headers: HeaderMap,
) -> Response {
    let opened = blocking(move || {
        let catalog = Catalog::open(&agent.state_dir, Access::Read).map_err(FindError::from);
        let path = catalog.and_then(|mut catalog| catalog.find_dump(&id));
        Ok(path.map(|path| open(&path)))
    });
    let opened = match opened.await {
        Ok(Ok(Ok(opened))) => opened,
        Ok(Ok(Err(error))) | Err(error) => return unreadable(&error),
        Ok(Err(error)) => return not_found(&error),
    };
    let tag = opened.sha256.as_ref().map(|sha256| format!("\"{sha256}\""));
    let same = |name| {
        let given = headers.get(name).and_then(|value| value.to_str().ok());
        given.map(|given| Some(given) == tag.as_deref())
    };
    if same(header::IF_NONE_MATCH) == Some(true) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let wanted = headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    // A range of another file than the one that is meant is no use.
    let wanted = wanted.filter(|_| same(header::IF_RANGE).unwrap_or(true));
    let (status, part) = match range(wanted, opened.bytes) {
        Asked::All => (StatusCode::OK, 0..opened.bytes),
        Asked::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Asked::Nothing => {
            let mut response = failure(
                StatusCode::RANGE_NOT_SATISFIABLE,
                format!("the dump has {} bytes", opened.bytes),
            );
            let all = format!("bytes */{}", opened.bytes);
            insert(response.headers_mut(), header::CONTENT_RANGE, &all);
            return response;
        }
    };
    let mut response = Body::from_stream(blocks(opened.file, part.clone())).into_response();
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status == StatusCode::PARTIAL_CONTENT {
        let of = format!("bytes {}-{}/{}", part.start, part.end - 1, opened.bytes);
        insert(headers, header::CONTENT_RANGE, &of);
    }
    let length = (part.end - part.start).to_string();
    insert(headers, header::CONTENT_LENGTH, &length);
    insert(headers, header::CONTENT_TYPE, "application/octet-stream");
    insert(headers, header::ACCEPT_RANGES, "bytes");
    let disposition = format!("attachment; filename=\"{}\"", opened.name);
    insert(headers, header::CONTENT_DISPOSITION, &disposition);
    if let Some(tag) = tag {
        insert(headers, header::ETAG, &tag);
    }
    response
}

fn open(path: &Path) -> io::Result<Opened> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    let sidecar = sidecar(path);
    let sha256 = sidecar.and_then(|sidecar| Some(sidecar["sha256"].as_str()?.to_owned()));
    Ok(Opened {
        file: Arc::new(file),
        bytes: metadata.len(),
        name: match name.bytes().all(|byte| is_plain(&byte)) {
            true => name.into_owned(),
            false => "dump.mcap".to_owned(),
        },
        sha256,
    })
}

/// Reads a part of a file, block by block, as they are taken. Between two blocks no thread is kept.
fn blocks(
    file: Arc<File>,
    part: Range<u64>,
) -> impl stream::Stream<Item = io::Result<Vec<u8>>> + Send + 'static {
    stream::try_unfold((file, part), |(file, part)| async move {
        if part.is_empty() {
            return Ok(None);
        }
        let count = BLOCK_BYTES.min(part.end - part.start);
        let reading = Arc::clone(&file);
        let at = part.start;
        let block = blocking(move || {
            // At most one block.
            let mut block = vec![0; count as usize];
            reading.read_exact_at(&mut block, at)?;
            Ok(block)
        });
        let block = block.await?;
        Ok(Some((block, (file, part.start + count..part.end))))
    })
}

/// Does what may wait for a disk where nobody waits for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

fn insert(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn not_found(error: &FindError) -> Response {
    let status = match error {
        FindError::None { .. } | FindError::Empty(_) | FindError::NoDump { .. } => {
            StatusCode::NOT_FOUND
        }
        FindError::Several { .. } => StatusCode::CONFLICT,
        FindError::Catalog(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    failure(status, error.to_string())
}

fn unreadable(error: &io::Error) -> Response {
    let error = format!("the dumps cannot be read: {error}");
    failure(StatusCode::INTERNAL_SERVER_ERROR, error)
}
