//! What is sent: version 3 of the payload that clients know.
//!
//! Made from the event, which does not change, and from what there is now, read by a permit of the
//! webhook's owner.

use bastide_core::Visibility;
use bastide_ledger::{Action, Context, Event};
use bastide_store::repos;
use serde_json::{Map, Value, json};

use super::told::{About, Facts, Told, changed};
use crate::access::{Access, Read, See};
use crate::{Hub, Problem};

/// Bytes of a repository's tags: more are left out.
const MAX_TAGS_BYTES: usize = 64 * 1024;
/// The version of the payload.
const VERSION: u32 = 3;

impl Hub {
    /// The payload of an event for a webhook; `None` when its owner may not know of it.
    pub(super) async fn payload(
        &self,
        context: &Context,
        webhook: &str,
        (event, told, about): (&Event, Told, &About),
    ) -> Result<Option<String>, Problem> {
        let facts = Facts::of(event);
        let mut payload = Map::new();
        let mut put = |key: &str, value: Value| payload.insert(key.to_owned(), value);
        put("event", json!({ "action": told.action, "scope": told.scope }));
        put("webhook", json!({ "id": webhook, "version": VERSION }));
        let mut repo = self.repo_json(about);
        if !about.gone {
            let access = match self.access(context).repo_by_id::<See>(about.repo.id).await {
                Ok(access) => access,
                Err(problem) if is_no(&problem) => return Ok(None),
                Err(problem) => return Err(problem),
            };
            self.add_state(&access, &mut repo).await?;
        }
        if told.is_discussion() {
            let access = match self.access(context).repo_by_id::<Read>(about.repo.id).await {
                Ok(access) => access,
                Err(problem) if is_no(&problem) => return Ok(None),
                Err(problem) => return Err(problem),
            };
            let Some(parts) = self.discussion_parts(&access, event, &facts).await? else { return Ok(None) };
            put("discussion", parts.discussion);
            if let Some(comment) = parts.comment {
                put("comment", comment);
            }
        }
        if told.scope == "repo.content" {
            put("updatedRefs", updated_refs(event, &facts));
        }
        if told.scope == "repo.config" {
            put("updatedConfig", updated_config(&facts));
        }
        if event.action == Action::RepoMove.as_str() {
            let Some((old, new)) = moved(event, &facts) else { return Ok(None) };
            repo.insert("name".to_owned(), old.into());
            let owner = facts.namespace("to_owner_id").unwrap_or(about.repo.namespace_id);
            put("movedTo", json!({ "name": new, "owner": { "id": owner } }));
        }
        put("repo", repo.into());
        Ok(Some(Value::Object(payload).to_string()))
    }

    fn repo_json(&self, about: &About) -> Map<String, Value> {
        let (repo, base) = (&about.repo, &self.config.public_url);
        let path = &repo.path;
        let web = format!("{base}/{}", path.url_path());
        let api = format!("{base}/api/{}/{}", path.kind.plural(), path.id());
        let mut object = Map::new();
        let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
        put("type", path.kind.as_str().into());
        put("name", path.id().into());
        put("id", repo.id.to_string().into());
        put("private", crate::repos::is_private(repo).into());
        put("url", json!({ "web": web, "api": api }));
        put("owner", json!({ "id": repo.namespace_id }));
        object
    }

    /// What only a repository that is there has.
    async fn add_state(&self, access: &Access<See>, repo: &mut Map<String, Value>) -> Result<(), Problem> {
        if let Some(head) = self.head(access).await? {
            repo.insert("headSha".to_owned(), head.to_string().into());
        }
        let metadata = repos::metadata_of(&mut self.db.read().await?, access).await?;
        let tags: Value = serde_json::from_str(&metadata.tags).unwrap_or_default();
        if metadata.tags.len() <= MAX_TAGS_BYTES && tags.is_array() {
            repo.insert("tags".to_owned(), tags);
        }
        Ok(())
    }
}

/// Answers that mean "not this caller", for ever or for now: what they hide is not told.
const fn is_no(problem: &Problem) -> bool {
    matches!(
        problem,
        Problem::RepoNotFound { .. }
            | Problem::Moved { .. }
            | Problem::Gated { .. }
            | Problem::Disabled
            | Problem::Forbidden(_)
            | Problem::NotFound(_)
    )
}

/// The refs that an event has moved; null where there was none, or is none.
fn updated_refs(event: &Event, facts: &Facts) -> Value {
    if let Some(lines) = facts.text("refs") {
        let moved = |line: &str| {
            let mut words = line.split(' ');
            json!({ "ref": words.next(), "oldSha": words.next(), "newSha": words.next() })
        };
        return lines.lines().map(moved).collect();
    }
    let name = facts.text("ref").unwrap_or_default();
    let commit = facts.text("commit").or_else(|| facts.text("after"));
    let deleted =
        [Action::BranchDelete.as_str(), Action::TagDelete.as_str()].contains(&event.action.as_str());
    let before = facts.text("parent").or_else(|| facts.text("before"));
    let (old, new) = if deleted { (commit, None) } else { (before, commit) };
    json!([{ "ref": name, "oldSha": old, "newSha": new }])
}

/// Settings that are another now. `private` is what clients know of visibility; the word itself is ours.
fn updated_config(facts: &Facts) -> Value {
    let mut object = Map::new();
    for (key, now) in changed(facts) {
        match key {
            "visibility" => {
                let private = now != Visibility::Public.as_str();
                object.insert("private".to_owned(), private.into());
                object.insert("visibility".to_owned(), now.into());
            }
            "gated" => {
                let gated = if now == "false" { Value::Bool(false) } else { now.into() };
                object.insert("gated".to_owned(), gated);
            }
            _ => {
                object.insert("discussionsDisabled".to_owned(), (now == "true").into());
            }
        }
    }
    object.into()
}

/// The names before and after a move.
fn moved(event: &Event, facts: &Facts) -> Option<(String, String)> {
    let id = |text: &str| text.split_once('/').map(|(_, id)| id.to_owned());
    Some((id(&event.subject_name)?, id(facts.text("to")?)?))
}
