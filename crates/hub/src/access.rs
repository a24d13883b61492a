//! The gate: who may do what with which repository or namespace. The only maker of permits.
//!
//! The rules are two pure functions, `repo_rank` and `namespace_rank`; everything else fetches
//! their facts and turns "no" into the answer that tells a caller no more than it may know.

use std::sync::Arc;

use bastide_core::{
    Actor, CollectionId, Credential, Name, NamespaceId, RepoId, RepoPath, Role, TokenRole, Visibility,
};
use bastide_ledger::Context;
use bastide_store::gate::{self, CollectionFacts, NamespaceFacts, RepoFacts};
use bastide_store::permit::{self, Gated, Rank};
use bastide_store::repos::NewRepo;

pub use bastide_store::permit::{
    Access, Admin, Collection, Includes, Level, Namespace, Propose, Read, Repo, See, Write,
};

use crate::{Hub, Problem};

/// What a caller may look at: listings show more to those who may read.
#[derive(Debug, Clone)]
pub enum Seen {
    /// A gated repository, from outside of its gate.
    Gated(Access<See>),
    Open(Access<Read>),
}

impl Seen {
    pub fn see(&self) -> Access<See> {
        match self {
            Self::Gated(access) => access.clone(),
            Self::Open(access) => access.lower(),
        }
    }
}

/// What is said of a collection that is missing, or that the caller may not know of.
pub(crate) const NO_COLLECTION: &str = "there is no such collection";

/// Asks for permits on behalf of one caller.
pub struct Gate<'a> {
    hub: &'a Hub,
    context: &'a Context,
}

impl Hub {
    pub const fn access<'a>(&'a self, context: &'a Context) -> Gate<'a> {
        Gate { hub: self, context }
    }
}

