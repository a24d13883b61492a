//! Receiving: the commands are read, the pack goes through `git index-pack` as it comes. Whoever stops sending, sends
//! too much or sends what is no pack leaves nothing behind.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use bastide_git::push::{CommandReader, Commands};
use bastide_git::{GitError, Quarantine, Running};
use bastide_ledger::Context;
use bastide_store::{git, prune};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::time::{Instant, timeout};

use super::{Pack, Push, Sent};
use crate::access::{Access, Propose};
use crate::fetch::crowd::{CROWDED_WINDOW, LOOK, Window};
use crate::places::Places;
use crate::{Hub, Problem};

/// How long taking a pack apart may go on after its last byte: so long, and a second more for so many bytes.
const LEAST_INDEX_TIME: Duration = Duration::from_secs(20);
const BYTES_A_SECOND: u64 = 1024 * 1024;
/// Processor time that taking a pack apart may need: so many seconds, and one more for so many bytes. Two threads work
/// at it.
const LEAST_PROCESSOR_SECONDS: u64 = 20;
const BYTES_A_PROCESSOR_SECOND: u64 = 512 * 1024;
/// Packs that are merged while a quarantine is made: another attempt finds the merged one.
const ATTEMPTS: usize = 4;
const BUSY_SECONDS: u32 = 30;
/// How long we wait for a client in all: so much, and a second more for so many bytes that it has sent.
const PATIENCE: Duration = Duration::from_secs(60);
const LEAST_BYTES_A_SECOND: u64 = 4 * 1024;
/// Deltas upon deltas: reading an object costs as many steps, and looking at a pack the product of both. What git
/// makes has 50, and 4095 at most.
const MAX_CHAIN: u32 = 4095;
/// So much of a push is read although we are too busy for it, and for so long: its sender listens only then.
const BUSY_DRAIN_BYTES: u64 = 4 * 1024 * 1024;
const BUSY_DRAIN_TIME: Duration = Duration::from_secs(20);
/// Objects of a pack from which on their number is why there was no memory: 64 bytes each are asked for at once.
const MANY_OBJECTS: u32 = 3_000_000;
/// The start of a pack: its name, its version, how many objects it has.
const PACK_HEAD: usize = 12;

impl Hub {
    /// Receives a push, pack and all. Only what is no push at all is an error; everything else is told in the answer.
    pub async fn receive_push<S>(
        &self,
        context: &Context,
        access: &Access<Propose>,
        body: S,
    ) -> Result<Push, Problem>
    where
        S: Stream<Item = io::Result<Sent>> + Send,
    {
        let mut body = Box::pin(body);
        let Some((commands, first)) = read_commands(&mut body).await? else {
            return Err(Problem::Invalid("the request ended before the commands of the push did".into()));
        };
        let has_pack = commands.has_pack();
        let Commands { list, capabilities, too_many } = commands;
        // Before anything is looked at.
        let prunings = prune::prunings(&mut self.db.read().await?, access).await?;
        let push = |pack, turn| Push { commands: list, capabilities, pack, prunings, turn };
        if too_many {
            drain(&mut body).await?;
            let limit = bastide_git::push::MAX_PUSH_COMMANDS;
            let why = format!("one push moves at most {limit} refs: push them in parts");
            return Ok(push(Pack::Refused(why), None));
        }
        if !has_pack {
            drain(&mut body).await?;
            return Ok(push(Pack::None, None));
        }
        let Ok(turn) = self.pushes.take(context, self.config.git_wait).await else {
            let busy = Problem::Busy { seconds: BUSY_SECONDS };
            // Only a report is shown; whoever has much to send is not waited for.
            let is_little = drain_little(first.len() as u64, &mut body).await?;
            return if is_little { Ok(push(Pack::Refused(busy.to_string()), None)) } else { Err(busy) };
        };
        let quarantine = self.quarantine(access).await?;
        let pack = self.take_apart(quarantine, first, &mut body).await?;
        Ok(push(pack, Some(turn)))
    }

