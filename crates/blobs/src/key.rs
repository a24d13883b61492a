//! The keys of blobs: a class and a name, safe as a path and as an object's name.

use std::fmt;
use std::str::FromStr;

use crate::BlobError;

const MAX_NAME: usize = 128;
const MIN_NAME: usize = 4;
const SUFFIX_BYTES: usize = 8;

/// What a blob is for: its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    Xorb,
    XorbIndex,
    Pack,
    PackIndex,
}

impl Class {
    pub const ALL: [Self; 4] = [Self::Xorb, Self::XorbIndex, Self::Pack, Self::PackIndex];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Xorb => "xorb",
            Self::XorbIndex => "xorb-index",
            Self::Pack => "pack",
            Self::PackIndex => "pack-index",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BlobKey {
    class: Class,
    name: String,
}

impl BlobKey {
    pub fn new(class: Class, name: &str) -> Result<Self, BlobError> {
        let good = (MIN_NAME..=MAX_NAME).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && !name.contains("..")
            && name.bytes().take(MIN_NAME).all(|b| b.is_ascii_alphanumeric());
        if good { Ok(Self { class, name: name.to_owned() }) } else { Err(BlobError::BadKey(name.to_owned())) }
    }

    /// A key that has never been used: the content's hash and a random suffix.
    pub fn fresh(class: Class, hash: &str) -> Result<Self, BlobError> {
        let mut random = [0; SUFFIX_BYTES];
        getrandom::fill(&mut random).map_err(|error| BlobError::Config(error.to_string()))?;
        let suffix: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Self::new(class, &format!("{hash}.{suffix}"))
    }

    pub const fn class(&self) -> Class {
        self.class
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// `class/ab/cd/name`.
    pub(crate) fn path(&self) -> String {
        let (first, second) = (self.name.get(..2).unwrap_or("__"), self.name.get(2..4).unwrap_or("__"));
        format!("{}/{first}/{second}/{}", self.class.as_str(), self.name)
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.class.as_str(), self.name)
    }
}

impl FromStr for BlobKey {
    type Err = BlobError;

    fn from_str(text: &str) -> Result<Self, BlobError> {
        let bad = || BlobError::BadKey(text.to_owned());
        let (class, name) = text.split_once('/').ok_or_else(bad)?;
        let class = Class::ALL.into_iter().find(|known| known.as_str() == class).ok_or_else(bad)?;
        Self::new(class, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cannot_leave_their_folder() {
        for bad in [
            "",
            "abc",
            "../../x",
            "ab/cd",
            "a..b",
            "....",
            "-abcd",
            "abcd\0",
            "ab cd",
            "x".repeat(129).as_str(),
        ] {
            assert!(BlobKey::new(Class::Xorb, bad).is_err(), "{bad:?}");
        }
        let key = BlobKey::fresh(Class::Pack, "abcdef").unwrap();
        assert_eq!(key.to_string().parse::<BlobKey>().unwrap(), key);
        assert!(key.path().starts_with("pack/ab/cd/abcdef."));
        assert!("nothing/abcd".parse::<BlobKey>().is_err());
        assert_ne!(BlobKey::fresh(Class::Pack, "abcdef").unwrap(), key);
    }
}