impl Gate<'_> {
    pub(crate) const fn hub(&self) -> &Hub {
        self.hub
    }

    pub(crate) const fn context(&self) -> &Context {
        self.context
    }

    /// A permit for the repository at a path, in any spelling, or under an old name.
    pub async fn repo<L: Level>(&self, path: &RepoPath) -> Result<Access<L>, Problem> {
        self.grant(self.facts_at(path).await?)
    }

    async fn facts_at(&self, path: &RepoPath) -> Result<Option<RepoFacts>, Problem> {
        let user = self.context.user_id();
        let mut read = self.hub.db.read().await?;
        let facts = gate::repo_by_path(&mut read, path, user).await?;
        if facts.as_ref().is_some_and(|facts| self.sees(facts)) {
            return Ok(facts);
        }
        // Looked for in both cases, so that what is hidden takes as long as what is missing.
        let old = gate::repo_by_old_path(&mut read, path, user).await?;
        Ok(facts.or(old))
    }

    /// To read what is at a path, or at least to see that it is there.
    pub async fn seen(&self, path: &RepoPath) -> Result<Seen, Problem> {
        let facts = self.facts_at(path).await?;
        match self.grant(facts.clone()) {
            Ok(access) => Ok(Seen::Open(access)),
            Err(Problem::Gated { .. }) => Ok(Seen::Gated(self.grant(facts)?)),
            Err(other) => Err(other),
        }
    }

    /// A permit for the repository at a path, in any spelling, as it is named now. For what cannot
    /// be taken back: an old name may not lead it to a repository that somebody moved away.
    pub async fn repo_by_current_path<L: Level>(&self, path: &RepoPath) -> Result<Access<L>, Problem> {
        let facts = self.facts_at(path).await?;
        let moved = facts.as_ref().map(|facts| &facts.repo.path).filter(|now| *now != path).cloned();
        match moved {
            Some(to) if !self.context.is_anonymous() => {
                self.grant::<See>(facts)?;
                Err(Problem::Moved { from: path.clone(), to })
            }
            Some(_) => self.grant(None),
            None => self.grant(facts),
        }
    }

    /// A permit for the repository with an id.
    pub async fn repo_by_id<L: Level>(&self, id: RepoId) -> Result<Access<L>, Problem> {
        let mut read = self.hub.db.read().await?;
        let facts = gate::repo_by_id(&mut read, id, self.context.user_id()).await?;
        self.grant(facts)
    }

    pub(crate) fn sees(&self, facts: &RepoFacts) -> bool {
        repo_rank(self.context, &facts.repo, facts.role).is_some()
    }

    #[expect(clippy::disallowed_methods, reason = "the one maker of permits for repositories")]
    pub(crate) fn grant<L: Level>(&self, facts: Option<RepoFacts>) -> Result<Access<L>, Problem> {
        let anonymous = self.context.is_anonymous();
        let hidden = Problem::RepoNotFound { anonymous };
        let Some(RepoFacts { repo, role }) = facts else { return Err(hidden) };
        let Some(rank) = repo_rank(self.context, &repo, role) else { return Err(hidden) };
        if repo.disabled && rank < Rank::Admin {
            return Err(Problem::Disabled);
        }
        if rank >= L::RANK {
            return Ok(permit::grant_repo(Arc::new(repo)));
        }
        if rank == Rank::See && L::RANK <= Rank::Propose && !(anonymous && L::RANK == Rank::Propose) {
            return Err(Problem::Gated { kind: repo.path.kind, id: repo.path.id(), anonymous });
        }
        if anonymous {
            return Err(hidden);
        }
        Err(Problem::Forbidden(self.too_low(&format!("{} {}", repo.path.kind, repo.path.id()))))
    }

    /// Says what is too low, the token or the role: the two have different cures.
    fn too_low(&self, what: &str) -> String {
        match self.context.credential() {
            Credential::Token { role: TokenRole::Read, .. } => {
                format!("Your token has the role 'read': use one with the role 'write' for {what}.")
            }
            _ => format!("You don't have the rights for this on {what}."),
        }
    }

    /// A permit for a user or an organisation.
    pub async fn namespace<L: Level>(&self, name: &Name) -> Result<Access<L, Namespace>, Problem> {
        // Before the look-up: nobody learns which names there are by asking without signing in.
        if L::RANK > Rank::See && self.context.is_anonymous() {
            return Err(Problem::SignInNeeded);
        }
        let mut read = self.hub.db.read().await?;
        let facts = gate::namespace_by_name(&mut read, name, self.context.user_id()).await?;
        self.grant_namespace(name, facts)
    }

    #[expect(clippy::disallowed_methods, reason = "the one maker of permits for namespaces")]
    pub(crate) fn grant_namespace<L: Level>(
        &self,
        name: &Name,
        facts: Option<NamespaceFacts>,
    ) -> Result<Access<L, Namespace>, Problem> {
        // A name that nothing public tells is no business of who does not sign in.
        if self.context.is_anonymous() && facts.as_ref().is_none_or(|facts| !facts.is_known) {
            return Err(Problem::SignInNeeded);
        }
        let Some(NamespaceFacts { namespace, role, disabled, .. }) = facts else {
            return Err(Problem::NotFound(format!("there is no user or organization '{name}'")));
        };
        let rank = namespace_rank(self.context, &namespace, role);
        if disabled && rank < Rank::Admin {
            return Err(Problem::Disabled);
        }
        if rank < L::RANK {
            return Err(self.not_in(&namespace.name));
        }
        Ok(permit::grant_namespace(Arc::new(namespace)))
    }

    /// A permit to make repositories in a namespace: the caller's own without a name. One that
    /// does not exist is one where the caller may not.
    pub async fn namespace_to_fill(&self, name: Option<&Name>) -> Result<Access<Write, Namespace>, Problem> {
        let Some(name) = name else { return self.own_namespace().await };
        match self.namespace(name).await {
            Err(Problem::NotFound(_)) => Err(self.not_in(name)),
            found => found,
        }
    }

    /// A permit to look at a user, as everybody may who may come across the name.
    pub async fn user(&self, name: &str) -> Result<Access<See, Namespace>, Problem> {
        self.account(name, false).await
    }

    /// The same for an organisation.
    pub async fn organization(&self, name: &str) -> Result<Access<See, Namespace>, Problem> {
        self.account(name, true).await
    }

    async fn account(&self, text: &str, organization: bool) -> Result<Access<See, Namespace>, Problem> {
        let missing = || {
            if self.context.is_anonymous() {
                return Problem::SignInNeeded;
            }
            let what = if organization { "organization" } else { "user" };
            Problem::NotFound(format!("there is no {what} '{}'", text.escape_debug()))
        };
        let name: Name = text.parse().map_err(|_| missing())?;
        match self.namespace::<See>(&name).await {
            Ok(access) if access.namespace().is_organization == organization => Ok(access),
            Ok(_) | Err(Problem::NotFound(_)) => Err(missing()),
            Err(problem) => Err(problem),
        }
    }

    /// A permit to make collections in a namespace: the caller's own without a name. Contributors
    /// of an organisation make repositories in it, but do not speak for it.
    pub async fn namespace_to_curate(
        &self,
        name: Option<&Name>,
    ) -> Result<Access<Write, Namespace>, Problem> {
        let Some(name) = name else { return self.own_namespace().await };
        if self.context.is_anonymous() {
            return Err(Problem::SignInNeeded);
        }
        let mut read = self.hub.db.read().await?;
        let facts = gate::namespace_by_name(&mut read, name, self.context.user_id()).await?;
        if facts.is_none() {
            return Err(self.not_in(name));
        }
        self.grant_curator(name, facts)
    }

    pub(crate) fn grant_curator(
        &self,
        name: &Name,
        facts: Option<NamespaceFacts>,
    ) -> Result<Access<Write, Namespace>, Problem> {
        let as_reader = |facts: NamespaceFacts| match facts.role {
            Some(Role::Contributor) => NamespaceFacts { role: Some(Role::Read), ..facts },
            _ => facts,
        };
        self.grant_namespace(name, facts.map(as_reader))
    }

    /// A permit for a collection. One that may not be seen is missing.
    pub async fn collection<L: Level>(&self, id: CollectionId) -> Result<Access<L, Collection>, Problem> {
        if L::RANK > Rank::Read && self.context.is_anonymous() {
            return Err(Problem::SignInNeeded);
        }
        let mut read = self.hub.db.read().await?;
        let facts = gate::collection_by_id(&mut read, id, self.context.user_id()).await?;
        self.grant_collection(facts)
    }

    #[expect(clippy::disallowed_methods, reason = "the one maker of permits for collections")]
    pub(crate) fn grant_collection<L: Level>(
        &self,
        facts: Option<CollectionFacts>,
    ) -> Result<Access<L, Collection>, Problem> {
        let rank = |facts: &CollectionFacts| collection_rank(self.context, &facts.collection, facts.role);
        let Some((rank, facts)) = facts.and_then(|facts| Some((rank(&facts)?, facts))) else {
            return Err(Problem::NotFound(NO_COLLECTION.into()));
        };
        if rank < L::RANK {
            return Err(Problem::Forbidden(self.too_low("this collection")));
        }
        Ok(permit::grant_collection(Arc::new(facts.collection)))
    }

    fn not_in(&self, namespace: &Name) -> Problem {
        Problem::Forbidden(self.too_low(&format!("the namespace {namespace}")))
    }

    /// The caller's own namespace.
    pub async fn own_namespace<L: Level>(&self) -> Result<Access<L, Namespace>, Problem> {
        match &self.context.actor() {
            Actor::User { name, .. } => self.namespace(name).await,
            Actor::Anonymous | Actor::System(_) | Actor::Operator => Err(Problem::SignInNeeded),
        }
    }
}

