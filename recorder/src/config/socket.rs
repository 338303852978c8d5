//! Who may use the control socket.

use std::fmt;
use std::fs;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Permissions of the control socket: whoever may write to it may change what the agent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(u32);

impl SocketMode {
    /// For the owner alone.
    pub const OWNER: Self = Self(0o600);
    /// For the owner and the group.
    pub const GROUP: Self = Self(0o660);

    /// Returns the bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl FromStr for SocketMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bits = u32::from_str_radix(text, 8)
            .ok()
            .filter(|bits| *bits <= 0o777);
        match bits {
            None => Err("write a mode of three octal digits: \"0660\"".to_owned()),
            Some(bits) if bits & 0o007 != 0 => {
                Err("others get no access: give it to a group, with socket_group".to_owned())
            }
            Some(bits) if bits & 0o600 != 0o600 => {
                Err("the owner reads and writes it: \"0600\" or \"0660\"".to_owned())
            }
            Some(bits) => Ok(Self(bits)),
        }
    }
}

impl fmt::Display for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl Serialize for SocketMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Returns the number of a group, by its name in `/etc/group` or its number.
///
/// # Errors
///
/// What is wrong with it.
pub fn group_id(group: &str) -> Result<u32, String> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let groups =
        fs::read_to_string("/etc/group").map_err(|error| format!("/etc/group: {error}"))?;
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then_some(fields.nth(1)?.parse().ok())?
    };
    let found = groups.lines().find_map(of_line);
    found.ok_or_else(|| "there is no such group in /etc/group".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_that_opens_the_socket_to_everybody_is_refused() {
        let mode = |text: &str| text.parse::<SocketMode>();
        assert_eq!(mode("0660"), Ok(SocketMode::GROUP));
        assert_eq!(
            mode("600").map(|mode| mode.to_string()),
            Ok("0600".to_owned())
        );
        for text in ["0666", "0661", "0060", "rw", "7777", "", "-1"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn groups_have_names_and_numbers() {
        assert_eq!(group_id("0"), Ok(0));
        assert_eq!(group_id("root"), Ok(0));
        assert!(group_id("no-such-group").is_err());
    }
}
