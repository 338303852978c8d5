//! The control socket in the file system.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen as start, socket_with,
};

use crate::config::{RecordConfig, SocketMode, group_id};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Listens on the control socket, for those whom the configuration names.
///
/// Nobody can connect before the socket has its owner and mode: it listens only then.
pub(super) fn listen(path: &Path, config: &RecordConfig) -> Result<UnixListener> {
    let context = || format!("cannot listen on {}", path.display());
    // Ours by the lock: a socket that is there is one that an agent left behind.
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            bail!(
                "cannot listen on {}: something is there that is no socket; remove it, or give another --run-dir",
                path.display()
            );
        }
        Ok(_) => fs::remove_file(path).with_context(context)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(context),
    }
    let address = SocketAddrUnix::new(path).with_context(|| {
        let path = path.display();
        format!("{path} is too long for a socket: give a shorter --run-dir")
    })?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let socket: OwnedFd = socket.with_context(context)?;
    bind(&socket, &address).with_context(context)?;
    let mode = match (config.socket_mode, &config.socket_group) {
        (Some(mode), _) => mode,
        (None, Some(_)) => SocketMode::GROUP,
        (None, None) => SocketMode::OWNER,
    };
    let permissions = fs::Permissions::from_mode(mode.bits());
    fs::set_permissions(path, permissions).with_context(context)?;
    if let Some(group) = &config.socket_group {
        let id = group_id(group).map_err(anyhow::Error::msg)?;
        std::os::unix::fs::chown(path, None, Some(id))
            .with_context(|| format!("cannot give {} to group {group}", path.display()))?;
    }
    start(&socket, BACKLOG).with_context(context)?;
    Ok(UnixListener::from(socket))
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;

    fn config(arguments: &[&str]) -> RecordConfig {
        let command = <RecordConfig as clap::Args>::augment_args(clap::Command::new("recorder"));
        let matches = command.get_matches_from([&["recorder"], arguments].concat());
        RecordConfig::from_arg_matches(&matches).expect("just parsed")
    }

    #[test]
    fn a_socket_that_was_left_behind_makes_way_and_nothing_else_does() {
        let directory = tempfile::tempdir().expect("there is room for tests");
        let path = directory.path().join("control.sock");
        drop(UnixListener::bind(&path).expect("the directory is ours"));
        let listener = listen(&path, &config(&[])).expect("only a stale socket is there");
        let mode = |path: &Path| {
            fs::metadata(path)
                .expect("it is there")
                .permissions()
                .mode()
        };
        assert_eq!(mode(&path) & 0o777, 0o600);
        std::os::unix::net::UnixStream::connect(&path).expect("it listens");
        drop(listener);
        let grouped = config(&["--socket-mode", "0640"]);
        listen(&path, &grouped).expect("free again");
        assert_eq!(mode(&path) & 0o777, 0o640);

        fs::remove_file(&path).expect("ours");
        fs::write(&path, "precious").expect("ours");
        let error = listen(&path, &config(&[])).expect_err("a file is there");
        assert!(error.to_string().contains("no socket"), "{error}");
        assert_eq!(fs::read(&path).expect("still there"), b"precious");
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_said_with_what_to_do() {
        let path = Path::new("/tmp").join("x".repeat(120));
        let error = listen(&path, &config(&[])).expect_err("too long");
        assert!(error.to_string().contains("shorter --run-dir"), "{error}");
    }
}
