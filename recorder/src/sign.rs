//! Ed25519 keys, and signatures by them, in the forms that other tools use.
//!
//! | what | form | with OpenSSL |
//! |---|---|---|
//! | key | PKCS#8, PEM | `openssl genpkey -algorithm ed25519 -out KEY` |
//! | its public half | `SubjectPublicKeyInfo`, PEM | `openssl pkey -in KEY -pubout -out PUBLIC` |
//! | signature | 64 bytes as they are | `openssl pkeyutl -verify -pubin -inkey PUBLIC -rawin -in FILE -sigfile FILE.sig` |

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use thiserror::Error;

/// What stands before the 32 bytes of a key in PKCS#8, and before those of its public half in `SubjectPublicKeyInfo`:
/// <https://www.rfc-editor.org/rfc/rfc8410>.
const KEY_PREFIX: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
const PUBLIC_PREFIX: [u8; 12] = *b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
/// Longest file that may hold a key, in bytes.
const BYTES_MAX: u64 = 16 << 10;
/// Any permission of the group or of others.
const OTHERS: u32 = 0o077;

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Why there is no key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read {}", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// It is not for its owner alone.
    #[error("others can read the key {path}: chmod 600 {path}", path = .0.display())]
    Open(PathBuf),
    /// It holds something else.
    #[error("{} is no {what}: `recorder keygen` makes one", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
    },
}

/// A key that signs.
pub struct SigningKey(Ed25519KeyPair);

impl fmt::Debug for SigningKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SigningKey")
    }
}

impl SigningKey {
    /// Makes a key; returns it as PEM.
    ///
    /// # Errors
    ///
    /// If the system has no random numbers.
    pub fn generate() -> io::Result<(Self, String)> {
        let mut seed = [0; 32];
        let failed = |_| io::Error::other("the system has no random numbers");
        SystemRandom::new().fill(&mut seed).map_err(failed)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
            .map_err(|_| io::Error::other("any 32 bytes are a key"))?;
        Ok((Self(pair), pem("PRIVATE KEY", &KEY_PREFIX, &seed)))
    }

    /// Reads a key that only its owner can read.
    ///
    /// # Errors
    ///
    /// [`KeyError`].
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let (bytes, mode) = read(path)?;
        if mode & OTHERS != 0 {
            return Err(KeyError::Open(path.to_owned()));
        }
        let der = PrivatePkcs8KeyDer::from_pem_slice(&bytes).ok();
        let pair = der.and_then(|der| {
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).ok()
        });
        pair.map(Self).ok_or_else(|| KeyError::Other {
            path: path.to_owned(),
            what: "Ed25519 key (PKCS#8, PEM)",
        })
    }

    /// Signs.
    pub fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut signature = [0; SIGNATURE_BYTES];
        signature.copy_from_slice(self.0.sign(bytes).as_ref());
        signature
    }

    /// Returns the public half as PEM.
    pub fn public_pem(&self) -> String {
        pem("PUBLIC KEY", &PUBLIC_PREFIX, self.0.public_key().as_ref())
    }
}

/// The public half of a key: it checks signatures.
#[derive(Clone, Debug)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Reads a public key.
    ///
    /// # Errors
    ///
    /// [`KeyError`].
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let (bytes, _) = read(path)?;
        let der = SubjectPublicKeyInfoDer::from_pem_slice(&bytes).ok();
        let key = der.and_then(|der| der.strip_prefix(&PUBLIC_PREFIX)?.try_into().ok());
        key.map(Self).ok_or_else(|| KeyError::Other {
            path: path.to_owned(),
            what: "public Ed25519 key (SubjectPublicKeyInfo, PEM)",
        })
    }

    /// Tells whether a signature of these bytes was made by this key.
    pub fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(bytes, signature)
            .is_ok()
    }
}

fn pem(label: &str, prefix: &[u8], key: &[u8]) -> String {
    // At most 48 bytes: one line.
    let text = STANDARD.encode([prefix, key].concat());
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// Reads a file that may hold a key, and its mode.
fn read(path: &Path) -> Result<(Vec<u8>, u32), KeyError> {
    let failed = |error| KeyError::Io(path.to_owned(), error);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    }
    let mut bytes = Vec::new();
    let mut bounded = file.take(BYTES_MAX);
    bounded.read_to_end(&mut bytes).map_err(failed)?;
    Ok((bytes, metadata.mode()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn file(directory: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, text).expect("the directory is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        path
    }

    #[test]
    fn a_key_is_read_back_and_its_public_half_checks_what_it_signs() {
        let directory = tempfile::tempdir().expect("there is room for tests");
        let (key, private) = SigningKey::generate().expect("random numbers");
        let public = key.public_pem();
        let private = file(directory.path(), "key", &private, 0o600);
        let public = file(directory.path(), "key.pub", &public, 0o644);
        let again = SigningKey::load(&private).expect("just made");
        let public_key = PublicKey::load(&public).expect("just made");
        let signature = again.sign(b"said");
        assert!(public_key.has_signed(b"said", &signature));
        assert!(!public_key.has_signed(b"sais", &signature));
        assert!(!public_key.has_signed(b"said", &signature[1..]));
        let (other, _) = SigningKey::generate().expect("random numbers");
        assert!(!public_key.has_signed(b"said", &other.sign(b"said")));
        assert!(PublicKey::load(&private).is_err(), "not a public one");
        assert!(SigningKey::load(&public).is_err(), "others can read it");
        assert!(SigningKey::load(directory.path()).is_err());
    }

    #[test]
    fn a_key_of_openssl_is_a_key() {
        let directory = tempfile::tempdir().expect("there is room for tests");
        // RFC 8410, section 10.3.
        let text = "-----BEGIN PRIVATE KEY-----\n\
                    MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                    -----END PRIVATE KEY-----\n";
        let path = file(directory.path(), "key", text, 0o600);
        let public = SigningKey::load(&path).expect("it is one").public_pem();
        let expected = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
        assert!(public.contains(expected), "{public}");
    }
}
