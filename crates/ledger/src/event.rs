//! One thing that happened, and the exact bytes of it that the tree covers.

use crate::context::Context;
use bastide_core::{Actor, Credential};
use serde_json::{Map, Value};

use crate::tree::{Hash, leaf_hash};

/// An event as a row of the database and as a line of the export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place in the tree, from 0.
    pub seq: i64,
    pub time_ms: i64,
    pub actor_kind: String,
    pub actor_id: Option<i64>,
    pub actor_name: String,
    pub credential_kind: String,
    pub credential_id: Option<i64>,
    pub action: String,
    pub subject_kind: String,
    pub subject_id: Option<i64>,
    pub subject_name: String,
    pub address: Option<String>,
    pub user_agent: Option<String>,
    pub request_id: String,
    /// A JSON object as text; covered as text, so that not even its spaces can change.
    pub facts: String,
}

impl Event {
    /// The line of the export: one JSON object, every field, keys sorted, no spaces (RFC 8785).
    /// These bytes are the leaf's preimage.
    pub fn canonical(&self) -> Vec<u8> {
        let mut object = Map::new();
        let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
        put("seq", self.seq.into());
        put("time_ms", self.time_ms.into());
        put("actor_kind", self.actor_kind.as_str().into());
        put("actor_id", self.actor_id.into());
        put("actor_name", self.actor_name.as_str().into());
        put("credential_kind", self.credential_kind.as_str().into());
        put("credential_id", self.credential_id.into());
        put("action", self.action.as_str().into());
        put("subject_kind", self.subject_kind.as_str().into());
        put("subject_id", self.subject_id.into());
        put("subject_name", self.subject_name.as_str().into());
        put("address", self.address.as_deref().into());
        put("user_agent", self.user_agent.as_deref().into());
        put("request_id", self.request_id.as_str().into());
        put("facts", self.facts.as_str().into());
        // Sorted here, whatever order the map of some other build keeps.
        object.sort_keys();
        Value::Object(object).to_string().into_bytes()
    }

    pub fn leaf_hash(&self) -> Hash {
        leaf_hash(&self.canonical())
    }
}

