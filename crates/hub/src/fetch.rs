//! Fetching with git: stock `git upload-pack` over a snapshot of the repository, its bytes passed on
//! as they come.
//!
//! A program and its place among those that may run at once belong to a task of their own, not to
//! whoever listens: a listener who goes away, sleeps or dawdles ends it.

mod watch;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bastide_core::Oid;
pub use bastide_git::Protocol;
use bastide_git::{GitError, KnownPack, Pipes, Running, Snapshot, SnapshotRef};
use bastide_ledger::Context;
use bastide_store::{git, refs};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::access::{Access, Includes, Read, See};
use crate::reads::Delivery;
use crate::{Hub, Problem};
use watch::{Answered, Asked};

/// How long a request waits for one of the places before it is told to come again.
const QUEUE: Duration = Duration::from_secs(30);
const RETRY_SECONDS: u32 = 30;
/// How long one fetch may take in all, and git may be without a word in between.
const MAX_TIME: Duration = Duration::from_secs(6 * 3600);
const SILENCE: Duration = Duration::from_secs(300);
/// How long we wait for a client that takes nothing, and in all: so much, and longer by what it takes.
const PATIENCE: Duration = Duration::from_secs(60);
const LEAST_BYTES_PER_SECOND: u64 = 4 * 1024;
/// Bytes that are read from git at once, and how many such parts wait for the client.
const PART: usize = 256 * 1024;
const WAITING_PARTS: usize = 4;
/// A pack that is merged away while a snapshot is made: another attempt finds the merged one.
const ATTEMPTS: usize = 4;

/// What goes wrong with an answer: before its first byte it is an answer of its own.
pub type Part = Result<Bytes, Problem>;
pub type Parts = stream::BoxStream<'static, Part>;

impl Hub {
    /// The refs, as the client's version of the protocol has them.
    pub async fn advertise_refs(
        &self,
        context: &Context,
        access: &Access<Read>,
        protocol: Protocol,
    ) -> Result<Parts, Problem> {
        let place = self.git_place(&self.git_greetings).await?;
        let snapshot = self.snapshot(access).await?;
        let program = snapshot.advertise(protocol)?;
        let talk = Talk::new(self, context, access, snapshot);
        begin(talk, program, place, stream::empty()).await
    }

