//! Signed checkpoints: C2SP tlog-checkpoint inside a C2SP signed-note, with Ed25519.
//!
//! ```text
//! <origin>\n<size>\n<base64 root>\n\n— <key name> <base64 of 4-byte key id and signature>\n
//! ```

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer;
use sha2::{Digest, Sha256};

use crate::tree::Hash;

/// The algorithm byte of Ed25519 in signed notes.
const ED25519: u8 = 1;
const KEY_ID_BYTES: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    #[error("it is not a checkpoint")]
    Malformed,
    #[error("it is not signed by this key")]
    OtherKey,
    #[error("it is about another ledger")]
    OtherLedger,
    #[error("its signature is wrong")]
    BadSignature,
    #[error("a key's name has no spaces, '+' or line ends")]
    BadName,
    #[error("it is not a public key of the form name+id+base64")]
    BadKey,
}

/// The tree at one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub origin: String,
    pub size: i64,
    pub root: Hash,
}

impl Checkpoint {
    fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    fn parse(body: &str) -> Option<Self> {
        let mut lines = body.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        // The body ends with a line end and has no lines besides.
        if lines.next() != Some("") || lines.next().is_some() || origin.is_empty() {
            return None;
        }
        let number: i64 = size.parse().ok()?;
        let root: Hash = STANDARD.decode(root).ok()?.try_into().ok()?;
        (number >= 0 && number.to_string() == size).then(|| Self {
            origin: origin.to_owned(),
            size: number,
            root,
        })
    }
}

/// Signs checkpoints. Shows nothing of itself.
pub struct SigningKey {
    name: String,
    key: ed25519_dalek::SigningKey,
}

impl SigningKey {
    pub fn new(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        check_name(name)?;
        Ok(Self { name: name.to_owned(), key: ed25519_dalek::SigningKey::from_bytes(seed) })
    }

    /// A key whose name says which it is: the same wherever the hub is reached, and never that of
    /// another hub.
    pub fn of_hub(seed: &[u8; 32]) -> Self {
        let key = ed25519_dalek::SigningKey::from_bytes(seed);
        let digest = Sha256::digest(key.verifying_key().as_bytes());
        let id: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { name: format!("bastide-{id}/ledger"), key }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey { name: self.name.clone(), key: self.key.verifying_key() }
    }
}

/// Checks checkpoints. Its text form is that of signed notes: `name+keyid+base64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    name: String,
    key: ed25519_dalek::VerifyingKey,
}

impl VerifyingKey {
    fn id(&self) -> [u8; KEY_ID_BYTES] {
        let digest = Sha256::new()
            .chain_update(self.name.as_bytes())
            .chain_update([b'\n', ED25519])
            .chain_update(self.key.as_bytes())
            .finalize();
        let mut id = [0; KEY_ID_BYTES];
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        id
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519];
        key.extend_from_slice(self.key.as_bytes());
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id()), STANDARD.encode(key))
    }
}

impl FromStr for VerifyingKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::BadKey);
        };
        check_name(name)?;
        let bytes = STANDARD.decode(key).map_err(|_| NoteError::BadKey)?;
        let Some((&ED25519, bytes)) = bytes.split_first() else { return Err(NoteError::BadKey) };
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| NoteError::BadKey)?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes).map_err(|_| NoteError::BadKey)?;
        let key = Self { name: name.to_owned(), key };
        if format!("{:08x}", u32::from_be_bytes(key.id())) == id { Ok(key) } else { Err(NoteError::BadKey) }
    }
}

fn check_name(name: &str) -> Result<(), NoteError> {
    let bad = name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '+' || c.is_control());
    if bad { Err(NoteError::BadName) } else { Ok(()) }
}

pub fn sign_checkpoint(checkpoint: &Checkpoint, key: &SigningKey) -> String {
    let body = checkpoint.body();
    let mut signature = key.verifying_key().id().to_vec();
    signature.extend_from_slice(&key.key.sign(body.as_bytes()).to_bytes());
    format!("{body}\n\u{2014} {} {}\n", key.name, STANDARD.encode(signature))
}

