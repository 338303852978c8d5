//! Bytes of the kernel as text.

/// Returns the bytes up to the first NUL as text; what is not UTF-8 is replaced.
pub(super) fn until_nul(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Returns [`until_nul`] unless it is empty.
pub(crate) fn name(bytes: &[u8]) -> Option<String> {
    Some(until_nul(bytes)).filter(|name| !name.is_empty())
}

/// Returns the bytes as lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)].into());
        text.push(DIGITS[usize::from(byte & 15)].into());
    }
    text
}

/// Returns "major:minor".
pub(super) fn device(major: u32, minor: u32) -> String {
    format!("{major}:{minor}")
}

/// Returns "major:minor" of a `dev_t` as the kernel packs it, `None` for 0.
pub(super) fn packed_device(device_number: u32) -> Option<String> {
    const MINOR_BITS: u32 = 20;
    let minor = device_number & ((1 << MINOR_BITS) - 1);
    (device_number != 0).then(|| device(device_number >> MINOR_BITS, minor))
}