    /// Answers one request of a fetch, whose body is `request`.
    pub async fn upload_pack(
        &self,
        context: &Context,
        access: &Access<Read>,
        protocol: Protocol,
        request: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Parts, Problem> {
        let place = self.git_place(&self.git_programs).await?;
        let snapshot = self.snapshot(access).await?;
        let program = snapshot.answer(protocol)?;
        let talk = Talk::new(self, context, access, snapshot);
        begin(talk, program, place, request).await
    }

    /// A place among the programs that may run at once. Who finds none for a while may come again.
    pub(crate) async fn git_place(&self, among: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Problem> {
        let busy = Problem::Busy { seconds: RETRY_SECONDS };
        let place = tokio::time::timeout(QUEUE, Arc::clone(among).acquire_owned()).await;
        place.ok().and_then(Result::ok).ok_or(busy)
    }

    /// The repository at this moment.
    pub(crate) async fn snapshot<L: Includes<See>>(
        &self,
        access: &Access<L>,
    ) -> Result<Arc<Snapshot>, Problem> {
        for _ in 0..ATTEMPTS {
            match self.try_snapshot(access).await? {
                Err(GitError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                done => return Ok(done?),
            }
        }
        Err(Problem::Busy { seconds: RETRY_SECONDS })
    }

    async fn try_snapshot<L: Includes<See>>(
        &self,
        access: &Access<L>,
    ) -> Result<Result<Arc<Snapshot>, GitError>, Problem> {
        let mut read = self.db.read().await?;
        // First the refs: packs that are there later hold what refs named before.
        let found = refs::list(&mut read, access).await?;
        let repo = self.materialise(access).await?;
        let packs = git::packs(&mut read, access).await?;
        drop(read);
        let (hub, id) = (self.clone(), access.repo_id());
        let make = move || {
            let known = |pack: &git::Pack| (pack.name.clone(), pack.objects, pack.bytes);
            let packs: Vec<_> = packs.iter().map(known).collect();
            let packs: Vec<_> = packs
                .iter()
                .map(|(name, objects, bytes)| KnownPack { name, objects: *objects, bytes: *bytes })
                .collect();
            hub.git.snapshot(id, &repo, found.into_iter().map(snapshot_ref).collect(), &packs)
        };
        Ok(tokio::task::spawn_blocking(make).await?)
    }
}

fn snapshot_ref(found: refs::Ref) -> SnapshotRef {
    let peeled = (found.commit != found.target).then_some(found.commit);
    (found.name, found.target, peeled)
}

/// One request and its answer.
struct Talk {
    hub: Hub,
    context: Context,
    access: Access<Read>,
    snapshot: Arc<Snapshot>,
    asked: std::sync::Mutex<Asked>,
}

/// Starts to answer. What fails before the first byte is a problem of its own.
async fn begin(
    talk: Talk,
    (running, pipes): (Running, Pipes),
    place: OwnedSemaphorePermit,
    request: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Result<Parts, Problem> {
    let (send, mut parts) = mpsc::channel(WAITING_PARTS);
    tokio::spawn(async move {
        let ended = talk.run((running, pipes), request, &send).await;
        drop(place);
        if let Err(problem) = ended {
            // Nobody may take what came so far for all.
            let _ = tokio::time::timeout(PATIENCE, send.send(Err(problem))).await;
        }
    });
    let first = parts.recv().await.transpose()?;
    let rest = stream::poll_fn(move |cx| parts.poll_recv(cx));
    Ok(stream::iter(first.map(Ok)).chain(rest).boxed())
}

impl Talk {
    fn new(hub: &Hub, context: &Context, access: &Access<Read>, snapshot: Arc<Snapshot>) -> Self {
        let (hub, context, access) = (hub.clone(), context.clone(), access.clone());
        Self { hub, context, access, snapshot, asked: std::sync::Mutex::default() }
    }

    /// Until git has ended, or whoever listens is gone. In every other case than the first, git is
    /// killed here.
    async fn run(
        &self,
        (running, pipes): (Running, Pipes),
        request: impl Stream<Item = io::Result<Bytes>>,
        listener: &mpsc::Sender<Part>,
    ) -> Result<(), Problem> {
        let work = async {
            let answered = tokio::select! {
                Err(problem) = self.feed(pipes.stdin, request) => return Err(problem),
                answered = self.deliver(pipes.stdout, listener) => answered?,
            };
            self.settle(running, &answered).await
        };
        tokio::select! {
            () = listener.closed() => Ok(()),
            ended = tokio::time::timeout(MAX_TIME, work) => {
                ended.unwrap_or_else(|_| Err(Problem::internal("a fetch has taken too long")))
            }
        }
    }

    /// Passes the request on to git.
    async fn feed(
        &self,
        mut stdin: ChildStdin,
        request: impl Stream<Item = io::Result<Bytes>>,
    ) -> Result<(), Problem> {
        let mut request = std::pin::pin!(request);
        while let Some(part) = request.next().await {
            let part = part.map_err(|error| bad_request(&error))?;
            self.asked().take(&part)?;
            match stdin.write_all(&part).await {
                // It has what it wants, and says the rest itself.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                done => done.map_err(GitError::from)?,
            }
        }
        if self.asked().is_whole() { Ok(()) } else { Err(GitError::Packet.into()) }
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Passes git's answer on. Before a pack begins, its delivery is recorded.
    async fn deliver(
        &self,
        mut stdout: ChildStdout,
        listener: &mpsc::Sender<Part>,
    ) -> Result<Answered, Problem> {
        let (mut answered, mut pace) = (Answered::default(), Pace::new(PATIENCE));
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PART);
            let read = tokio::time::timeout(SILENCE, stdout.read_buf(&mut buffer)).await;
            let read = read.map_err(|_| Problem::internal("git has said nothing for too long"))?;
            if read.map_err(GitError::from)? == 0 {
                return Ok(answered);
            }
            let part = buffer.split().freeze();
            if answered.begins_pack(&part) {
                self.record().await?;
            }
            pace.send(listener, part).await?;
        }
    }

    /// What it means how git has ended.
    async fn settle(&self, running: Running, answered: &Answered) -> Result<(), Problem> {
        let (status, complaint) = running.end().await?;
        if status.success() {
            return Ok(());
        }
        let repo = self.access.repo_id();
        tracing::warn!(%repo, %status, complaint, "git has not answered a fetch");
        // What a ref names is there, where the copy is whole.
        let blames_us = !answered.is_empty() && (!answered.says_error() || self.wants_a_ref());
        if blames_us && self.hub.git.may_rebuild(repo) {
            self.hub.rebuild(&self.access).await?;
        }
        match (answered.is_empty(), answered.says_error()) {
            (true, _) => Err(Problem::Invalid("git cannot make sense of this request".into())),
            // In its own words it has told the client already.
            (false, true) => Ok(()),
            (false, false) => Err(Problem::internal("git has failed in the middle of an answer")),
        }
    }

    fn wants_a_ref(&self) -> bool {
        !self.asked().commits(self.snapshot.refs()).is_empty()
    }

    /// Notes what is about to be delivered. The first line of what counts as a clone says so.
    async fn record(&self) -> Result<(), Problem> {
        let asked = self.asked().clone();
        let commits = asked.commits(self.snapshot.refs());
        let first = asked.wants.first().copied();
        let first_commit = match first.filter(|first| !commits.contains_key(first)) {
            Some(first) if self.has_commit(first).await? => Some(first),
            _ => None,
        };
        let commit = |oid: &Oid| commits.get(oid).copied().or(first_commit.filter(|first| first == oid));
        let is_clone = !asked.has_some && first.is_some_and(|first| commit(&first).is_some());
        let names = asked.wants.iter().map(|oid| (commit(oid), oid.to_string()));
        let more = (asked.more > 0 || first.is_none()).then(|| (None, format!("{} more", asked.more)));
        for (place, (commit, object)) in names.chain(more).enumerate() {
            let via = if is_clone && place == 0 { "git-clone" } else { "git" };
            // How many bytes they are is known only afterwards.
            let delivery = Delivery { via, commit, path: None, object, bytes: 0 };
            self.hub.record_read(&self.context, &self.access, delivery)?;
        }
        Ok(())
    }

    async fn has_commit(&self, oid: Oid) -> Result<bool, Problem> {
        Ok(git::has_commit(&mut self.hub.db.read().await?, &self.access, oid).await?)
    }
}

/// What is wrong with the body of a request.
fn bad_request(error: &io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::FileTooLarge => {
            Problem::TooLarge("the request is too long: fetch less at once".into())
        }
        io::ErrorKind::InvalidData => Problem::Invalid("the request is not what gzip makes".into()),
        _ => Problem::Invalid("the request ended before its body did".into()),
    }
}

/// How long a client has let us wait, against what it has taken.
struct Pace {
    /// How long it may be at once.
    patience: Duration,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    const fn new(patience: Duration) -> Self {
        Self { patience, waited: Duration::ZERO, bytes: 0 }
    }

    async fn send(&mut self, listener: &mpsc::Sender<Part>, part: Bytes) -> Result<(), Problem> {
        let (began, length) = (Instant::now(), part.len() as u64);
        let sent = tokio::time::timeout(self.left(), listener.send(Ok(part))).await;
        let gone = || Problem::internal("the client has not taken its answer");
        sent.map_err(|_| gone())?.map_err(|_| gone())?;
        self.waited += began.elapsed();
        self.bytes += length;
        Ok(())
    }

    /// How long it may be now.
    fn left(&self) -> Duration {
        let earned = Duration::from_secs(self.bytes / LEAST_BYTES_PER_SECOND);
        (self.patience + earned).saturating_sub(self.waited).min(self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_takes_nothing_or_too_little_is_left() {
        let short = Duration::from_millis(50);
        let (send, mut parts) = mpsc::channel(1);
        let mut pace = Pace::new(short);
        pace.send(&send, Bytes::from_static(b"1")).await.unwrap();
        assert!(pace.send(&send, Bytes::from_static(b"2")).await.is_err(), "nobody takes the first");
        parts.recv().await.unwrap().unwrap();
        let mut pace = Pace { patience: PATIENCE, waited: PATIENCE, bytes: 0 };
        assert_eq!(pace.left(), Duration::ZERO);
        // There is room: that is no wait.
        pace.send(&send, Bytes::from(vec![0; 64 * 1024])).await.unwrap();
        assert_eq!(pace.left().as_secs(), 15);
        let fast = Pace { patience: PATIENCE, waited: Duration::ZERO, bytes: u64::MAX / 2 };
        assert_eq!(fast.left(), PATIENCE, "however much one has taken");
    }
}
