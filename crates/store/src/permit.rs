//! Permits: the values without which nothing of a repository or namespace is read or changed.
//!
//! `grant_repo`, `grant_namespace` and `grant_collection` make them. They live here, in a crate that the
//! presentations may not depend on, and `hub::access` is their only caller: whoever handles a
//! request can hold a permit, but cannot make one.

use std::marker::PhantomData;
use std::sync::Arc;

use bastide_core::{CollectionId, NamespaceId, RepoId, RepoPath, Timestamp, Visibility};

/// May know that it exists and read its metadata (a gated repository shows this to everybody).
#[derive(Debug, Clone, Copy)]
pub struct See;
/// May read contents.
#[derive(Debug, Clone, Copy)]
pub struct Read;
/// May read contents and, by name, say something about them: discussions, comments, and pull requests with
/// the content that they bring along.
#[derive(Debug, Clone, Copy)]
pub struct Propose;
/// May change contents.
#[derive(Debug, Clone, Copy)]
pub struct Write;
/// May change settings, move, delete.
#[derive(Debug, Clone, Copy)]
pub struct Admin;

/// Levels from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    See,
    Read,
    Propose,
    Write,
    Admin,
}

pub trait Level: Copy + Send + Sync + 'static {
    const RANK: Rank;
}

macro_rules! levels {
    ($($level:ident),+) => { $(impl Level for $level { const RANK: Rank = Rank::$level; })+ };
}
levels!(See, Read, Propose, Write, Admin);

/// `A: Includes<B>`: whoever may `A` may `B`.
pub trait Includes<L: Level>: Level {}

macro_rules! includes {
    ($($level:ident => [$($lower:ident),+]),+ $(,)?) => {
        $($(impl Includes<$lower> for $level {})+)+
    };
}
includes! {
    See => [See],
    Read => [See, Read],
    Propose => [See, Read, Propose],
    Write => [See, Read, Propose, Write],
    Admin => [See, Read, Propose, Write, Admin],
}

/// What of a repository every operation needs at once; loaded with the permit.
#[derive(Debug, Clone)]
pub struct Repo {
    pub id: RepoId,
    pub path: RepoPath,
    pub namespace_id: NamespaceId,
    pub visibility: Visibility,
    pub gated: Gated,
    pub disabled: bool,
    pub creator_id: Option<NamespaceId>,
    pub epoch: i64,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gated {
    No,
    Auto,
    Manual,
}

impl Gated {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::No => "false",
            Self::Auto => "auto",
            Self::Manual => "manual",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::No, Self::Auto, Self::Manual].into_iter().find(|gated| gated.as_str() == text)
    }
}

/// A user or an organisation, as a permit for it carries it.
#[derive(Debug, Clone)]
pub struct Namespace {
    pub id: NamespaceId,
    pub name: bastide_core::Name,
    pub is_organization: bool,
    pub default_visibility: Option<Visibility>,
}

/// A collection, as a permit for it carries it.
#[derive(Debug, Clone)]
pub struct Collection {
    pub id: CollectionId,
    pub owner_id: NamespaceId,
    pub owner: bastide_core::Name,
    pub title: String,
    pub visibility: Visibility,
}

/// Proof that the caller may do `L` with `T`.
#[derive(Debug)]
pub struct Access<L, T = Repo> {
    target: Arc<T>,
    level: PhantomData<L>,
}

impl<L, T> Clone for Access<L, T> {
    fn clone(&self) -> Self {
        Self { target: Arc::clone(&self.target), level: PhantomData }
    }
}

impl<L: Level, T> Access<L, T> {
    /// The same permit for less.
    pub fn lower<M: Level>(&self) -> Access<M, T>
    where
        L: Includes<M>,
    {
        Access { target: Arc::clone(&self.target), level: PhantomData }
    }
}

impl<L: Level> Access<L, Repo> {
    pub fn repo(&self) -> &Repo {
        &self.target
    }

    pub fn repo_id(&self) -> RepoId {
        self.target.id
    }
}

impl<L: Level> Access<L, Namespace> {
    pub fn namespace(&self) -> &Namespace {
        &self.target
    }
}

impl<L: Level> Access<L, Collection> {
    pub fn collection(&self) -> &Collection {
        &self.target
    }
}

/// Makes a permit for a repository. For `hub::access` alone.
pub fn grant_repo<L: Level>(repo: Arc<Repo>) -> Access<L, Repo> {
    Access { target: repo, level: PhantomData }
}

/// Makes a permit for a namespace. For `hub::access` alone.
pub fn grant_namespace<L: Level>(namespace: Arc<Namespace>) -> Access<L, Namespace> {
    Access { target: namespace, level: PhantomData }
}

/// Makes a permit for a collection. For `hub::access` alone.
pub fn grant_collection<L: Level>(collection: Arc<Collection>) -> Access<L, Collection> {
    Access { target: collection, level: PhantomData }
}
