//! `git push`: commands and a pack come in, the pack is taken apart in a quarantine, the judge looks at what is new,
//! and what it takes becomes part of the repository in one transaction. What it does not take leaves no trace.

mod judge;
mod publish;
mod receive;

pub(crate) use judge::card_fault;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bastide_core::limits::MAX_REGULAR_FILE_BYTES;
use bastide_core::{Oid, RefName};
use bastide_git::push::{Capabilities, Command, Report, keep_alive, remark, visible};
use bastide_git::{Quarantine, Received, push};
use bastide_ledger::Context;
use bastide_store::refs;
use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::mpsc;

use crate::access::{Access, Propose, Write};
use crate::places::Place;
use crate::rules::Fault;
use crate::uploads::Uploader;
use crate::{Hub, Problem};

/// Pushes that are taken apart and judged at the same time, where nobody says otherwise.
pub const CONCURRENT_PUSHES: usize = 4;
/// One account has at most one in so many of them, and always one.
pub(crate) const SHARE: usize = 2;
/// Largest pack, where nobody says otherwise.
pub const MAX_PUSH_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// After so long without a word the client is told that we are still there.
const SILENCE: Duration = Duration::from_secs(5);
/// Faults of one ref that are named, and lines that a push is told of them.
const MAX_FAULTS: usize = 20;
const MAX_REMARKS: usize = 100;
/// How long a client may take over its answer.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// A push that has come whole.
pub struct Push {
    commands: Vec<Command>,
    capabilities: Capabilities,
    pack: Pack,
    /// How often the repository had been pruned before the pack was looked at.
    prunings: i64,
    /// Its place among the pushes that are worked at.
    turn: Option<Place>,
}

/// A part of the body of a push, and how much the client has sent for it: less than it is, where it was packed.
#[derive(Debug)]
pub struct Sent {
    pub bytes: Bytes,
    pub took: u64,
}

/// What came of the pack.
enum Pack {
    /// Refs are removed, and nothing else.
    None,
    Received(Arc<Quarantine>, Option<Arc<Received>>),
    Refused(String),
}

/// Who pushes: at least somebody who may propose.
#[derive(Clone)]
struct Pusher {
    context: Context,
    by: Uploader,
    prunings: i64,
}

impl Pusher {
    fn permit(&self) -> Access<Propose> {
        self.by.permit()
    }
}

/// One ref of a push, and what is to become of it.
struct Wish {
    command: Command,
    /// What is against it.
    refused: Option<String>,
    /// Where the name is one that can be moved at all.
    name: Option<RefName>,
    /// More about a refusal, for the person who pushes.
    remarks: Vec<String>,
}

impl Wish {
    fn new(command: Command) -> Self {
        let name = command.name.parse::<RefName>().ok();
        let mut wish = Self { name, command, refused: None, remarks: Vec::new() };
        if wish.name.is_none() {
            wish.refuse(
                "this hub has branches (refs/heads/...), tags (refs/tags/...) and pull requests (refs/pr/N)",
            );
        }
        if wish.command.old.is_none() && wish.name.as_ref().is_some_and(|name| !name.is_visible()) {
            wish.refuse(
                "a name with characters that do not show, or turn what is around them: choose another",
            );
        }
        wish
    }

    fn refuse(&mut self, why: impl Into<String>) {
        self.refused.get_or_insert_with(|| why.into());
    }

    /// The ref and where it is to go, while nothing is against it.
    fn open(&self) -> Option<(&RefName, Option<Oid>)> {
        self.name.as_ref().filter(|_| self.refused.is_none()).map(|name| (name, self.command.new))
    }
}

impl Hub {
    /// What somebody who wants to push is told at first: where all refs are, and what we can do.
    pub async fn advertise_push(&self, access: &Access<Propose>) -> Result<Vec<u8>, Problem> {
        let refs = refs::list(&mut self.db.read().await?, access).await?;
        let pushable = |name: &RefName| name.is_branch() || name.is_tag() || name.is_pull_request();
        let shown = refs.iter().filter(|found| pushable(&found.name));
        Ok(push::advertise(shown.map(|found| (found.name.as_str(), found.target))))
    }