    /// A quarantine beside the packs that the repository has now.
    async fn quarantine(&self, access: &Access<Propose>) -> Result<Quarantine, Problem> {
        for _ in 0..ATTEMPTS {
            let copy = self.materialise(access).await?;
            let packs = git::packs(&mut self.db.read().await?, access).await?;
            let packs: Vec<String> = packs.into_iter().map(|pack| pack.name).collect();
            let scratch = self.scratch()?;
            match tokio::task::spawn_blocking(move || Quarantine::new(&scratch, &copy, &packs)).await? {
                // A pack was merged into another meanwhile.
                Err(GitError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                made => return Ok(made?),
            }
        }
        Err(Problem::Busy { seconds: BUSY_SECONDS })
    }

    async fn take_apart<S>(&self, quarantine: Quarantine, first: Bytes, body: &mut S) -> Result<Pack, Problem>
    where
        S: Stream<Item = io::Result<Sent>> + Unpin,
    {
        let limit = self.config.max_push_bytes;
        let mut work = Work::start(quarantine, limit)?;
        let pace = Pace::of_place(&self.pushes, CROWDED_WINDOW);
        let sent = work.feed(first, body, pace).await?;
        let patience = LEAST_INDEX_TIME + Duration::from_secs(sent / BYTES_A_SECOND);
        let Ok(ended) = timeout(patience, work.end()).await else {
            return Ok(Pack::Refused("taking the pack apart took too long: push less at once".into()));
        };
        let (status, complaint, quarantine) = ended?;
        if !status.success() {
            return refusal(&quarantine, status, &complaint, (limit, work.objects())).map(Pack::Refused);
        }
        let done = tokio::task::spawn_blocking(move || {
            let received = match quarantine.received() {
                Err(GitError::Damaged { oid, what }) => {
                    return Ok(Pack::Refused(format!("the object {oid} is not as git sends it: {what}")));
                }
                received => received?,
            };
            if received.as_ref().is_some_and(|received| received.deepest_chain > MAX_CHAIN) {
                return Ok(Pack::Refused(format!(
                    "the pack has more than {MAX_CHAIN} deltas upon each other: pack your repository anew, then push \
                    again: git repack -a -d -f --depth=50"
                )));
            }
            Ok::<_, GitError>(Pack::Received(Arc::new(quarantine), received.map(Arc::new)))
        });
        Ok(done.await??)
    }
}

/// How long git may work at a pack of so many bytes.
const fn processor_seconds(bytes: u64) -> u64 {
    LEAST_PROCESSOR_SECONDS + bytes / BYTES_A_PROCESSOR_SECOND
}

async fn read_commands<S>(body: &mut S) -> Result<Option<(Commands, Bytes)>, Problem>
where
    S: Stream<Item = io::Result<Sent>> + Unpin,
{
    let (mut reader, mut pace) = (CommandReader::default(), Pace::free());
    while let Some(part) = pace.next(body).await? {
        if let Some(found) = reader.feed(&part)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Reads what nobody wants: a client listens only when it has said everything.
async fn drain<S>(body: &mut S) -> Result<(), Problem>
where
    S: Stream<Item = io::Result<Sent>> + Unpin,
{
    let mut pace = Pace::free();
    while pace.next(body).await?.is_some() {}
    Ok(())
}

/// How long a client has let us wait, against what it has sent: a place among the pushes is not kept for who dawdles.
struct Pace<'a> {
    waited: Duration,
    bytes: u64,
    /// The same of late, for a place that others may wait for.
    crowd: Option<(&'a Places, Window)>,
}

impl<'a> Pace<'a> {
    /// Of a client that holds no place.
    const fn free() -> Self {
        Self { waited: Duration::ZERO, bytes: 0, crowd: None }
    }

    const fn of_place(places: &'a Places, window: Duration) -> Self {
        Self { crowd: Some((places, Window::new(window))), ..Self::free() }
    }

    async fn next<S>(&mut self, body: &mut S) -> Result<Option<Bytes>, Problem>
    where
        S: Stream<Item = io::Result<Sent>> + Unpin,
    {
        let mut silent = Duration::ZERO;
        let part = loop {
            let (began, left) = (Instant::now(), self.left(silent));
            let part = timeout(left.min(LOOK), body.next()).await;
            silent += began.elapsed();
            self.wait(began.elapsed());
            match part {
                Ok(part) => break part.transpose().map_err(broken)?,
                Err(_) if self.left(silent).is_zero() => return Err(slow()),
                Err(_) if self.is_in_the_way() => return Err(slow()),
                Err(_) => {}
            }
        };
        let Some(Sent { bytes, took }) = part else { return Ok(None) };
        self.bytes += took;
        if let Some((_, window)) = &mut self.crowd {
            window.add(Duration::ZERO, took);
        }
        if self.is_in_the_way() { Err(slow()) } else { Ok(Some(bytes)) }
    }

    fn wait(&mut self, waited: Duration) {
        self.waited += waited;
        if let Some((_, window)) = &mut self.crowd {
            window.add(waited, 0);
        }
    }

    /// How long it may be now, when it has been so long without a byte.
    fn left(&self, silent: Duration) -> Duration {
        let earned = Duration::from_secs(self.bytes / LEAST_BYTES_A_SECOND);
        (PATIENCE + earned).saturating_sub(self.waited).min(PATIENCE.saturating_sub(silent))
    }

    /// Too slow for a place that others wait for?
    fn is_in_the_way(&self) -> bool {
        self.crowd.as_ref().is_some_and(|(places, window)| window.is_slow() && places.are_waited_for())
    }
}

fn slow() -> Problem {
    Problem::Invalid("the push came too slowly: push again, and less at once".into())
}

/// The same where it is little; false where it is more.
async fn drain_little<S>(read: u64, body: &mut S) -> Result<bool, Problem>
where
    S: Stream<Item = io::Result<Sent>> + Unpin,
{
    let little = async {
        let Some(mut left) = BUSY_DRAIN_BYTES.checked_sub(read) else { return Ok(false) };
        while let Some(part) = body.next().await {
            match left.checked_sub(part.map_err(broken)?.bytes.len() as u64) {
                Some(rest) => left = rest,
                None => return Ok(false),
            }
        }
        Ok(true)
    };
    timeout(BUSY_DRAIN_TIME, little).await.unwrap_or(Ok(false))
}

fn broken(error: io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::FileTooLarge => Problem::TooLarge("the push is too large: push less at once".into()),
        io::ErrorKind::InvalidData => Problem::Invalid("the request is not what its headers say".into()),
        _ => Problem::Invalid("the request ended before the push did".into()),
    }
}

/// A git at work, and the folder that it works in: both go together, however this ends.
struct Work {
    parts: Option<(Running, Quarantine)>,
    stdin: Option<ChildStdin>,
    head: Vec<u8>,
}

impl Work {
    fn start(quarantine: Quarantine, limit: u64) -> Result<Self, Problem> {
        let (running, stdin) = quarantine.index_pack(limit)?;
        running.limit_processor(processor_seconds(0))?;
        Ok(Self { parts: Some((running, quarantine)), stdin: Some(stdin), head: Vec::new() })
    }

    /// Gives git the pack; how long it was. When git wants no more, the rest is read all the same.
    async fn feed<S>(&mut self, first: Bytes, body: &mut S, mut pace: Pace<'_>) -> Result<u64, Problem>
    where
        S: Stream<Item = io::Result<Sent>> + Unpin,
    {
        let mut stdin = self.stdin.take();
        let (mut part, mut sent) = (first, 0);
        loop {
            let allowed = processor_seconds(sent);
            sent += part.len() as u64;
            self.allow(allowed, processor_seconds(sent))?;
            self.head.extend(part.iter().take(PACK_HEAD - self.head.len()));
            if let Some(open) = &mut stdin
                && open.write_all(&part).await.is_err()
            {
                stdin = None;
            }
            match pace.next(body).await? {
                Some(next) => part = next,
                None => return Ok(sent),
            }
        }
    }

    /// The more has come, the longer git may work at it.
    fn allow(&self, before: u64, seconds: u64) -> Result<(), Problem> {
        match self.parts.as_ref().filter(|_| seconds > before) {
            Some((running, _)) => Ok(running.limit_processor(seconds)?),
            None => Ok(()),
        }
    }

    /// How many objects the pack says it has.
    fn objects(&self) -> u32 {
        let count = self.head.get(8..PACK_HEAD).and_then(|count| count.try_into().ok());
        count.map_or(0, u32::from_be_bytes)
    }

    async fn end(&mut self) -> Result<(ExitStatus, String, Quarantine), Problem> {
        let gone = || Problem::internal("git has ended before");
        let (running, _) = self.parts.as_mut().ok_or_else(gone)?;
        let (status, complaint) = running.end().await?;
        let (_, quarantine) = self.parts.take().ok_or_else(gone)?;
        Ok((status, complaint, quarantine))
    }
}

impl Drop for Work {
    /// The folder goes when nobody writes to it any more.
    fn drop(&mut self) {
        let Some((running, quarantine)) = self.parts.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                running.kill().await;
                drop(quarantine);
            });
        }
    }
}

