//! The hub's own keys: made on first start, in files that nobody else can read, used and never
//! shown. Small enough to audit in an hour.

mod seal;

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub use seal::Secret;

const KEY_BYTES: usize = 32;
const FINGERPRINT_BYTES: usize = 16;
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Bits that let a group or the world in.
const OTHERS: u32 = 0o077;

#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: std::io::Error },
    #[error("{path} can be read by others: run `chmod {mode:o} {path}` and think about who has read it")]
    Open { path: PathBuf, mode: u32 },
    #[error("{0} is not a key: it has the wrong length")]
    Length(PathBuf),
    #[error(
        "{0} is missing: put the hub's keys back from your backup; without them its tokens, links and ledger are of no use"
    )]
    Missing(PathBuf),
    #[error("the system gives no randomness")]
    Random,
    /// Damaged, of another form, or sealed by other keys.
    #[error("a secret does not open with this hub's keys")]
    Sealed,
}

/// 32 secret bytes. No `Display`, no `Serialize`, no `Clone`; wiped when dropped.
///
/// ```compile_fail
/// fn clones<T: Clone>() {}
/// clones::<bastide_vault::SecretKey>();
/// ```
/// ```compile_fail
/// fn shows<T: std::fmt::Display>() {}
/// shows::<bastide_vault::SecretKey>();
/// ```
pub struct SecretKey(Zeroizing<[u8; KEY_BYTES]>);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// All keys of a hub.
#[derive(Debug)]
pub struct Keys {
    token: SecretKey,
    link: SecretKey,
    ledger: SecretKey,
}

impl Keys {
    /// Reads the keys in a folder. New ones would not do: the hub has used these.
    pub fn load(folder: &Path) -> Result<Self, VaultError> {
        if !folder.exists() {
            return Err(VaultError::Missing(folder.to_owned()));
        }
        refuse_open(folder, FOLDER_MODE)?;
        let key = |name: &str| load(&folder.join(name));
        Ok(Self { token: key("token.key")?, link: key("link.key")?, ledger: key("ledger.key")? })
    }

    /// Reads the keys in a folder, making those that are not there yet: for a new hub.
    pub fn load_or_create(folder: &Path) -> Result<Self, VaultError> {
        let io = |error| VaultError::Io { path: folder.to_owned(), error };
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(io)?;
        refuse_open(folder, FOLDER_MODE)?;
        let key = |name: &str| load_or_create(&folder.join(name));
        Ok(Self { token: key("token.key")?, link: key("link.key")?, ledger: key("ledger.key")? })
    }

    /// Tells these keys from others, and nothing about them.
    pub fn fingerprint(&self) -> String {
        let parts = [&self.token, &self.link, &self.ledger].map(|key| mac(key, &[b"fingerprint"]));
        let whole = mac(&self.token, &parts.each_ref().map(<[u8; 32]>::as_slice));
        whole.iter().take(FINGERPRINT_BYTES).map(|byte| format!("{byte:02x}")).collect()
    }

    /// What is stored of an access token: a keyed hash, useless without this key.
    pub fn token_hash(&self, token: &str) -> [u8; 32] {
        mac(&self.token, &[token.as_bytes()])
    }

    /// A MAC over parts, for links and derived tokens. `purpose` keeps one use from another.
    pub fn link_mac(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut all = vec![purpose.as_bytes()];
        all.extend_from_slice(parts);
        mac(&self.link, &all)
    }

    /// Checks a MAC in constant time.
    pub fn verify_link(&self, purpose: &str, parts: &[&[u8]], given: &[u8]) -> bool {
        self.link_mac(purpose, parts).ct_eq(given).into()
    }

    /// The seed of the key that signs the ledger.
    pub fn ledger_seed(&self) -> &[u8; KEY_BYTES] {
        &self.ledger.0
    }
}

