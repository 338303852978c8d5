//! What a dump becomes for other programs.
//!
//! A [`Visitor`] is given the events of a dump one by one; none holds a dump in memory, and several can be given the same
//! events in one pass. Most formats are a [`Stream`], which appends bytes to a buffer; the others write files of their own.
//!
//! | module | becomes | read by |
//! |---|---|---|
//! | [`jsonl`] | JSON Lines | anything |
//! | [`csv`] | a table | spreadsheets |
//! | [`timesketch`] | JSON Lines and CSV of a timeline | Timesketch |
//! | [`perfetto`] | a trace | Perfetto |
//! | [`journal`] | systemd's export format, also inside of pcapng | journalctl, Wireshark |
//! | [`ctf`] | a trace in the Common Trace Format 1.8 | babeltrace2, Trace Compass |
//! | [`columns`] | Parquet | DuckDB, pandas, Spark |
//! | [`case`] | one SQLite database, evidence included | sqlite3 |
//! | [`otlp`] | OpenTelemetry logs | collectors |
//! | [`ecs`] | Elastic Common Schema | Elasticsearch, SIEMs |
//! | [`stacks`] | collapsed stacks | flame graphs |
//! | [`core`](mod@core) | a core dump | gdb |
//! | [`redacted`] | a dump without names | as the dump |
//!
//! None of this is linked to by what records: the agent knows no exporter.

pub mod bag;
pub mod case;
#[cfg(feature = "parquet")]
pub mod columns;
pub mod core;
pub mod csv;
pub mod ctf;
pub mod ecs;
pub mod journal;
pub mod jsonl;
mod origin;
pub mod otlp;
pub mod perfetto;
pub mod redacted;
pub mod stacks;
mod time;
pub mod timesketch;
mod urgency;
mod visit;

pub use self::core::{CoreError, core};
pub use jsonl::{Envelope, JsonLines};
pub use origin::Origin;
pub use urgency::Urgency;
pub use visit::{Stream, Visitor, Writing};
