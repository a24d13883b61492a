//! Names of namespaces and repositories, and the path that the two make with a kind.
//!
//! Comparison ignores case: the lower-case form is the key, the spelling is kept for show.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::Invalid;
use crate::limits::{MAX_NAMESPACE_NAME, MAX_REPO_NAME};

/// First path segments that are routes of ours: nobody can be called that.
const RESERVED: &[&str] = &[
    "about",
    "account",
    "admin",
    "api",
    "apps",
    "assets",
    "avatars",
    "blog",
    "buckets",
    "collections",
    "datasets",
    "docs",
    "enterprise",
    "front",
    "health",
    "healthz",
    "help",
    "install",
    "join",
    "kernels",
    "lfs",
    "login",
    "logout",
    "me",
    "metrics",
    "models",
    "new",
    "new-dataset",
    "new-space",
    "none",
    "null",
    "oauth",
    "organizations",
    "papers",
    "posts",
    "pricing",
    "public",
    "resolve",
    "search",
    "security",
    "settings",
    "setup",
    "spaces",
    "static",
    "status",
    "tasks",
    "terms-of-service",
    "undefined",
    "users",
    "v1",
    "v2",
    "well-known",
    "xet",
];

/// The name of a user or an organisation.
#[derive(Debug, Clone)]
pub struct Name(String);

/// The name of a repository inside its namespace.
#[derive(Debug, Clone)]
pub struct RepoName(String);

macro_rules! name_type {
    ($name:ident) => {
        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The form that comparison uses.
            pub fn key(&self) -> String {
                self.0.to_ascii_lowercase()
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.eq_ignore_ascii_case(&other.0)
            }
        }

        impl Eq for $name {}

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

name_type!(Name);
name_type!(RepoName);

impl FromStr for Name {
    type Err = Invalid;

    /// 2 to 42 letters, digits, `-` and `_`; no `-` at the ends or doubled; not all digits;
    /// not 24 hex digits (that would be an id); not one of our own routes.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if !(2..=MAX_NAMESPACE_NAME).contains(&text.len()) {
            return Err(Invalid::new(format!("a name has 2 to {MAX_NAMESPACE_NAME} characters")));
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return Err(Invalid::new("a name has only letters, digits, '-' and '_'"));
        }
        if text.starts_with('-') || text.ends_with('-') || text.contains("--") {
            return Err(Invalid::new("a name has single '-' and none at its ends"));
        }
        let looks_like_id = text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if looks_like_id || text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Invalid::new("a name must not look like a number or an id"));
        }
        if RESERVED.contains(&text.to_ascii_lowercase().as_str()) {
            return Err(Invalid::new(format!("the name '{text}' is reserved")));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for RepoName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() || text.len() > MAX_REPO_NAME {
            return Err(Invalid::new(format!("a repository name has 1 to {MAX_REPO_NAME} characters")));
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            return Err(Invalid::new("a repository name has only letters, digits, '-', '_' and '.'"));
        }
        let bad_end = |c| c == '-' || c == '.';
        if text.starts_with(bad_end) || text.ends_with(bad_end) {
            return Err(Invalid::new("a repository name does not start or end with '-' or '.'"));
        }
        if text.contains("--") || text.contains("..") {
            return Err(Invalid::new("a repository name has no '--' and no '..'"));
        }
        if text.to_ascii_lowercase().ends_with(".git") {
            return Err(Invalid::new("a repository name does not end in '.git'"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The kinds of repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RepoKind {
    Model,
    Dataset,
    Space,
}

impl RepoKind {
    pub const ALL: [Self; 3] = [Self::Model, Self::Dataset, Self::Space];

    /// `model`: as requests and events say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "dataset",
            Self::Space => "space",
        }
    }

    /// `models`: the segment after `/api/`.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
            Self::Space => "spaces",
        }
    }

    /// What comes before `namespace/name` in a page's or file's URL.
    pub const fn url_prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
            Self::Space => "spaces/",
        }
    }

    pub fn from_plural(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.plural() == text)
    }
}

impl fmt::Display for RepoKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RepoKind {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| Invalid::new("type must be one of [model, dataset, space]"))
    }
}

/// Where a repository is today: kind, namespace, name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoPath {
    pub kind: RepoKind,
    pub namespace: Name,
    pub name: RepoName,
}

impl RepoPath {
    /// Parses `namespace/name`.
    pub fn parse(kind: RepoKind, id: &str) -> Result<Self, Invalid> {
        let (namespace, name) = id
            .split_once('/')
            .ok_or_else(|| Invalid::new(format!("'{id}' is not of the form namespace/name")))?;
        Ok(Self { kind, namespace: namespace.parse()?, name: name.parse()? })
    }

    /// `namespace/name`, the id that clients know.
    pub fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// `namespace/name` in the form that comparison uses.
    pub fn key(&self) -> String {
        self.id().to_ascii_lowercase()
    }

    /// The path of its page: `namespace/name` with the kind's prefix, no leading slash.
    pub fn url_path(&self) -> String {
        format!("{}{}", self.kind.url_prefix(), self.id())
    }

    /// True when the two are spelled alike too, not only equal.
    pub fn same_spelling(&self, other: &Self) -> bool {
        self.kind == other.kind && self.id() == other.id()
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind.plural(), self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_names() {
        for good in ["ann", "Ann-Lee", "__DUMMY_HUB_USER__", "a1", "x".repeat(42).as_str()] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "-ann",
            "ann-",
            "a--b",
            "12345",
            "a/b",
            "a b",
            "a\0b",
            "ünal",
            "api",
            "Datasets",
            "0123456789abcdef01234567",
            "x".repeat(43).as_str(),
            "a.b",
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn repo_names() {
        for good in ["a", "gpt-2", "v1.5_x", "x".repeat(96).as_str()] {
            assert!(good.parse::<RepoName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            ".a",
            "a.",
            "-a",
            "a-",
            "a--b",
            "a..b",
            "a.git",
            "A.GIT",
            "a/b",
            "a b",
            "é",
            "x".repeat(97).as_str(),
        ] {
            assert!(bad.parse::<RepoName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn comparison_ignores_case_but_spelling_is_kept() {
        let one = RepoPath::parse(RepoKind::Model, "Ann/Bert").unwrap();
        let two = RepoPath::parse(RepoKind::Model, "ann/bert").unwrap();
        assert_eq!(one, two);
        assert!(!one.same_spelling(&two));
        assert_eq!(one.id(), "Ann/Bert");
        assert_eq!(one.key(), two.key());
    }
}