/// The permit of those who make a repository, for the transaction that makes it.
#[expect(clippy::disallowed_methods, reason = "the one maker of permits for repositories")]
pub(crate) fn to_make(namespace: &Access<Write, Namespace>, new: &NewRepo<'_>) -> Access<Write> {
    permit::grant_repo(Arc::new(Repo {
        id: new.id,
        path: new.path.clone(),
        namespace_id: namespace.namespace().id,
        visibility: new.visibility,
        gated: new.gated,
        disabled: false,
        creator_id: new.creator_id,
        epoch: 1,
        created_at: new.now,
    }))
}

/// What a caller may do with a repository; `None` when it must not know that there is one.
pub(crate) fn repo_rank(context: &Context, repo: &Repo, role: Option<Role>) -> Option<Rank> {
    let user = match context.actor() {
        Actor::System(_) | Actor::Operator => return Some(Rank::Admin),
        Actor::Anonymous => None,
        Actor::User { id, .. } => Some(*id),
    };
    let standing = user.and_then(|user| standing(user, repo, role));
    let rank = standing.max(by_visibility(repo, user.is_some()))?;
    Some(rank.min(cap(context.credential())))
}

/// What somebody may do as owner or as member of the organisation.
fn standing(user: NamespaceId, repo: &Repo, role: Option<Role>) -> Option<Rank> {
    if repo.namespace_id == user {
        return Some(Rank::Admin);
    }
    match role? {
        Role::NoAccess => None,
        Role::Contributor if repo.creator_id == Some(user) => Some(Rank::Admin),
        Role::Read | Role::Contributor => Some(Rank::Propose),
        Role::Write => Some(Rank::Write),
        Role::Admin => Some(Rank::Admin),
    }
}

