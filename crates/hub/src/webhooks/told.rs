//! Which events webhooks are told of, and who may be told.

use bastide_core::{NamespaceId, RepoId, RepoKind, RepoPath, Timestamp, Visibility};
use bastide_ledger::{Action, Context, Event, context};
use bastide_store::gate::{self, RepoFacts};
use bastide_store::permit::{Gated, Rank, Repo};
use bastide_store::webhooks::dispatch;
use serde_json::Value;

use crate::{Hub, Problem};

/// How an action is told: the two words of the payload, and as one for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub action: &'static str,
    pub scope: &'static str,
    pub label: &'static str,
}

impl Told {
    pub fn is_discussion(self) -> bool {
        self.scope.starts_with("discussion")
    }

    /// What one has to be allowed, to be told: what is said about contents quotes them.
    pub fn rank(self) -> Rank {
        if self.is_discussion() { Rank::Read } else { Rank::See }
    }
}

macro_rules! told {
    ($($event:ident => $action:literal $scope:literal),+ $(,)?) => {
        /// Every action that webhooks are told of.
        const TOLD: &[(Action, Told)] = &[
            $((Action::$event, Told {
                action: $action,
                scope: $scope,
                label: concat!($action, " ", $scope),
            })),+
        ];
    };
}

told! {
    RepoCreate => "create" "repo",
    RepoDelete => "delete" "repo",
    RepoMove => "move" "repo",
    RepoSettings => "update" "repo.config",
    CommitCreate => "update" "repo.content",
    BranchCreate => "update" "repo.content",
    BranchDelete => "update" "repo.content",
    TagCreate => "update" "repo.content",
    TagDelete => "update" "repo.content",
    HistorySquash => "update" "repo.content",
    HistoryRewrite => "update" "repo.content",
    GitPush => "update" "repo.content",
    DiscussionCreate => "create" "discussion",
    DiscussionUpdate => "update" "discussion",
    PullMerge => "update" "discussion",
    DiscussionDelete => "delete" "discussion",
    CommentCreate => "create" "discussion.comment",
    CommentEdit => "update" "discussion.comment",
    CommentHide => "update" "discussion.comment",
}

/// For these the row of the repository does not say any more whose it was.
pub const BY_FACTS: [&str; 2] = [Action::RepoDelete.as_str(), Action::RepoMove.as_str()];

pub fn actions() -> Vec<&'static str> {
    TOLD.iter().map(|(action, _)| action.as_str()).collect()
}

/// How an event is told; `None` when it is not.
pub fn told(event: &Event) -> Option<Told> {
    let (_, told) = TOLD.iter().find(|(action, _)| action.as_str() == event.action)?;
    let quiet = told.scope == "repo.config" && changed(&Facts::of(event)).is_empty();
    (!quiet).then_some(*told)
}

/// The facts of an event.
pub struct Facts(Value);

impl Facts {
    pub fn of(event: &Event) -> Self {
        Self(serde_json::from_str(&event.facts).unwrap_or_default())
    }

    /// A text that says something.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    pub fn number(&self, key: &str) -> Option<i64> {
        self.0.get(key).and_then(Value::as_i64)
    }

    pub fn flag(&self, key: &str) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    pub fn namespace(&self, key: &str) -> Option<NamespaceId> {
        self.number(key).map(NamespaceId::from_i64)
    }
}

/// Settings that are another after an event: the name of each, and what it is now.
pub fn changed(facts: &Facts) -> Vec<(&'static str, &str)> {
    let keys = ["visibility", "gated", "discussions_disabled"];
    let other = |key: &&'static str| {
        let now = facts.text(key)?;
        (facts.text(&format!("{key}_before")) != Some(now)).then_some((*key, now))
    };
    keys.iter().filter_map(other).collect()
}

/// The repository that an event is about: as it is now, or, when the event took it away, as it was.
pub struct About {
    pub repo: Repo,
    /// Whose watchers hear of it: the owner, and the one before.
    pub namespaces: [NamespaceId; 2],
    pub gone: bool,
}

impl Hub {
    pub(super) async fn about(&self, event: &Event) -> Result<Option<About>, Problem> {
        let Some(id) = event.subject_id.map(RepoId::from_i64) else { return Ok(None) };
        let facts = Facts::of(event);
        if event.action == Action::RepoDelete.as_str() {
            return Ok(deleted(event, id, &facts));
        }
        let mut read = self.db.read().await?;
        let Some(RepoFacts { repo, .. }) = gate::repo_by_id(&mut read, id, None).await? else {
            return Ok(None);
        };
        let before = facts.namespace("owner_id").unwrap_or(repo.namespace_id);
        Ok(Some(About { namespaces: [repo.namespace_id, before], repo, gone: false }))
    }

    /// Whether a user may be told of something now.
    pub(super) fn may_be_told(&self, about: &About, told: Told, owner: &dispatch::Watcher) -> bool {
        if about.repo.disabled {
            return false;
        }
        let context = self.on_behalf_of(owner);
        let rank = crate::access::repo_rank(&context, &about.repo, owner.role);
        rank.is_some_and(|rank| rank >= told.rank())
    }

    /// The owner of a webhook, who is not here: may read what the user may, and change nothing.
    pub(super) fn on_behalf_of(&self, owner: &dispatch::Watcher) -> Context {
        context::on_behalf_of(owner.owner, owner.owner_name.clone(), &self.clock)
    }
}

/// A repository that is gone, from what was written down when it went.
fn deleted(event: &Event, id: RepoId, facts: &Facts) -> Option<About> {
    let (kind, name) = event.subject_name.split_once('/')?;
    let kind = RepoKind::from_plural(kind)?;
    let namespace_id = facts.namespace("owner_id")?;
    let repo = Repo {
        id,
        path: RepoPath::parse(kind, name).ok()?,
        namespace_id,
        visibility: facts.text("visibility")?.parse::<Visibility>().ok()?,
        gated: Gated::parse(facts.text("gated")?)?,
        disabled: facts.flag("disabled"),
        creator_id: facts.namespace("creator_id"),
        epoch: 0,
        created_at: Timestamp::from_millis(event.time_ms),
    };
    Some(About { namespaces: [namespace_id, namespace_id], repo, gone: true })
}