/// The checkpoint in a note, if `key` signed it. Signatures of others beside ours are allowed, as
/// witnesses add them.
pub fn verify_checkpoint(note: &str, key: &VerifyingKey) -> Result<Checkpoint, NoteError> {
    let (text, signatures) = note.split_once("\n\n").ok_or(NoteError::Malformed)?;
    let body = format!("{text}\n");
    let signatures = signatures.strip_suffix('\n').ok_or(NoteError::Malformed)?;
    let mut found = Err(NoteError::OtherKey);
    for line in signatures.split('\n') {
        let line = line.strip_prefix("\u{2014} ").ok_or(NoteError::Malformed)?;
        let (name, encoded) = line.split_once(' ').ok_or(NoteError::Malformed)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| NoteError::Malformed)?;
        let (id, signature) = bytes.split_at_checked(KEY_ID_BYTES).ok_or(NoteError::Malformed)?;
        if name == key.name && id == key.id() {
            let signature =
                ed25519_dalek::Signature::from_slice(signature).map_err(|_| NoteError::Malformed)?;
            key.key.verify_strict(body.as_bytes(), &signature).map_err(|_| NoteError::BadSignature)?;
            found = Ok(());
        }
    }
    found?;
    let checkpoint = Checkpoint::parse(&body).ok_or(NoteError::Malformed)?;
    if checkpoint.origin == key.name { Ok(checkpoint) } else { Err(NoteError::OtherLedger) }
}

/// Follows each note in a file of several: no line of a note is like it.
const AFTER_NOTE: &str = "---\n";

/// One note as a part of a file of notes.
pub fn write_note(note: &str) -> String {
    format!("{note}{AFTER_NOTE}")
}

/// The notes of a file. What is half written at its end is no note.
pub fn read_notes(text: &str) -> Vec<String> {
    let mut notes: Vec<String> = text.split(AFTER_NOTE).map(ToOwned::to_owned).collect();
    notes.pop();
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed() -> (String, VerifyingKey) {
        let key = SigningKey::new("hub.example.org/ledger", &[7; 32]).unwrap();
        let checkpoint = Checkpoint { origin: "hub.example.org/ledger".into(), size: 5, root: [9; 32] };
        (sign_checkpoint(&checkpoint, &key), key.verifying_key())
    }

    #[test]
    fn a_signed_checkpoint_verifies_and_keys_survive_their_text() {
        let (note, key) = signed();
        assert_eq!(verify_checkpoint(&note, &key).unwrap().size, 5);
        assert_eq!(key.to_string().parse(), Ok(key));
    }

    #[test]
    fn a_checkpoint_of_another_ledger_says_nothing_about_this_one() {
        let key = SigningKey::new("hub.example.org/ledger", &[7; 32]).unwrap();
        let checkpoint = Checkpoint { origin: "other/ledger".into(), size: 5, root: [9; 32] };
        let note = sign_checkpoint(&checkpoint, &key);
        assert_eq!(verify_checkpoint(&note, &key.verifying_key()), Err(NoteError::OtherLedger));
    }

    #[test]
    fn forgeries_are_refused() {
        let (note, key) = signed();
        let other = SigningKey::new("hub.example.org/ledger", &[8; 32]).unwrap().verifying_key();
        assert_eq!(verify_checkpoint(&note, &other), Err(NoteError::OtherKey));
        for bad in [
            note.replace("\n5\n", "\n6\n"),
            note.replace("\n5\n", "\n05\n"),
            note.replacen("ledger\n", "ledger2\n", 1),
            note.replacen("\n\n", "\nextra\n\n", 1),
            note.trim_end().to_owned(),
            format!("{note}x"),
            String::new(),
        ] {
            assert!(verify_checkpoint(&bad, &key).is_err(), "{bad}");
        }
        assert!("a+00000000+AAAA".parse::<VerifyingKey>().is_err());
        assert!(SigningKey::new("a b", &[0; 32]).is_err());
    }
}