/// HMAC-SHA-256 over parts, each with its length before it, so that no two lists run together.
fn mac(key: &SecretKey, parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes keys of every length; this cannot fail, and an empty answer matches nothing.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.0.as_slice()) else { return [0; 32] };
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn load_or_create(path: &Path) -> Result<SecretKey, VaultError> {
    match load(path) {
        Err(VaultError::Missing(_)) => {
            create(path)?;
            load(path)
        }
        found => found,
    }
}

fn load(path: &Path) -> Result<SecretKey, VaultError> {
    match fs::File::open(path) {
        Ok(file) => {
            refuse_open(path, FILE_MODE)?;
            read(file, path)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(VaultError::Missing(path.to_owned()))
        }
        Err(error) => Err(VaultError::Io { path: path.to_owned(), error }),
    }
}

fn read(file: fs::File, path: &Path) -> Result<SecretKey, VaultError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1));
    file.take(KEY_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| VaultError::Io { path: path.to_owned(), error })?;
    let key = bytes.as_slice().try_into().map_err(|_| VaultError::Length(path.to_owned()))?;
    Ok(SecretKey(Zeroizing::new(key)))
}

/// Writes a new key beside, makes it durable, and links it into place: of two who try at once,
/// one wins and both read the same key.
fn create(path: &Path) -> Result<(), VaultError> {
    let io = |error| VaultError::Io { path: path.to_owned(), error };
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(key.as_mut_slice()).map_err(|_| VaultError::Random)?;
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&beside).map_err(io)?;
    file.write_all(key.as_slice()).and_then(|()| file.sync_all()).map_err(io)?;
    let linked = fs::hard_link(&beside, path);
    fs::remove_file(&beside).map_err(io)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(io(error)),
        _ => {
            let folder = path.parent().unwrap_or(path);
            fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
        }
    }
}

fn refuse_open(path: &Path, mode: u32) -> Result<(), VaultError> {
    let meta = fs::metadata(path).map_err(|error| VaultError::Io { path: path.to_owned(), error })?;
    if meta.mode() & OTHERS == 0 { Ok(()) } else { Err(VaultError::Open { path: path.to_owned(), mode }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_stay_the_same_and_differ_from_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let one = Keys::load_or_create(&path).unwrap();
        let two = Keys::load_or_create(&path).unwrap();
        assert_eq!(one.token_hash("t"), two.token_hash("t"));
        assert_ne!(one.token_hash("t"), one.link_mac("t", &[]));
        assert_ne!(one.token.0, one.ledger.0);
        assert_eq!(one.fingerprint(), Keys::load(&path).unwrap().fingerprint());
        assert!(!format!("{one:?}").contains(|c: char| c.is_ascii_digit()));
    }

    #[test]
    fn keys_that_others_can_read_are_refused_with_the_cure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        Keys::load_or_create(&path).unwrap();
        fs::set_permissions(path.join("link.key"), fs::Permissions::from_mode(0o644)).unwrap();
        let error = Keys::load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        fs::set_permissions(path.join("link.key"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(path.join("link.key"), b"short").unwrap();
        assert!(matches!(Keys::load_or_create(&path), Err(VaultError::Length(_))));
    }

    #[test]
    fn a_missing_key_is_not_made_anew_where_one_was_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        assert!(matches!(Keys::load(&path), Err(VaultError::Missing(_))));
        let before = Keys::load_or_create(&path).unwrap().fingerprint();
        fs::remove_file(path.join("ledger.key")).unwrap();
        assert!(matches!(Keys::load(&path), Err(VaultError::Missing(_))));
        assert_ne!(Keys::load_or_create(&path).unwrap().fingerprint(), before);
    }

    #[test]
    fn parts_do_not_run_together() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::load_or_create(&folder.path().join("keys")).unwrap();
        let mac = keys.link_mac("p", &[b"ab", b"c"]);
        assert!(keys.verify_link("p", &[b"ab", b"c"], &mac));
        assert!(!keys.verify_link("p", &[b"a", b"bc"], &mac));
        assert!(!keys.verify_link("q", &[b"ab", b"c"], &mac));
        assert!(!keys.verify_link("p", &[b"ab", b"c"], &mac[..31]));
    }
}
