//! What the data plane tells of incidents as they happen, for those who keep and pass on the news.

use crate::incident::{Incident, NoDump, Storm};

/// What has become of an incident.
///
/// Its dump comes by another way: see [`FrozenIncident`](super::FrozenIncident).
#[derive(Clone, Debug)]
pub enum News {
    /// It has opened; its window has not ended. A dump follows.
    Opened(Box<Incident>),
    /// It makes no dump. Those that are the same failure again are only counted, and told as a storm.
    Undumped(Box<Incident>, NoDump),
    /// Failures that made no dump of their own are over, for now.
    StormOver(Storm),
}
