//! The kernel side as the agent sees it: type information, the BPF object, what is attached and what it counts.
//!
//! With `ingest`, the only module that knows aya.

mod btf;
mod counters;
mod facts;
mod object;
mod probes;
mod requirements;
mod switches;
mod tasks;
mod throttles;

use std::os::fd::AsFd as _;
use std::sync::Mutex;
use std::thread;

use aya::maps::{Map, MapData, MapError, RingBuf};
use aya::{Ebpf, EbpfError, EbpfLoader};
use recorder_ebpf::fields::ABSENT;
use thiserror::Error;

pub use btf::{Btf, BtfError};
pub use counters::{Counters, Measuring, Runs};
pub use facts::{Facts, Hierarchies};
pub use object::{ObjectError, embedded};
pub use requirements::{KERNEL_MIN, Lacking, kernel, privileges, type_information};
pub use switches::Switches;
pub use tasks::TaskIterator;
pub use throttles::{Rates, Throttles};

use crate::dump::{Probe, ProbeState};

/// Why nothing can be recorded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The host lacks something.
    #[error(transparent)]
    Lacking(#[from] Lacking),
    /// The object cannot be used.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The kernel's types cannot be used.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The kernel's types cannot be used by the loader.
    #[error("the kernel's type information cannot be used: {0}")]
    LoaderBtf(String),
    /// The maps could not be made.
    #[error("cannot create the BPF maps")]
    Maps(#[source] Box<EbpfError>),
    /// A map is not what it should be.
    #[error("BPF map {name} is not usable")]
    Map {
        /// Its name.
        name: &'static str,
        /// Why, if it is there.
        #[source]
        source: Option<MapError>,
    },
    /// No probe could be attached.
    #[error("no probe could be attached: {0}")]
    NoProbe(String),
}

/// The loaded and attached probes. They are detached when this is dropped.
pub struct Kernel {
    /// The kernel rings.
    pub rings: Rings,
    /// What the probes count.
    pub counters: Counters,
    /// Which cgroups are held to a rate.
    pub throttles: Throttles,
    /// What is left out to keep to the budget.
    pub switches: Switches,
    /// How every event is recorded.
    pub probes: Vec<Probe>,
    /// Reads the living processes; `probes` says why if it is not there.
    pub tasks: Option<TaskIterator>,
    /// Keeps the programs attached.
    pub attachment: Attachment,
}

/// What keeps the programs attached while it lives.
pub struct Attachment(#[expect(dead_code, reason = "held for its drop")] Ebpf);

/// One kernel ring for each lane that the probes write.
pub struct Rings {
    /// Failures.
    pub failure: RingBuf<MapData>,
    /// Processes.
    pub lifecycle: RingBuf<MapData>,
}

/// Checks what can be checked before anything is touched: the host's requirements and the object inside this program.
pub fn check() -> Result<(), LoadError> {
    requirements::all()?;
    embedded()?;
    Ok(())
}

/// Says how every event would be recorded on this kernel, without loading anything.
pub fn plan() -> Result<Vec<Probe>, BtfError> {
    let bytes = btf::read()?;
    let btf = Btf::parse(&bytes)?;
    let mut probes = probes::plan(&btf);
    probes.push(tasks::plan(&btf));
    Ok(probes)
}

impl Kernel {
    /// Loads the object and attaches every probe that this kernel supports.
    ///
    /// # Errors
    ///
    /// If nothing at all can be recorded. A single probe that cannot be attached is no error: it is said in `probes`.
    pub fn load(rates: Rates) -> Result<Self, LoadError> {
        requirements::all()?;
        let bytes = btf::read()?;
        // Side by side, as each reads all of the kernel's types: the loader does so on its own, and once more for itself.
        let (aya_btf, btf, mut loader) = thread::scope(|scope| {
            let aya_btf = scope.spawn(aya::Btf::from_sys_fs);
            let btf = scope.spawn(|| Btf::parse(&bytes));
            let loader = EbpfLoader::new();
            (aya_btf.join(), btf.join(), loader)
        });
        let btf = btf.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let aya_btf = aya_btf
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            .map_err(|error| LoadError::LoaderBtf(error.to_string()))?;
        let object = match facts::has_helper(&btf, "get_current_task_btf") {
            true => embedded()?,
            false => object::untyped()?,
        };
        let facts = Facts::of(&btf);
        let object = object::fitted(object, &facts.offsets)?;
        loader.btf(Some(&aya_btf));
        let rates = rates.globals();
        for (name, value) in facts.globals.iter().chain(&rates) {
            if *value != ABSENT {
                loader.override_global(name, value, false);
            }
        }
        let mut ebpf = loader
            .load(&object)
            .map_err(|error| LoadError::Maps(Box::new(error)))?;
        drop(loader);
        let mut probes = probes::attach(&mut ebpf, &btf, &aya_btf);
        if probes
            .iter()
            .all(|probe| probe.state == ProbeState::Unavailable)
        {
            let reasons: Vec<String> = probes
                .into_iter()
                .filter_map(|probe| probe.detail)
                .collect();
            return Err(LoadError::NoProbe(reasons.join("; ")));
        }
        let (tasks, listed) = tasks::attach(&mut ebpf, &btf, &aya_btf);
        probes.push(listed);
        if !facts.missing.is_empty() {
            // A field that a program needs and the kernel lacks is why the verifier refused it.
            for probe in probes
                .iter_mut()
                .filter(|probe| probe.state == ProbeState::Unavailable)
            {
                let detail = probe.detail.get_or_insert_default();
                detail.push_str(&format!(
                    " (this kernel has no {})",
                    facts.missing.join(", ")
                ));
            }
        }
        let rings = Rings {
            failure: map(&mut ebpf, "FAILURE_RING")?,
            lifecycle: map(&mut ebpf, "LIFECYCLE_RING")?,
        };
        let throttles = Throttles(map(&mut ebpf, "THROTTLES")?);
        let switches = Switches(map(&mut ebpf, "SWITCHES")?);
        let counters = Counters {
            map: map(&mut ebpf, "LANE_STATS")?,
            programs: programs(&ebpf),
            taken: map(&mut ebpf, "TAKEN")?,
            seen: Mutex::default(),
        };
        Ok(Self {
            rings,
            counters,
            throttles,
            switches,
            probes,
            tasks,
            attachment: Attachment(ebpf),
        })
    }
}

/// Takes a map of the object.
fn map<M: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<M, LoadError> {
    let map = ebpf
        .take_map(name)
        .ok_or(LoadError::Map { name, source: None })?;
    M::try_from(map).map_err(|error| LoadError::Map {
        name,
        source: Some(error),
    })
}

/// Returns every loaded program by name, by a descriptor of its own.
fn programs(ebpf: &Ebpf) -> Vec<(String, std::os::fd::OwnedFd)> {
    ebpf.programs()
        .filter_map(|(name, program)| {
            let fd = program.fd().ok()?.as_fd().try_clone_to_owned().ok()?;
            Some((name.to_owned(), fd))
        })
        .collect()
}
