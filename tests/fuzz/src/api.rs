//! The control socket: whatever a client sends, it is answered or closed, and the next one is answered.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use recorder::api::{self, Agent, router};
use recorder::export::Envelope;
use recorder::ingest::{Commands, tap};
use recorder::live::Fanout;
use recorder::rules::{RuleSet, Settings, read_text};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// How long a client waits for the end of its answer: a stream of events has none.
const PATIENCE: Duration = Duration::from_millis(20);

struct Served {
    runtime: Runtime,
    socket: PathBuf,
}

thread_local! {
    static SERVED: Served = serve();
}

/// An agent whose data plane has ended, with an empty directory of dumps.
fn serve() -> Served {
    let socket = crate::scratch("control.sock");
    let state_dir = crate::scratch("state");
    std::fs::create_dir_all(state_dir.join("dumps")).expect("there is memory");
    let commands = Commands::to_nobody().expect("descriptors are to be had");
    let envelope = Envelope {
        environment: None,
        host: None,
        incident: None,
    };
    let (_, spout) = tap();
    let (fanout, live) = Fanout::new(spout, commands.clone(), &envelope);
    std::thread::spawn(move || fanout.run());
    let agent = Agent {
        commands,
        status: Box::new(|_| unreachable!("no data plane says anything")),
        reload: Box::new(|| Err("nothing to reload".to_owned())),
        rehearse: Box::new(|text| {
            let rules =
                read_text(None, text.unwrap_or_default()).map_err(|fault| fault.to_string())?;
            let set = RuleSet::compile(&rules, &Settings::default());
            Err(format!(
                "no ring to show to {} rules",
                set.map_or(0, |set| set.len())
            ))
        }),
        live,
        state_dir,
        runs: Box::new(Vec::new),
        measuring: tokio::sync::Mutex::default(),
        log: |_| {},
    };
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().expect("a runtime");
    let listener = runtime.block_on(async { UnixListener::bind(&socket).expect("it is ours") });
    runtime.spawn(api::serve(listener, router(Arc::new(agent))));
    Served { runtime, socket }
}

pub fn run(bytes: &[u8]) {
    // That one measures for seconds.
    if bytes
        .windows(6)
        .any(|window| window.eq_ignore_ascii_case(b"probes"))
    {
        return;
    }
    SERVED.with(|served| {
        served.runtime.block_on(async {
            ask(&served.socket, bytes, true).await;
            let request = b"GET /v1/nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            let answer = ask(&served.socket, request, false).await;
            assert!(
                answer.starts_with(b"HTTP/1.1 404 "),
                "{}",
                String::from_utf8_lossy(&answer)
            );
        });
    });
}

/// Sends bytes, and `is_all`: no more will come.
async fn ask(socket: &Path, bytes: &[u8], is_all: bool) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).await.expect("it listens");
    // It may stop listening, which is an answer.
    let _ = timeout(PATIENCE, stream.write_all(bytes)).await;
    if is_all {
        let _ = stream.shutdown().await;
    }
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    answer
}
