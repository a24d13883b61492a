//! The key of a blob: what kind of bytes, and a name. A name can never leave its folder: it has no
//! separator, does not begin with a dot, and the folder made from it has no dots at all.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use bastide_core::Invalid;

/// Longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// Random bytes behind the hash in a fresh key.
const SUFFIX_BYTES: usize = 8;

/// What kind of bytes: the first folder of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    Xorb,
    XorbIndex,
    Pack,
    PackIndex,
    Part,
}

impl Class {
    pub const ALL: [Self; 5] = [Self::Xorb, Self::XorbIndex, Self::Pack, Self::PackIndex, Self::Part];

    pub const fn folder(self) -> &'static str {
        match self {
            Self::Xorb => "xorb",
            Self::XorbIndex => "xorb-index",
            Self::Pack => "pack",
            Self::PackIndex => "pack-index",
            Self::Part => "part",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobKey {
    class: Class,
    name: String,
}

impl BlobKey {
    pub fn new(class: Class, name: impl Into<String>) -> Result<Self, Invalid> {
        let name = name.into();
        if !(1..=MAX_NAME_BYTES).contains(&name.len()) {
            return Err(Invalid::new("the name of a blob has 1 to 128 characters"));
        }
        if name.starts_with('.') || !name.bytes().all(allowed) {
            return Err(Invalid::new(
                "the name of a blob has letters, digits, '.', '_' and '-', and does not begin with a dot",
            ));
        }
        Ok(Self { class, name })
    }

    /// A physical key for these bytes, new at every call: deleting an old copy can then never hit
    /// a copy that is being stored at the same moment.
    pub fn fresh(class: Class, hash_hex: impl fmt::Display) -> Result<Self, Invalid> {
        let suffix = random_hex().map_err(|_| Invalid::new("the system has no randomness"))?;
        Self::new(class, format!("{hash_hex}.{suffix}"))
    }

    pub const fn class(&self) -> Class {
        self.class
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// `<class>/ab/cd/<name>`. A dot becomes `_` in the two short folders: a name such as `a..b`
    /// must not make a folder called `..`.
    pub(crate) fn relative_path(&self) -> PathBuf {
        let shard = |from: usize| -> String {
            let letters = self.name.chars().chain(std::iter::repeat('_')).skip(from).take(2);
            letters.map(|letter| if letter == '.' { '_' } else { letter }).collect()
        };
        [self.class.folder(), &shard(0), &shard(2), &self.name].iter().collect()
    }
}

fn allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// 16 random hex digits.
pub(crate) fn random_hex() -> std::io::Result<String> {
    let mut bytes = [0; SUFFIX_BYTES];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(format!("{:016x}", u64::from_le_bytes(bytes)))
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.class.folder(), self.name)
    }
}

impl FromStr for BlobKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (folder, name) =
            text.split_once('/').ok_or_else(|| Invalid::new("a blob key is <class>/<name>"))?;
        let class = Class::ALL
            .into_iter()
            .find(|class| class.folder() == folder)
            .ok_or_else(|| Invalid::new("a blob key begins with a known class"))?;
        Self::new(class, name)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_names_are_refused() {
        let long = "a".repeat(MAX_NAME_BYTES + 1);
        let hostile = [
            "", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "a\0b", "a b", "ä", ".hidden", "..ab", "a\n",
            "a%2fb", &long,
        ];
        for name in hostile {
            assert!(BlobKey::new(Class::Xorb, name).is_err(), "{name:?} was taken");
            assert!(format!("xorb/{name}").parse::<BlobKey>().is_err(), "{name:?} was parsed");
        }
        assert!(BlobKey::new(Class::Xorb, "a".repeat(MAX_NAME_BYTES)).is_ok());
    }

    #[test]
    fn dots_in_a_name_never_make_a_parent_folder() {
        let path = |name: &str| BlobKey::new(Class::Pack, name).unwrap().relative_path();
        assert_eq!(path("a..b"), Path::new("pack/a_/_b/a..b"));
        assert_eq!(path("ab..x"), Path::new("pack/ab/__/ab..x"));
        assert_eq!(path("a"), Path::new("pack/a_/__/a"));
        assert_eq!(path("deadbeef.01"), Path::new("pack/de/ad/deadbeef.01"));
    }

    #[test]
    fn unknown_classes_and_bare_names_are_refused() {
        for text in ["", "xorb", "tmp/x", "XORB/x", "/x", "xorb/", "pack/a/b", "../xorb/x"] {
            assert!(text.parse::<BlobKey>().is_err(), "{text:?} was parsed");
        }
    }

    #[test]
    fn fresh_keys_of_one_hash_differ() {
        let hash = "ab".repeat(32);
        let (one, two) =
            (BlobKey::fresh(Class::Xorb, &hash).unwrap(), BlobKey::fresh(Class::Xorb, &hash).unwrap());
        assert_ne!(one, two);
        let (front, suffix) = one.name().split_once('.').unwrap();
        assert_eq!((front, suffix.len()), (hash.as_str(), 16));
        assert!(BlobKey::fresh(Class::Xorb, "../x").is_err());
    }

    proptest! {
        #[test]
        fn every_key_survives_its_text_and_stays_in_four_plain_segments(name in "[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}") {
            for class in Class::ALL {
                let key = BlobKey::new(class, name.clone()).unwrap();
                prop_assert_eq!(&key.to_string().parse::<BlobKey>().unwrap(), &key);
                let path = key.relative_path();
                prop_assert_eq!(path.components().count(), 4);
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }
}
