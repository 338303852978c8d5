//! ftrace: an instance of our own, so that whoever else traces is left alone.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::exec::exec;

const ROOT: &str = "/sys/kernel/tracing";
const MOUNT_AND_RUN: &str = r#"mount -t tracefs tracefs /sys/kernel/tracing; exec "$0" "$@""#;

/// Makes the tracepoints' files visible, which not every host mounts, and which perf, trace-cmd, bpftrace and libbpf-tools
/// look for: becomes this program again, in a mount namespace of its own. Returns at once if they are there.
pub fn provide() -> Result<()> {
    // Set for the second start: it goes on also where mounting failed, and the peers say what they miss.
    const AGAIN: &str = "RECORDER_BENCH_MOUNTED";
    if Path::new(ROOT).join("events").exists() || std::env::var_os(AGAIN).is_some() {
        return Ok(());
    }
    let own = std::env::current_exe().context("find this program")?;
    let error = Command::new("unshare")
        .args(["--mount", "sh", "-c", MOUNT_AND_RUN])
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(AGAIN, "1")
        .exec();
    Err(error).context("run unshare")
}

/// A ring of the kernel's that is overwritten, with some tracepoints enabled; removed when dropped.
pub struct Instance {
    directory: PathBuf,
}

impl Instance {
    /// Makes one of `kib` KiB for each CPU.
    pub fn start(tracepoints: &[&str], kib: u32) -> Result<Self> {
        let directory = Path::new(ROOT)
            .join("instances")
            .join(format!("recorder-bench-{}", std::process::id()));
        fs::create_dir(&directory).context("make an instance of ftrace")?;
        let instance = Self { directory };
        instance.write("buffer_size_kb", &kib.to_string())?;
        instance.write("options/overwrite", "1")?;
        for tracepoint in tracepoints {
            let path = format!("events/{}/enable", tracepoint.replace(':', "/"));
            instance.write(&path, "1")?;
        }
        instance.write("tracing_on", "1")?;
        Ok(instance)
    }

    /// Stores what it holds with `trace-cmd`, which ends the instance.
    pub fn extract(self, file: &Path) -> Result<()> {
        self.write("tracing_on", "0")?;
        let name = self.directory.file_name().context("it has a name")?;
        exec(
            Command::new("trace-cmd")
                .args(["extract", "-B"])
                .arg(name)
                .arg("-o")
                .arg(file)
                .stdout(std::process::Stdio::null()),
        )?;
        ensure!(file.exists(), "trace-cmd has written nothing");
        Ok(())
    }

    fn write(&self, name: &str, value: &str) -> Result<()> {
        let path = self.directory.join(name);
        fs::write(&path, value).with_context(|| format!("write {}", path.display()))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = fs::write(self.directory.join("tracing_on"), "0");
        let _ = fs::remove_dir(&self.directory);
    }
}