/// What anybody may do.
fn by_visibility(repo: &Repo, signed_in: bool) -> Option<Rank> {
    let visible = match repo.visibility {
        Visibility::Public => true,
        Visibility::Internal => signed_in,
        Visibility::Private => false,
    };
    let read = if signed_in { Rank::Propose } else { Rank::Read };
    visible.then_some(if repo.gated == Gated::No { read } else { Rank::See })
}

/// What a credential can do at most, whoever holds it.
const fn cap(credential: &Credential) -> Rank {
    match credential {
        Credential::Token { role: TokenRole::Read, .. } | Credential::None => Rank::Read,
        Credential::Token { role: TokenRole::Write, .. } | Credential::Local => Rank::Admin,
    }
}

/// What a caller may do with a namespace. `Write` is "make repositories in it".
fn namespace_rank(context: &Context, namespace: &Namespace, role: Option<Role>) -> Rank {
    let rank = match context.actor() {
        Actor::System(_) | Actor::Operator => return Rank::Admin,
        Actor::Anonymous => Rank::See,
        Actor::User { id, .. } if namespace.id == *id => Rank::Admin,
        Actor::User { .. } => match role {
            None | Some(Role::NoAccess) => Rank::See,
            Some(Role::Read) => Rank::Read,
            Some(Role::Contributor | Role::Write) => Rank::Write,
            Some(Role::Admin) => Rank::Admin,
        },
    };
    rank.min(cap(context.credential()))
}

