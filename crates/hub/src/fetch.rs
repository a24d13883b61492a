//! Fetching with git: stock `git upload-pack` over a snapshot of the repository, its bytes passed on
//! as they come.
//!
//! A program and its place among those that may run at once belong to a task of their own, not to
//! whoever listens: a listener who goes away, sleeps or dawdles ends it.

pub(crate) mod crowd;
pub(crate) mod request;
mod watch;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bastide_core::Oid;
pub use bastide_git::Protocol;
use bastide_git::packet::push_line;
use bastide_git::{GitError, KnownPack, Pipes, Running, Snapshot, SnapshotRef};
use bastide_ledger::Context;
use bastide_store::{git, refs};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use tokio::io::AsyncReadExt;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc;

use crate::access::{Access, Includes, Read, See};
use crate::places::Place;
use crate::reads::Delivery;
use crate::{Hub, Problem};
use crowd::{CROWDED_WINDOW, LOOK, Window};
use request::Request;
use watch::{Answered, Asked};

/// One account, or one address without an account, has at most one in so many places.
pub(crate) const SHARE: usize = 4;
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
        let place = self.git_greetings.take(context, self.config.git_wait).await?;
        let snapshot = self.snapshot(access).await?;
        let program = snapshot.advertise(protocol)?;
        let talk = Talk::new(self, context, access, (snapshot, Asked::default(), Kind::Greeting));
        begin(talk, program, place, None).await
    }

    /// Answers one request of a fetch, whose body is `parts`. That we are busy is said in git's own
    /// words: of an HTTP status it shows its user the number alone.
    pub async fn upload_pack(
        &self,
        context: &Context,
        access: &Access<Read>,
        protocol: Protocol,
        parts: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Parts, Problem> {
        match self.answer_fetch(context, access, protocol, parts).await {
            Err(busy @ Problem::Busy { .. }) => {
                let mut line = Vec::new();
                push_line(&mut line, format!("ERR {busy}\n").as_bytes());
                Ok(stream::iter([Ok(line.into())]).boxed())
            }
            answer => answer,
        }
    }

    async fn answer_fetch(
        &self,
        context: &Context,
        access: &Access<Read>,
        protocol: Protocol,
        parts: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Parts, Problem> {
        let request = self.read_request(context, parts).await?;
        let place = self.git_programs.take(context, self.config.git_wait).await?;
        let snapshot = self.snapshot(access).await?;
        let program = snapshot.answer(protocol)?;
        let talk = Talk::new(self, context, access, (snapshot, request.asked.clone(), Kind::Fetch));
        begin(talk, program, place, Some(request)).await
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
    asked: Asked,
    kind: Kind,
}

/// Whose places it takes one of.
#[derive(Clone, Copy)]
enum Kind {
    Greeting,
    Fetch,
}

/// Starts to answer. What fails before the first byte is a problem of its own.
async fn begin(
    talk: Talk,
    (running, pipes): (Running, Pipes),
    place: Place,
    request: Option<Request>,
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
    fn new(
        hub: &Hub,
        context: &Context,
        access: &Access<Read>,
        (snapshot, asked, kind): (Arc<Snapshot>, Asked, Kind),
    ) -> Self {
        let (hub, context, access) = (hub.clone(), context.clone(), access.clone());
        Self { hub, context, access, snapshot, asked, kind }
    }

    /// Until git has ended, or whoever listens is gone. In every other case than the first, git is
    /// killed here.
    async fn run(
        &self,
        (running, pipes): (Running, Pipes),
        request: Option<Request>,
        listener: &mpsc::Sender<Part>,
    ) -> Result<(), Problem> {
        let work = async {
            let answered = tokio::select! {
                Err(problem) = feed(pipes.stdin, request) => return Err(problem),
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

    fn others_wait(&self) -> bool {
        match self.kind {
            Kind::Greeting => self.hub.git_greetings.are_waited_for(),
            Kind::Fetch => self.hub.git_programs.are_waited_for(),
        }
    }

    /// Passes git's answer on. Before a pack begins, its delivery is recorded.
    async fn deliver(
        &self,
        mut stdout: ChildStdout,
        listener: &mpsc::Sender<Part>,
    ) -> Result<Answered, Problem> {
        let (mut answered, mut pace) = (Answered::default(), Pace::new(PATIENCE, CROWDED_WINDOW));
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
            pace.send(listener, part, || self.others_wait()).await?;
        }
    }

    /// What it means how git has ended.
    async fn settle(&self, mut running: Running, answered: &Answered) -> Result<(), Problem> {
        let (status, complaint) = running.end().await?;
        if status.success() {
            return Ok(());
        }
        let repo = self.access.repo_id();
        let complaint = complaint.trim().replace('\n', "; ");
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
        !self.asked.commits(self.snapshot.refs()).is_empty()
    }

    /// Notes what is about to be delivered. The first line of what counts as a clone says so.
    async fn record(&self) -> Result<(), Problem> {
        let asked = &self.asked;
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

/// Passes the request on to git.
async fn feed(mut stdin: ChildStdin, request: Option<Request>) -> Result<(), Problem> {
    let Some(mut request) = request else { return Ok(()) };
    match request.write_to(&mut stdin).await {
        // It has what it wants, and says the rest itself.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done.map_err(GitError::from)?),
    }
}

/// How long a client has let us wait, against what it has taken.
struct Pace {
    /// How long it may be at once.
    patience: Duration,
    waited: Duration,
    bytes: u64,
    window: Window,
}

impl Pace {
    const fn new(patience: Duration, length: Duration) -> Self {
        let window = Window::new(length);
        Self { patience, waited: Duration::ZERO, bytes: 0, window }
    }

    async fn send(
        &mut self,
        listener: &mpsc::Sender<Part>,
        part: Bytes,
        others_wait: impl Fn() -> bool,
    ) -> Result<(), Problem> {
        let gone = || Problem::internal("the client has not taken its answer");
        let mut stalled = Duration::ZERO;
        let room = loop {
            let (began, left) = (Instant::now(), self.left(stalled));
            let room = tokio::time::timeout(left.min(LOOK), listener.reserve()).await;
            let waited = began.elapsed();
            stalled += waited;
            self.waited += waited;
            self.window.add(waited, 0);
            match room {
                Ok(room) => break room.map_err(|_| gone())?,
                Err(_) if self.left(stalled).is_zero() => return Err(gone()),
                Err(_) if self.window.is_slow() && others_wait() => return Err(gone()),
                Err(_) => {}
            }
        };
        let length = part.len() as u64;
        room.send(Ok(part));
        self.bytes += length;
        self.window.add(Duration::ZERO, length);
        if self.window.is_slow() && others_wait() { Err(gone()) } else { Ok(()) }
    }

    /// How long it may be now, when it has been so long already.
    fn left(&self, stalled: Duration) -> Duration {
        let earned = Duration::from_secs(self.bytes / LEAST_BYTES_PER_SECOND);
        let all = (self.patience + earned).saturating_sub(self.waited);
        all.min(self.patience.saturating_sub(stalled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_takes_nothing_or_too_little_is_left() {
        let short = Duration::from_millis(50);
        let (send, mut parts) = mpsc::channel(1);
        let alone = || false;
        let mut pace = Pace::new(short, CROWDED_WINDOW);
        pace.send(&send, Bytes::from_static(b"1"), alone).await.unwrap();
        let second = pace.send(&send, Bytes::from_static(b"2"), alone).await;
        assert!(second.is_err(), "nobody takes the first");
        parts.recv().await.unwrap().unwrap();
        let mut pace = Pace { waited: PATIENCE, ..Pace::new(PATIENCE, CROWDED_WINDOW) };
        assert_eq!(pace.left(Duration::ZERO), Duration::ZERO);
        // There is room: that is no wait.
        pace.send(&send, Bytes::from(vec![0; 64 * 1024]), alone).await.unwrap();
        assert_eq!(pace.left(Duration::ZERO).as_secs(), 15);
        let fast = Pace { bytes: u64::MAX / 2, ..Pace::new(PATIENCE, CROWDED_WINDOW) };
        assert_eq!(fast.left(Duration::ZERO), PATIENCE, "however much one has taken");
        assert_eq!(fast.left(PATIENCE), Duration::ZERO);
    }

    #[tokio::test]
    async fn who_is_slow_goes_when_others_wait() {
        for crowded in [false, true] {
            let (send, mut parts) = mpsc::channel(1);
            let mut pace = Pace::new(PATIENCE, Duration::from_millis(100));
            // It has earned hours by what it took at first.
            pace.bytes = 1 << 30;
            let taker = tokio::spawn(async move {
                for _ in 0..30 {
                    tokio::time::sleep(Duration::from_millis(15)).await;
                    parts.recv().await;
                }
                parts
            });
            let mut ended = false;
            for _ in 0..25 {
                ended = ended || pace.send(&send, Bytes::from_static(b"slow"), || crowded).await.is_err();
            }
            assert_eq!(ended, crowded);
            drop(taker);
        }
    }
}
