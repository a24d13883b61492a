//! Words of discussions and pull requests.

use crate::Invalid;

/// Where a discussion or a pull request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiscussionStatus {
    /// A pull request that its author still works on. Leads to `Open`, once.
    Draft,
    Open,
    Closed,
    /// A pull request whose commits are in the branch that it is for. Final.
    Merged,
}

impl DiscussionStatus {
    pub const ALL: [Self; 4] = [Self::Draft, Self::Open, Self::Closed, Self::Merged];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Merged => "merged",
        }
    }

    /// What lists of open ones show.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Draft | Self::Open)
    }
}

impl std::fmt::Display for DiscussionStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for DiscussionStatus {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let found = Self::ALL.into_iter().find(|status| status.as_str() == text);
        found.ok_or_else(|| Invalid::new("status must be one of [draft, open, closed, merged]"))
    }
}

/// What an event in a discussion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiscussionEventKind {
    Comment,
    StatusChange,
    Commit,
    TitleChange,
    PinningChange,
    LockingChange,
    /// A pull request's commits can no longer be fetched.
    RefDeletion,
    Reference,
}

impl DiscussionEventKind {
    pub const ALL: [Self; 8] = [
        Self::Comment,
        Self::StatusChange,
        Self::Commit,
        Self::TitleChange,
        Self::PinningChange,
        Self::LockingChange,
        Self::RefDeletion,
        Self::Reference,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Comment => "comment",
            Self::StatusChange => "status-change",
            Self::Commit => "commit",
            Self::TitleChange => "title-change",
            Self::PinningChange => "pinning-change",
            Self::LockingChange => "locking-change",
            Self::RefDeletion => "ref-deletion",
            Self::Reference => "reference",
        }
    }
}

impl std::str::FromStr for DiscussionEventKind {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| Invalid::new(format!("'{text}' is no kind of event")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_both_ways() {
        for status in DiscussionStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        for kind in DiscussionEventKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert!("Open".parse::<DiscussionStatus>().is_err());
    }
}
