//! Secrets of users, that have to come back as they were: sealed at rest, used, never shown.

use hmac::{Hmac, Mac};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{Keys, VaultError, mac};

/// The form of what is sealed: its first byte. Another form, another number.
const VERSION: u8 = 1;

/// A secret text. No `Display`, no `Serialize`, no `Clone`; wiped when dropped.
///
/// ```compile_fail
/// fn clones<T: Clone>() {}
/// clones::<bastide_vault::Secret>();
/// ```
/// ```compile_fail
/// fn shows<T: std::fmt::Display>() {}
/// shows::<bastide_vault::Secret>();
/// ```
pub struct Secret(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text.into_bytes()))
    }
}

impl Secret {
    /// The value, for the one use that it is for.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// HMAC-SHA-256 with the secret as the key, over parts that follow each other.
    pub fn hmac(&self, parts: &[&[u8]]) -> [u8; 32] {
        // HMAC takes keys of every length; this cannot fail, and an empty answer matches nothing.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return [0; 32] };
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}

impl Keys {
    /// Seals a secret for one purpose and one place: what is sealed for another does not open there.
    pub fn seal(&self, purpose: &str, place: &[u8], secret: &Secret) -> Result<Vec<u8>, VaultError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| VaultError::Random)?;
        let mut text = Zeroizing::new(secret.0.to_vec());
        let key = self.sealing_key(purpose)?;
        let tag = key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut text)
            .map_err(|_| VaultError::Sealed)?;
        Ok([&[VERSION], nonce.as_slice(), &text, tag.as_ref()].concat())
    }

    /// Opens what was sealed for this purpose and this place.
    pub fn open(&self, purpose: &str, place: &[u8], sealed: &[u8]) -> Result<Secret, VaultError> {
        let rest = sealed.strip_prefix(&[VERSION]).ok_or(VaultError::Sealed)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or(VaultError::Sealed)?;
        let mut text = Zeroizing::new(text.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let key = self.sealing_key(purpose)?;
        let opened = key.open_in_place(nonce, Aad::from(place), &mut text).map_err(|_| VaultError::Sealed)?;
        Ok(Secret(Zeroizing::new(opened.to_vec())))
    }

    /// A key of its own for each purpose, made from the key of tokens: hashes of tokens are over one
    /// part and the fingerprint over three, so no answer of ours is ever this key.
    fn sealing_key(&self, purpose: &str) -> Result<LessSafeKey, VaultError> {
        let key = Zeroizing::new(mac(&self.token, &[b"seal", purpose.as_bytes()]));
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_slice()).map_err(|_| VaultError::Sealed)?;
        Ok(LessSafeKey::new(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> (tempfile::TempDir, Keys) {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::load_or_create(&folder.path().join("keys")).unwrap();
        (folder, keys)
    }

    #[test]
    fn a_secret_opens_where_it_was_sealed_and_nowhere_else() {
        let (_folder, keys) = keys();
        let secret = Secret::from("correct horse".to_owned());
        let sealed = keys.seal("webhook", b"7", &secret).unwrap();
        assert_eq!(keys.open("webhook", b"7", &sealed).unwrap().expose(), b"correct horse");
        assert!(!sealed.windows(7).any(|window| window == b"correct"));
        assert_ne!(sealed, keys.seal("webhook", b"7", &secret).unwrap());
        assert!(keys.open("webhook", b"8", &sealed).is_err());
        assert!(keys.open("other", b"7", &sealed).is_err());
        let (_other_folder, others) = self::keys();
        assert!(others.open("webhook", b"7", &sealed).is_err());
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(keys.open("webhook", b"7", &changed).is_err(), "{place}");
            assert!(keys.open("webhook", b"7", &sealed[..place]).is_err(), "{place}");
        }
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }

    /// RFC 4231, test case 2.
    #[test]
    fn signatures_are_plain_hmac_sha_256() {
        let mac = Secret::from("Jefe".to_owned()).hmac(&[b"what do ya want ", b"for nothing?"]);
        let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