/// What a caller may do with a collection; `None` when it must not know that there is one.
fn collection_rank(context: &Context, collection: &Collection, role: Option<Role>) -> Option<Rank> {
    let user = match context.actor() {
        Actor::System(_) | Actor::Operator => return Some(Rank::Admin),
        Actor::Anonymous => None,
        Actor::User { id, .. } => Some(*id),
    };
    let standing = match role {
        _ if user.is_some() && user == Some(collection.owner_id) => Some(Rank::Admin),
        None | Some(Role::NoAccess) => None,
        Some(Role::Read | Role::Contributor) => Some(Rank::Read),
        Some(Role::Write) => Some(Rank::Write),
        Some(Role::Admin) => Some(Rank::Admin),
    };
    let visible = match collection.visibility {
        Visibility::Public => true,
        Visibility::Internal => user.is_some(),
        Visibility::Private => false,
    };
    let rank = standing.max(visible.then_some(Rank::Read))?;
    Some(rank.min(cap(context.credential())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bastide_core::{RepoKind, Timestamp, TokenId};
    use bastide_ledger::context::{self, Origin};

    const ANN: NamespaceId = NamespaceId::from_i64(1);
    const BOB: NamespaceId = NamespaceId::from_i64(2);
    const LAB: NamespaceId = NamespaceId::from_i64(3);

    fn repo(owner: NamespaceId, visibility: Visibility, gated: Gated) -> Repo {
        Repo {
            id: RepoId::from_i64(9),
            path: RepoPath::parse(RepoKind::Model, "own/er").unwrap(),
            namespace_id: owner,
            visibility,
            gated,
            disabled: false,
            creator_id: Some(ANN),
            epoch: 1,
            created_at: Timestamp::from_millis(0),
        }
    }

    fn asks(user: Option<NamespaceId>, role: TokenRole) -> Context {
        let (actor, credential) = match user {
            None => (Actor::Anonymous, Credential::None),
            Some(id) => (
                Actor::User { id, name: "someone".parse().unwrap() },
                Credential::Token { id: TokenId::from_i64(1), role },
            ),
        };
        context::request(actor, credential, Origin::default(), Timestamp::from_millis(0))
    }

    #[test]
    fn visibility_decides_for_strangers() {
        use Visibility::{Internal, Private, Public};
        let rank = |user, visibility, gated| {
            repo_rank(&asks(user, TokenRole::Write), &repo(ANN, visibility, gated), None)
        };
        assert_eq!(rank(None, Public, Gated::No), Some(Rank::Read));
        assert_eq!(rank(None, Public, Gated::Auto), Some(Rank::See));
        assert_eq!(rank(None, Internal, Gated::No), None);
        assert_eq!(rank(None, Private, Gated::No), None);
        assert_eq!(rank(Some(BOB), Internal, Gated::No), Some(Rank::Propose));
        assert_eq!(rank(Some(BOB), Internal, Gated::Manual), Some(Rank::See));
        assert_eq!(rank(Some(BOB), Private, Gated::No), None);
        assert_eq!(rank(Some(ANN), Private, Gated::Manual), Some(Rank::Admin));
    }

    #[test]
    fn roles_decide_for_members_and_tokens_cap_them() {
        let private = repo(LAB, Visibility::Private, Gated::No);
        let rank = |user, role, token| repo_rank(&asks(Some(user), token), &private, Some(role));
        assert_eq!(rank(BOB, Role::NoAccess, TokenRole::Write), None);
        assert_eq!(rank(BOB, Role::Read, TokenRole::Write), Some(Rank::Propose));
        assert_eq!(rank(BOB, Role::Read, TokenRole::Read), Some(Rank::Read));
        assert_eq!(rank(BOB, Role::Contributor, TokenRole::Write), Some(Rank::Propose));
        assert_eq!(rank(ANN, Role::Contributor, TokenRole::Write), Some(Rank::Admin));
        assert_eq!(rank(BOB, Role::Write, TokenRole::Write), Some(Rank::Write));
        assert_eq!(rank(BOB, Role::Admin, TokenRole::Write), Some(Rank::Admin));
        assert_eq!(rank(BOB, Role::Admin, TokenRole::Read), Some(Rank::Read));
    }

    #[test]
    fn a_role_without_access_still_sees_what_everybody_sees() {
        let public = repo(LAB, Visibility::Public, Gated::No);
        assert_eq!(
            repo_rank(&asks(Some(BOB), TokenRole::Write), &public, Some(Role::NoAccess)),
            Some(Rank::Propose)
        );
    }

    #[test]
    fn collections_are_changed_by_their_owner_and_by_writers_and_hidden_ones_by_nobody_else_seen() {
        let rank = |user, role, visibility, token| {
            let collection = Collection {
                id: CollectionId::from_i64(7),
                owner_id: LAB,
                owner: "lab".parse().unwrap(),
                title: "t".into(),
                visibility,
            };
            collection_rank(&asks(user, token), &collection, role)
        };
        use Visibility::{Internal, Private, Public};
        let write = TokenRole::Write;
        for (role, rank_of) in [
            (Role::NoAccess, None),
            (Role::Read, Some(Rank::Read)),
            (Role::Contributor, Some(Rank::Read)),
            (Role::Write, Some(Rank::Write)),
            (Role::Admin, Some(Rank::Admin)),
        ] {
            assert_eq!(rank(Some(BOB), Some(role), Private, write), rank_of, "{role}");
        }
        assert_eq!(rank(None, None, Private, write), None);
        assert_eq!(rank(None, None, Internal, write), None);
        assert_eq!(rank(None, None, Public, write), Some(Rank::Read));
        assert_eq!(rank(Some(BOB), None, Internal, write), Some(Rank::Read));
        assert_eq!(rank(Some(BOB), None, Private, write), None);
        assert_eq!(rank(Some(LAB), None, Private, write), Some(Rank::Admin));
        assert_eq!(rank(Some(LAB), None, Private, TokenRole::Read), Some(Rank::Read));
    }
}