/// Why git did not take a pack, in words for its sender.
fn refusal(
    quarantine: &Quarantine,
    status: ExitStatus,
    complaint: &str,
    (limit, objects): (u64, u32),
) -> Result<String, Problem> {
    if complaint.contains("No space left on device") {
        return Err(Problem::Full);
    }
    if complaint.contains("pack exceeds maximum allowed size") {
        return Ok(format!("a push has at most {limit} bytes: push older commits first, in parts"));
    }
    if complaint.contains("attempting to allocate")
        || complaint.contains("out of memory")
        || complaint.contains("mmap failed")
    {
        if objects > MANY_OBJECTS {
            return Ok(format!(
                "the pack says that it has {objects} objects, too many for one push: push older commits first, in parts"
            ));
        }
        return Ok(
            "an object of the pack needs too much memory: files of more than 10 MiB have to be large files \
            (git lfs migrate import)"
                .into(),
        );
    }
    let said = |line: &&str| ["fatal: ", "error: "].iter().any(|start| line.starts_with(start));
    let lines: Vec<String> =
        complaint.lines().filter(said).take(5).map(|line| quarantine.without_paths(line)).collect();
    if lines.is_empty() {
        tracing::warn!(%status, complaint, "git index-pack failed without saying why");
        return Ok("the pack could not be taken apart: it needs too much time or memory".into());
    }
    Ok(format!("the pack was refused: {}", lines.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::crowd::CROWDED_BYTES_PER_SECOND;

    #[test]
    fn time_at_the_processor_grows_with_the_pack() {
        assert_eq!(processor_seconds(BYTES_A_PROCESSOR_SECOND - 1), LEAST_PROCESSOR_SECONDS);
        assert_eq!(processor_seconds(BYTES_A_PROCESSOR_SECOND * 7), LEAST_PROCESSOR_SECONDS + 7);
    }

    /// Parts that come one in so many milliseconds: how many are taken, of a hundred, until there is a refusal.
    async fn taken(mut pace: Pace<'_>, took: u64, every: u64) -> u64 {
        let part = move |()| async move {
            tokio::time::sleep(Duration::from_millis(every)).await;
            Some((Ok(Sent { bytes: Bytes::from_static(b"part"), took }), ()))
        };
        let mut body = Box::pin(futures_util::stream::unfold((), part));
        let mut taken = 0;
        while taken < 100 && pace.next(&mut body).await.is_ok() {
            taken += 1;
        }
        taken
    }

    #[tokio::test]
    async fn who_trickles_is_left() {
        let spent = |bytes| Pace { waited: PATIENCE, bytes, ..Pace::free() };
        assert_eq!(taken(spent(LEAST_BYTES_A_SECOND - 1), 1, 20).await, 0);
        assert_eq!(spent(LEAST_BYTES_A_SECOND * 7).left(Duration::ZERO), Duration::from_secs(7));
        let fast = Pace { bytes: u64::MAX / 2, ..Pace::free() };
        assert_eq!(fast.left(Duration::ZERO), PATIENCE, "however much one has sent");
        assert_eq!(fast.left(PATIENCE), Duration::ZERO);
    }

    #[tokio::test]
    async fn who_is_slow_gives_a_place_that_others_wait_for() {
        use bastide_ledger::context::{Origin, request};
        let from = |address: &str| {
            let origin = Origin { address: Some(address.parse().unwrap()), ..Origin::default() };
            let now = bastide_core::Timestamp::from_millis(0);
            request(bastide_core::Actor::Anonymous, bastide_core::Credential::None, origin, now)
        };
        let places = Arc::new(Places::new(1, 1));
        let place = places.take(&from("10.0.0.1"), PATIENCE).await.unwrap();
        let paced = || Pace::of_place(&places, Duration::from_millis(100));
        assert_eq!(taken(paced(), 1, 5).await, 100, "nobody else wants it");
        let others = Arc::clone(&places);
        let waiting = tokio::spawn(async move { others.take(&from("10.0.0.2"), PATIENCE).await.is_ok() });
        while !places.are_waited_for() {
            tokio::task::yield_now().await;
        }
        let slow = taken(paced(), 1, 5).await;
        assert!((5..50).contains(&slow), "{slow} parts");
        assert_eq!(taken(paced(), CROWDED_BYTES_PER_SECOND / 20, 5).await, 100, "fast enough for a crowd");
        drop(place);
        assert!(waiting.await.unwrap());
    }
}
