//! The directory of dumps: what is in it, what is known about it, and what it may hold.
//!
//! Whatever has a dump's name is a dump; everything else in the directory is left alone, except the unfinished files of an
//! agent that died. Nothing is followed out of the directory: a link is no dump.

mod annotations;
mod budget;
mod catalog;
mod chain;
mod directory;
mod eviction;
mod lock;

pub use annotations::{ANNOTATIONS_EXTENSION, AnnotationError, Annotations, Note};
pub use budget::{Budget, Room, Store, StoreError, Usage, may_pass};
pub use catalog::{
    Access, By, Catalog, CatalogError, Change, ChangeError, Counted, Filter, FindError, Record,
    SEVERITIES, State, Trend, Unwritten, share_allocator,
};
pub use chain::{ChainReport, check_chain};
pub(crate) use directory::read_plain;
pub use directory::{Entry, dumps};