    /// Judges a push and carries out what is allowed; the answer comes in parts. It goes on without its client only
    /// when it has begun to write.
    pub fn finish_push(
        &self,
        context: &Context,
        access: &Access<Propose>,
        push: Push,
    ) -> impl Stream<Item = Bytes> + Send + 'static {
        let (sender, receiver) = mpsc::channel(16);
        let (hub, context, access) = (self.clone(), context.clone(), access.clone());
        let capabilities = push.capabilities;
        tokio::spawn(
            async move { hub.answer_push(context, access, push, Answer { sender, capabilities }).await },
        );
        stream::unfold(receiver, move |mut receiver| async move {
            match tokio::time::timeout(SILENCE, receiver.recv()).await {
                Ok(part) => part.map(|part| (part, receiver)),
                Err(_) => Some((keep_alive(capabilities).into(), receiver)),
            }
        })
    }

    async fn answer_push(&self, context: Context, access: Access<Propose>, push: Push, answer: Answer) {
        let Push { commands, capabilities, pack, prunings, turn } = push;
        if commands.is_empty() {
            return;
        }
        let mut wishes: Vec<Wish> = commands.into_iter().map(Wish::new).collect();
        let judged = async {
            let write = self.access(&context).repo_by_id::<Write>(access.repo_id()).await;
            let by = write.map_or(Uploader::Proposer(access), Uploader::Writer);
            let pusher = Pusher { context, by, prunings };
            self.carry_out(&pusher, &mut wishes, &pack, capabilities.atomic, &answer).await
        };
        let unpack = match (judged.await, &pack) {
            (_, Pack::Refused(why)) => Err(why.clone()),
            (Ok(()), _) => Ok(()),
            (Err(problem), _) => Err(self.excuse(&problem)),
        };
        if let Err(why) = &unpack {
            wishes.iter_mut().for_each(|wish| wish.refuse(why.as_str()));
        }
        drop((pack, turn));
        // A client that has gone, or does not listen, has its answer in the refs.
        let _ = tokio::time::timeout(ANSWER_TIME, answer.report(wishes, unpack)).await;
    }

    /// What a client is told of a failure: of ours, only that it is one.
    fn excuse(&self, problem: &Problem) -> String {
        if let Problem::Internal(detail) = problem {
            tracing::error!(detail, "a push failed");
        }
        problem.to_string()
    }

    async fn carry_out(
        &self,
        pusher: &Pusher,
        wishes: &mut [Wish],
        pack: &Pack,
        atomic: bool,
        answer: &Answer,
    ) -> Result<(), Problem> {
        if let Pack::Refused(_) = pack {
            return Ok(());
        }
        let began = Instant::now();
        self.check_wishes(pusher, wishes).await?;
        let judged = match pack {
            Pack::Received(quarantine, received) => {
                self.judge_push(pusher, wishes, (quarantine, received.as_ref()), answer).await?
            }
            Pack::None | Pack::Refused(_) => judge::Judged::default(),
        };
        self.refuse_unrelated(pusher, wishes, &judged).await?;
        self.refuse_lost_branches(pusher, wishes).await?;
        let judged_ms = began.elapsed().as_millis();
        refuse_all_or_none(wishes, atomic);
        let done = self.publish_push(pusher, wishes, pack, &judged, (atomic, answer)).await;
        let published_ms = began.elapsed().as_millis() - judged_ms;
        tracing::info!(repo = %pusher.by.repo_id(), refs = wishes.len(), judged_ms, published_ms, "a push");
        done
    }
}

/// Of a push that is to happen as a whole, nothing happens when one of its refs is refused.
fn refuse_all_or_none(wishes: &mut [Wish], atomic: bool) {
    if atomic && wishes.iter().any(|wish| wish.refused.is_some()) {
        wishes.iter_mut().for_each(|wish| wish.refuse("the push is atomic, and another ref was refused"));
    }
}

/// The way to the client.
struct Answer {
    sender: mpsc::Sender<Bytes>,
    capabilities: Capabilities,
}

impl Answer {
    async fn say(&self, text: &str) {
        let remark = remark(self.capabilities, text);
        if !remark.is_empty() {
            let _ = self.sender.send(remark.into()).await;
        }
    }

    /// The end of it all.
    async fn report(&self, wishes: Vec<Wish>, unpack: Result<(), String>) {
        for remark in wishes.iter().flat_map(|wish| &wish.remarks).take(MAX_REMARKS) {
            self.say(remark).await;
        }
        let results = wishes.into_iter().map(|wish| (wish.command.name, wish.refused.map_or(Ok(()), Err)));
        let report = Report { unpack, refs: results.collect() };
        let _ = self.sender.send(report.render(self.capabilities).into()).await;
    }

    /// Has the client gone?
    fn is_pointless(&self) -> bool {
        self.sender.is_closed()
    }
}

/// The faults of a ref as remarks, and how to mend them.
fn explain(faults: &[(Oid, &Fault)]) -> Vec<String> {
    let mut lines = Vec::new();
    for (commit, fault) in faults.iter().take(MAX_FAULTS) {
        let id: String = commit.to_string().chars().take(10).collect();
        lines.push(format!("error: commit {id}: {}", visible(&describe(fault).replace('\n', " "))));
    }
    if faults.len() > MAX_FAULTS {
        lines.push(format!("error: and {} more", faults.len() - MAX_FAULTS));
    }
    lines.extend(cures(faults));
    lines
}

fn describe(fault: &Fault) -> String {
    match fault {
        Fault::TooLarge { path, size: Some(size) } => format!(
            "{path} has {size} bytes; files of more than {MAX_REGULAR_FILE_BYTES} bytes (10 MiB) have to be large files"
        ),
        Fault::NoContent { path, sha256 } => {
            format!("{path} points at content that is not in this repository (sha256 {sha256})")
        }
        other => other.to_string(),
    }
}

/// What the person who pushes can do about it, each once.
fn cures(faults: &[(Oid, &Fault)]) -> Vec<String> {
    let mut lines = Vec::new();
    let large: Vec<&str> = faults
        .iter()
        .filter_map(|(_, fault)| match fault {
            Fault::TooLarge { path, .. } => Some(path.as_str()),
            _ => None,
        })
        .collect();
    if let Some(first) = large.first() {
        let pattern = visible(first).replace('\'', "'\\''");
        lines.push("hint: make large files of them, in all commits that have them, and push again:".into());
        lines.push(format!("hint:   git lfs install && git lfs migrate import --include='{pattern}'"));
        lines.push("hint: or take them out of the commits and send them with: hf upload".into());
    }
    if faults.iter().any(|(_, fault)| matches!(fault, Fault::NoContent { .. })) {
        lines.push("hint: send the content first, then push again: git lfs push --all origin".into());
    }
    lines
}
