//! `GET /v1/events`: live events as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use jiff::Timestamp;
use recorder_ebpf::abi::Lane;
use tokio::time::timeout;

use super::failure;
use super::query::Query;
use super::router::Agent;
use crate::config::parse_duration;
use crate::event::Selection;
use crate::ingest::{now_boot_ns, now_pair};
use crate::live::{Format, Request};

/// After how long without an event a comment shows that the stream lives.
const ALIVE: Duration = Duration::from_secs(15);
/// Most values of all filters.
const VALUES_MAX: usize = 256;

pub(super) async fn stream(State(agent): State<Arc<Agent>>, uri: Uri) -> Response {
    let request = match request(&uri) {
        Ok(request) => request,
        Err(error) => return failure(StatusCode::BAD_REQUEST, error),
    };
    let Some(reader) = agent.live.subscribe(request) else {
        let error = "as many read live events as may: end another reader, or try again later";
        return failure(StatusCode::SERVICE_UNAVAILABLE, error.to_owned());
    };
    let hello = b": live events of a recorder\n\n".to_vec();
    let chunks = stream::unfold((Some(hello), reader), |(hello, mut reader)| async move {
        let chunk = match hello {
            Some(hello) => hello,
            None => match timeout(ALIVE, reader.next()).await {
                Ok(chunk) => chunk?,
                Err(_) => b": alive\n\n".to_vec(),
            },
        };
        Some((Ok::<_, Infallible>(chunk), (None, reader)))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Body::from_stream(chunks)).into_response()
}

fn request(uri: &Uri) -> Result<Request, String> {
    let known = ["type", "pid", "comm", "unit", "lane", "since", "format"];
    let query = Query::parse(uri, &known)?;
    let words = |name| query.all(name).map(str::to_owned).collect::<Vec<_>>();
    if known
        .iter()
        .map(|name| query.all(name).count())
        .sum::<usize>()
        > VALUES_MAX
    {
        return Err(format!("more than {VALUES_MAX} values"));
    }
    let pids = query.all("pid").map(|pid| {
        pid.parse()
            .map_err(|_| format!("pid: {pid:?} is no process id"))
    });
    let lanes = query.all("lane").map(|name| {
        let lane = Lane::ALL.into_iter().find(|lane| lane.name() == name);
        lane.ok_or_else(|| format!("lane: {name:?}: there are failure, lifecycle, sample"))
    });
    let format = match query.one("format") {
        None | Some("json") => Format::Json,
        Some("protobuf") => Format::Protobuf,
        Some(other) => return Err(format!("format: {other:?}: there are json, protobuf")),
    };
    Ok(Request {
        selection: Selection {
            types: words("type"),
            pids: pids.collect::<Result<_, _>>()?,
            comms: words("comm"),
            units: words("unit"),
            lanes: lanes.collect::<Result<_, _>>()?,
        },
        format,
        since_boot_ns: query.one("since").map(since).transpose()?,
    })
}

/// Reads how far back: "30s", or a time.
fn since(text: &str) -> Result<u64, String> {
    if let Ok(span) = parse_duration(text) {
        let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        return Ok(now_boot_ns().saturating_sub(span));
    }
    let time: Timestamp = text
        .parse()
        .map_err(|_| format!("since: {text:?}: write 30s, or 2026-11-23T09:00:00Z"))?;
    let now = now_pair();
    let ago = i128::from(now.unix_ns) - time.as_nanosecond();
    let ago = u64::try_from(ago.max(0)).unwrap_or(u64::MAX);
    Ok(now.boot_ns.saturating_sub(ago))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Request, String> {
        request(&text.parse().expect("a URI"))
    }

    #[test]
    fn filters_are_read_and_nonsense_is_named() {
        let request =
            of("/v1/events?type=process&pid=7&pid=8&lane=failure&since=5s&format=protobuf")
                .expect("valid");
        assert_eq!(request.selection.pids, [7, 8]);
        assert_eq!(request.selection.lanes, [Lane::Failure]);
        assert_eq!(request.format, Format::Protobuf);
        assert!(
            request
                .since_boot_ns
                .is_some_and(|since| since < now_boot_ns())
        );
        for (text, says) in [
            ("/?pid=x", "no process id"),
            ("/?lane=fast", "there are failure"),
            ("/?since=soon", "write 30s"),
            ("/?format=xml", "there are json"),
            ("/?typ=io", "did you mean \"type\""),
        ] {
            let error = of(text).expect_err("nonsense");
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_time_in_the_future_is_now() {
        let now = now_boot_ns();
        let since = since("2200-01-01T00:00:00Z").expect("a time");
        assert!(since.abs_diff(now) < 1_000_000_000);
    }
}
