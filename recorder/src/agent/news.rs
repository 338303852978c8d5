//! The thread that takes the news of incidents.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use crate::dump::Host;
use crate::harmless::escape;
use crate::incident::{Incident, NoDump, Storm};
use crate::ingest::{News, now_pair};
use crate::notify::{Notice, Notifier, Occasion};
use crate::store::{Counted, Store, StoreError, Unwritten};

/// Keeps what there is no dump of.
pub(super) struct Keeper {
    pub(super) store: Arc<Store>,
    pub(super) host: Host,
}

impl Keeper {
    fn undumped(&self, incident: &Incident, why: NoDump) -> Result<(), StoreError> {
        let unix_ns = now_pair().unix_ns_at(incident.trigger.boot_ns);
        self.store.add_unwritten(&Unwritten {
            incident: &serde_json::to_value(incident).unwrap_or_default(),
            unix_ns: i64::try_from(unix_ns).unwrap_or(i64::MAX),
            host: &self.host.hostname,
            environment: self.host.environment.as_deref(),
            why: why.words(),
        })
    }

    fn storm(&self, storm: &Storm) -> Result<(), StoreError> {
        let signed = |unix_ns| i64::try_from(unix_ns).unwrap_or(i64::MAX);
        self.store.add_counted(&Counted {
            rule: &storm.rule,
            fingerprint: &storm.fingerprint,
            incident: &storm.incident.to_string(),
            summary: &storm.summary,
            first_unix_ns: signed(storm.first_unix_ns),
            last_unix_ns: signed(storm.last_unix_ns),
            count: storm.count,
        })
    }
}

/// Tells who is to know of what comes, until nothing more can come, and has it kept.
pub(super) fn run(news: &Receiver<News>, keep: &Sender<News>, notifier: &Notifier, host: &Host) {
    for news in news {
        match &news {
            News::Opened(incident) => {
                notifier.tell(notice(Occasion::Incident, incident, host));
                continue;
            }
            News::Undumped(incident, why) => {
                super::warn(&format!(
                    "no dump of {} ({}): {}",
                    escape(&incident.summary),
                    incident.id,
                    why.words()
                ));
                notifier.tell(Notice {
                    error: Some(why.words().to_owned()),
                    ..notice(Occasion::DumpFailed, incident, host)
                });
            }
            News::StormOver(storm) => super::say(&format!("storm {}", escape(&storm.to_string()))),
        }
        if keep.try_send(news).is_err() {
            super::warn("the catalog is not complete: its file system does not answer");
        }
    }
}

/// Keeps what comes until nothing more can come. It may be held up by a file system that does not answer.
pub(super) fn keep(news: &Receiver<News>, keeper: &Keeper) {
    for news in news {
        let kept = match &news {
            News::Opened(_) => Ok(()),
            News::Undumped(incident, why) => keeper.undumped(incident, *why),
            News::StormOver(storm) => keeper.storm(storm),
        };
        if let Err(error) = kept {
            super::warn(&format!("the catalog is not complete: {error}"));
        }
        for sentence in keeper.store.take_said() {
            super::warn(&sentence);
        }
    }
}

/// Returns what there is to tell of an incident.
pub(super) fn notice(event: Occasion, incident: &Incident, host: &Host) -> Notice {
    let unix_ns = now_pair().unix_ns_at(incident.trigger.boot_ns);
    Notice::of(event, incident, unix_ns, host)
}
