//! Who may do how much: organisation roles, token roles, visibility.

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// A role in an organisation, from nothing to everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    NoAccess,
    Read,
    /// Reads everything, creates repositories, and writes to those that it created.
    Contributor,
    Write,
    Admin,
}

/// What a classic token may do at most. It never exceeds its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenRole {
    Read,
    Write,
}

/// Who may see a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// The owner and the members of the organisation.
    Private,
    /// Any signed-in user of this hub.
    Internal,
    /// Everybody, without signing in.
    Public,
}

macro_rules! words {
    ($type:ident, $what:literal, $($variant:ident = $word:literal),+) => {
        impl $type {
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(Invalid::new(concat!($what, " must be one of [", words!(@list $($word),+), "]"))),
                }
            }
        }
    };
    (@list $first:literal $(, $rest:literal)*) => { concat!($first $(, ", ", $rest)*) };
}

words!(
    Role,
    "role",
    NoAccess = "no_access",
    Read = "read",
    Contributor = "contributor",
    Write = "write",
    Admin = "admin"
);
words!(TokenRole, "token role", Read = "read", Write = "write");
words!(Visibility, "visibility", Private = "private", Internal = "internal", Public = "public");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_both_ways_and_errors_name_them() {
        assert_eq!("contributor".parse(), Ok(Role::Contributor));
        assert_eq!(Role::NoAccess.to_string(), "no_access");
        let error = "open".parse::<Visibility>().unwrap_err();
        assert_eq!(error.to_string(), "visibility must be one of [private, internal, public]");
    }
}