macro_rules! actions {
    ($($name:ident = $text:literal),+ $(,)?) => {
        /// Everything that can happen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Action { $($name),+ }

        impl Action {
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

actions! {
    HubInit = "hub.init",
    UserCreate = "user.create",
    UserDisable = "user.disable",
    OrgCreate = "org.create",
    OrgMemberSet = "org.member_set",
    OrgMemberRemove = "org.member_remove",
    OrgSettings = "org.settings",
    TokenCreate = "token.create",
    TokenRevoke = "token.revoke",
    RepoCreate = "repo.create",
    RepoDelete = "repo.delete",
    RepoMove = "repo.move",
    RepoSettings = "repo.settings",
    RepoDuplicate = "repo.duplicate",
    RepoCopyOut = "repo.copy_out",
    RepoIndex = "repo.index",
    RepoLike = "repo.like",
    RepoUnlike = "repo.unlike",
    AccountFollow = "account.follow",
    AccountUnfollow = "account.unfollow",
    CollectionCreate = "collection.create",
    CollectionUpdate = "collection.update",
    CollectionDelete = "collection.delete",
    CollectionItemAdd = "collection.item_add",
    CollectionItemUpdate = "collection.item_update",
    CollectionItemRemove = "collection.item_remove",
    CommitCreate = "commit.create",
    BranchCreate = "branch.create",
    BranchDelete = "branch.delete",
    BranchRuleSet = "branch_rule.set",
    BranchRuleRemove = "branch_rule.remove",
    GitPush = "git.push",
    TagCreate = "tag.create",
    TagDelete = "tag.delete",
    HistorySquash = "history.squash",
    XorbReceive = "xorb.receive",
    XorbOffer = "xorb.offer",
    XorbShare = "xorb.share",
    XorbDamage = "xorb.damage",
    FileRegister = "file.register",
    FileTouch = "file.touch",
    UploadBegin = "upload.begin",
    UploadPart = "upload.part",
    UploadComplete = "upload.complete",
    UploadRefuse = "upload.refuse",
    LockCreate = "lock.create",
    LockRemove = "lock.remove",
    QuotaSet = "quota.set",
    FilesCopyIn = "files.copy_in",
    FilesCopyOut = "files.copy_out",
    FilesDelete = "files.delete",
    HistoryRewrite = "history.rewrite",
    PacksMerge = "packs.merge",
    PacksPrune = "packs.prune",
    GcCondemn = "gc.condemn",
    GcCollect = "gc.collect",
    DiscussionCreate = "discussion.create",
    DiscussionUpdate = "discussion.update",
    DiscussionDelete = "discussion.delete",
    CommentCreate = "comment.create",
    CommentEdit = "comment.edit",
    CommentHide = "comment.hide",
    PullMerge = "pull.merge",
    PullRefDelete = "pull.ref_delete",
    JobFailed = "job.failed",
    WebhookCreate = "webhook.create",
    WebhookUpdate = "webhook.update",
    WebhookEnable = "webhook.enable",
    WebhookDisable = "webhook.disable",
    WebhookDelete = "webhook.delete",
    WebhookReplay = "webhook.replay",
}

/// The value of a fact: only what is given explicitly, never a whole structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact(Value);

impl From<&str> for Fact {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Fact {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<i64> for Fact {
    fn from(number: i64) -> Self {
        Self(number.into())
    }
}

impl From<u64> for Fact {
    fn from(number: u64) -> Self {
        Self(number.into())
    }
}

impl From<bool> for Fact {
    fn from(yes: bool) -> Self {
        Self(yes.into())
    }
}

/// An event that has no place in the tree yet.
#[derive(Debug, Clone)]
pub struct NewEvent {
    event: Event,
    facts: Map<String, Value>,
}

impl NewEvent {
    pub fn new(context: &Context, action: Action) -> Self {
        let (actor_kind, actor_id, actor_name) = match context.actor() {
            Actor::Anonymous => ("anonymous", None, String::new()),
            Actor::User { id, name } => ("user", Some(id.as_i64()), name.to_string()),
            Actor::System(job) => ("system", None, (*job).to_owned()),
            Actor::Operator => ("operator", None, String::new()),
        };
        let (credential_kind, credential_id) = match context.credential() {
            Credential::None => ("none", None),
            Credential::Token { id, .. } => ("token", Some(id.as_i64())),
            Credential::Local => ("local", None),
        };
        let event = Event {
            seq: -1,
            time_ms: context.now().as_millis(),
            actor_kind: actor_kind.to_owned(),
            actor_id,
            actor_name,
            credential_kind: credential_kind.to_owned(),
            credential_id,
            action: action.as_str().to_owned(),
            subject_kind: String::new(),
            subject_id: None,
            subject_name: String::new(),
            address: context.origin().address.map(|address| address.to_string()),
            user_agent: context.origin().user_agent.clone(),
            request_id: context.origin().request_id.clone(),
            facts: String::new(),
        };
        Self { event, facts: Map::new() }
    }

    /// What it happened to.
    #[must_use]
    pub fn subject(mut self, kind: &str, id: Option<i64>, name: &str) -> Self {
        kind.clone_into(&mut self.event.subject_kind);
        self.event.subject_id = id;
        name.clone_into(&mut self.event.subject_name);
        self
    }

    #[must_use]
    pub fn fact(mut self, key: &str, value: impl Into<Fact>) -> Self {
        self.facts.insert(key.to_owned(), value.into().0);
        self
    }

    /// The event at its place in the tree.
    pub fn at(self, seq: i64) -> Event {
        let Self { event, mut facts } = self;
        facts.sort_keys();
        Event { seq, facts: Value::Object(facts).to_string(), ..event }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context;
    use bastide_core::Clock;

    fn event() -> Event {
        let context = context::operator(&Clock::System);
        NewEvent::new(&context, Action::RepoCreate)
            .subject("repo", Some(7), "models/a/\"b\"\n")
            .fact("z", 1i64)
            .fact("a", true)
            .at(3)
    }

    #[test]
    fn facts_are_sorted_and_lines_are_one_line() {
        assert_eq!(event().facts, r#"{"a":true,"z":1}"#);
        let line = String::from_utf8(event().canonical()).unwrap();
        assert!(!line.contains('\n'));
        assert!(line.starts_with(r#"{"action":"repo.create","actor_id":null,"#), "{line}");
    }

    #[test]
    fn every_field_is_covered() {
        let base = event();
        let changes: Vec<fn(&mut Event)> = vec![
            |e| e.seq += 1,
            |e| e.time_ms += 1,
            |e| e.actor_kind.push('x'),
            |e| e.actor_id = Some(1),
            |e| e.actor_name.push('x'),
            |e| e.credential_kind.push('x'),
            |e| e.credential_id = Some(1),
            |e| e.action.push('x'),
            |e| e.subject_kind.push('x'),
            |e| e.subject_id = None,
            |e| e.subject_name.push('x'),
            |e| e.address = Some(String::new()),
            |e| e.user_agent = Some(String::new()),
            |e| e.request_id.push('x'),
            |e| e.facts.push(' '),
        ];
        for change in changes {
            let mut other = base.clone();
            change(&mut other);
            assert_ne!(other.leaf_hash(), base.leaf_hash(), "{other:?}");
        }
    }
}
