//! What the path of a cgroup says: the systemd unit, the container, the pod.
//!
//! | path | says |
//! |---|---|
//! | `/system.slice/nginx.service/worker` | unit |
//! | `…/docker-<id>.scope`, `/docker/<id>` | container of docker |
//! | `…/cri-containerd-<id>.scope`, `…:cri-containerd:<id>`, `…/nerdctl-<id>.scope` | container of containerd |
//! | `…/crio-<id>.scope` | container of cri-o |
//! | `…/libpod-<id>.scope` | container of podman |
//! | `/kubepods/burstable/pod<uid>/<id>`, `…-pod<uid_with_underscores>.slice/…` | pod |

use std::sync::Arc;

/// What a path says. What it does not say is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placement<'a> {
    /// The system manager's unit: "nginx.service".
    pub unit: Option<&'a str>,
    /// Id of the innermost container.
    pub container_id: Option<&'a str>,
    /// What runs that container: "docker", "containerd", "cri-o", "podman".
    pub runtime: Option<&'static str>,
    /// Uid of the pod as it is in the path: with underscores or dashes. See [`Placement::pod_uid`].
    pod: Option<&'a str>,
}

/// Length of a container's id: a SHA-256 in hex, or as many random digits.
const ID_LEN: usize = 64;
/// Length of a uid with its dashes, and of a static pod's, which is a hash.
const UID_LEN: usize = 36;
const STATIC_UID_LEN: usize = 32;

const UNIT_SUFFIXES: [&str; 7] = [
    ".service",
    ".scope",
    ".socket",
    ".mount",
    ".swap",
    ".automount",
    ".timer",
];

impl<'a> Placement<'a> {
    /// Reads a path: that of a cgroup in its hierarchy.
    pub fn of(path: &'a str) -> Self {
        let mut found = Self::default();
        let mut above = "";
        let mut in_slices = true;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if in_slices && !name.ends_with(".slice") {
                in_slices = false;
                found.unit = unit(name);
            }
            if let Some(pod) = pod(name) {
                found.pod = Some(pod);
            }
            if let Some((prefix, id)) = container(name) {
                found.container_id = Some(id);
                found.runtime = runtime(prefix, above);
            }
            above = name;
        }
        found
    }

    /// Returns the uid of the Kubernetes pod, with dashes.
    pub fn pod_uid(&self) -> Option<String> {
        self.pod.map(|uid| uid.replace('_', "-"))
    }
}

/// A cgroup and what its path says, to be asked for often.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) cgroup: Arc<str>,
    pub(super) unit: Option<String>,
    pub(super) container_id: Option<String>,
    pub(super) runtime: Option<&'static str>,
    pub(super) pod_uid: Option<String>,
}

impl Place {
    pub(super) fn new(path: &Arc<str>) -> Self {
        let says = Placement::of(path);
        Self {
            cgroup: Arc::clone(path),
            unit: says.unit.map(str::to_owned),
            container_id: says.container_id.map(str::to_owned),
            runtime: says.runtime,
            pod_uid: says.pod_uid(),
        }
    }
}

fn unit(name: &str) -> Option<&str> {
    // A name that the kernel could take for a file of its own is escaped by an underscore.
    let name = name.strip_prefix('_').unwrap_or(name);
    let stem = UNIT_SUFFIXES
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))?;
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    (!stem.is_empty() && stem.bytes().all(is_valid)).then_some(name)
}

/// Returns a container's id and what stands before it.
fn container(name: &str) -> Option<(&str, &str)> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let start = name.len().checked_sub(ID_LEN)?;
    let (prefix, id) = name.split_at_checked(start)?;
    if !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let prefix = match prefix.strip_suffix(['-', ':']) {
        Some(prefix) => prefix,
        None if prefix.is_empty() => prefix,
        None => return None,
    };
    let prefix = prefix.rsplit(':').next().unwrap_or(prefix);
    // The process beside a container that watches it is not in it.
    (!prefix.contains("conmon")).then_some((prefix, id))
}

fn runtime(prefix: &str, above: &str) -> Option<&'static str> {
    match (prefix, above) {
        ("docker", _) | ("", "docker") => Some("docker"),
        ("cri-containerd" | "nerdctl", _) => Some("containerd"),
        ("crio", _) => Some("cri-o"),
        ("libpod", _) | ("", "libpod_parent") => Some("podman"),
        _ => None,
    }
}

