//! The thread that takes the news of incidents.

use crossbeam_channel::Receiver;

use crate::harmless::escape;
use crate::ingest::News;

/// Takes what comes until nothing more can come.
pub(super) fn run(news: &Receiver<News>) {
    for news in news {
        match news {
            // Its dump will be announced.
            News::Opened(_) => {}
            News::Undumped(incident, why) => super::warn(&format!(
                "no dump of {} ({}): {}",
                escape(&incident.summary),
                incident.id,
                why.words()
            )),
            News::StormOver(storm) => super::say(&format!("storm {}", escape(&storm.to_string()))),
        }
    }
}
