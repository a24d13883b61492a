//! The three hashes that name bytes: git object ids, SHA-256 and Xet hashes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Invalid;

/// Reads exactly `N` bytes of lower- or upper-case hex.
fn decode_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = (nibble(*high)? << 4) | nibble(*low)?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: impl IntoIterator<Item = u8>) -> fmt::Result {
    bytes.into_iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            pub fn from_slice(bytes: &[u8]) -> Result<Self, Invalid> {
                let bytes = bytes
                    .try_into()
                    .map_err(|_| Invalid::new(concat!($what, " of the wrong length")))?;
                Ok(Self(bytes))
            }

            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hash_type!(
    /// A git object id (SHA-1).
    Oid, 20, "git object id"
);
hash_type!(
    /// A SHA-256, printed as plain hex: LFS object ids and ETags of large files.
    Sha256, 32, "SHA-256"
);
hash_type!(
    /// A hash of the Xet protocol (chunk, xorb or file). Its text form is four little-endian
    /// 64-bit words in hex, not plain hex.
    XetHash, 32, "Xet hash"
);

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, self.0)
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, self.0)
    }
}

impl fmt::Display for XetHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, swap_words(self.0))
    }
}

impl FromStr for Oid {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        decode_hex(text).map(Self).ok_or_else(|| Invalid::new("a git object id is 40 hex digits"))
    }
}

impl FromStr for Sha256 {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        decode_hex(text).map(Self).ok_or_else(|| Invalid::new("a SHA-256 is 64 hex digits"))
    }
}

impl FromStr for XetHash {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        decode_hex(text)
            .map(|bytes| Self(swap_words(bytes)))
            .ok_or_else(|| Invalid::new("a Xet hash is 64 hex digits"))
    }
}

/// Reverses the bytes of each 8-byte word: storage order to print order and back.
fn swap_words(mut bytes: [u8; 32]) -> [u8; 32] {
    bytes.chunks_exact_mut(8).for_each(<[u8]>::reverse);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn xet_hash_text_is_little_endian_words() {
        let mut bytes = [0; 32];
        bytes[0] = 1;
        bytes[31] = 2;
        let hash = XetHash::from_bytes(bytes);
        assert_eq!(hash.to_string(), "0000000000000001000000000000000000000000000000000200000000000000");
    }

    proptest! {
        #[test]
        fn text_and_bytes_agree(bytes: [u8; 32]) {
            prop_assert_eq!(XetHash::from_bytes(bytes).to_string().parse(), Ok(XetHash::from_bytes(bytes)));
            prop_assert_eq!(Sha256::from_bytes(bytes).to_string().parse(), Ok(Sha256::from_bytes(bytes)));
        }

        #[test]
        fn any_other_text_is_refused(text in "\\PC{0,80}") {
            let hex = text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
            prop_assert_eq!(text.parse::<Oid>().is_ok(), hex);
        }
    }
}