fn pod(name: &str) -> Option<&str> {
    let name = name.split(':').next().unwrap_or(name);
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let uid = match name.strip_prefix("pod") {
        Some(uid) => uid,
        None => name.rsplit_once("-pod")?.1,
    };
    let is_uid = match uid.len() {
        UID_LEN => uid.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-' || byte == b'_',
            _ => byte.is_ascii_hexdigit(),
        }),
        STATIC_UID_LEN => uid.bytes().all(|byte| byte.is_ascii_hexdigit()),
        _ => false,
    };
    is_uid.then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0b1c2d3e4f5061728394a5b6c7d8e9f00b1c2d3e4f5061728394a5b6c7d8e9f0";
    const OTHER: &str = "f00b1c2d3e4f5061728394a5b6c7d8e90b1c2d3e4f5061728394a5b6c7d8e9f0";
    const UID: &str = "9a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";

    /// Path, unit, container, runtime, pod; `ID`, `OTHER`, `UID` and `U_ID` stand for what they mean.
    const CASES: &[(&str, &str, &str, &str, &str)] = &[
        ("/", "", "", "", ""),
        ("", "", "", "", ""),
        ("/system.slice/nginx.service", "nginx.service", "", "", ""),
        (
            "/system.slice/nginx.service/worker-1",
            "nginx.service",
            "",
            "",
            "",
        ),
        (
            "/system.slice/system-getty.slice/getty@tty1.service",
            "getty@tty1.service",
            "",
            "",
            "",
        ),
        (
            "/user.slice/user-1000.slice/session-3.scope",
            "session-3.scope",
            "",
            "",
            "",
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope",
            "user@1000.service",
            "",
            "",
            "",
        ),
        ("/init.scope", "init.scope", "", "", ""),
        ("/system.slice/_cpu.service", "cpu.service", "", "", ""),
        (
            "/system.slice/dev-disk-by\\x2duuid.swap",
            "dev-disk-by\\x2duuid.swap",
            "",
            "",
            "",
        ),
        ("/system.slice/.service", "", "", "", ""),
        ("/system.slice/e\u{1b}[31m.service", "", "", "", ""),
        ("/mygroup/nginx.service", "", "", "", ""),
        (
            "/system.slice/docker-ID.scope",
            "docker-ID.scope",
            "ID",
            "docker",
            "",
        ),
        ("/docker/ID", "", "ID", "docker", ""),
        ("/docker/OTHER/docker/ID", "", "ID", "docker", ""),
        ("/docker/buildkit/ID", "", "ID", "", ""),
        (
            "/machine.slice/libpod-ID.scope",
            "libpod-ID.scope",
            "ID",
            "podman",
            "",
        ),
        (
            "/machine.slice/libpod-ID.scope/container",
            "libpod-ID.scope",
            "ID",
            "podman",
            "",
        ),
        (
            "/machine.slice/libpod-conmon-ID.scope",
            "libpod-conmon-ID.scope",
            "",
            "",
            "",
        ),
        ("/libpod_parent/libpod-ID", "", "ID", "podman", ""),
        ("/libpod_parent/ID", "", "ID", "podman", ""),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
            "user@1000.service",
            "ID",
            "podman",
            "",
        ),
        (
            "/system.slice/nerdctl-ID.scope",
            "nerdctl-ID.scope",
            "ID",
            "containerd",
            "",
        ),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_ID.slice/cri-containerd-ID.scope",
            "cri-containerd-ID.scope",
            "ID",
            "containerd",
            "UID",
        ),
        (
            "/kubepods.slice/kubepods-podU_ID.slice/crio-ID.scope",
            "crio-ID.scope",
            "ID",
            "cri-o",
            "UID",
        ),
        (
            "/kubepods.slice/kubepods-podU_ID.slice/crio-conmon-ID.scope",
            "crio-conmon-ID.scope",
            "",
            "",
            "UID",
        ),
        (
            "/kubepods.slice/kubepods-podU_ID.slice/docker-ID.scope",
            "docker-ID.scope",
            "ID",
            "docker",
            "UID",
        ),
        ("/kubepods/burstable/podUID/ID", "", "ID", "", "UID"),
        ("/kubepods/podUID", "", "", "", "UID"),
        (
            "/system.slice/containerd.service/kubepods-besteffort-podU_ID.slice:cri-containerd:ID",
            "containerd.service",
            "ID",
            "containerd",
            "UID",
        ),
        (
            "/kubepods/besteffort/pod0123456789abcdef0123456789abcdef/ID",
            "",
            "ID",
            "",
            "0123456789abcdef0123456789abcdef",
        ),
        ("/ecs/0123456789abcdef0123456789abcdef/ID", "", "ID", "", ""),
        ("/docker/short", "", "", "", ""),
        ("/docker/xID", "", "", "", ""),
        ("/docker/\u{e9}ID", "", "", "", ""),
        (
            "/kubepods/podnot-a-uid-but-thirty-six-bytes-long/x",
            "",
            "",
            "",
            "",
        ),
    ];

    #[test]
    fn every_shape_of_path_says_what_it_says_and_no_more() {
        let fill = |text: &str| {
            text.replace("OTHER", OTHER)
                .replace("U_ID", &UID.replace('-', "_"))
                .replace("UID", UID)
                .replace("ID", ID)
        };
        let some = |text: &str| Some(fill(text)).filter(|text| !text.is_empty());
        for (path, unit, container, runtime, pod) in CASES {
            let path = fill(path);
            let found = Placement::of(&path);
            assert_eq!(found.unit.map(str::to_owned), some(unit), "unit of {path}");
            assert_eq!(
                found.container_id.map(str::to_owned),
                some(container),
                "container of {path}"
            );
            assert_eq!(
                found.runtime.map(str::to_owned),
                some(runtime),
                "runtime of {path}"
            );
            assert_eq!(found.pod_uid(), some(pod), "pod of {path}");
        }
    }
}
