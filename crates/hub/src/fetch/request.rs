//! The request of a fetch, read whole before anything is done for it: who sends slowly keeps nobody
//! waiting. What is long is put down in a file without a name.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use bastide_git::GitError;
use bastide_ledger::Context;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncSeekExt, AsyncWrite, AsyncWriteExt};

use super::watch::Asked;
use crate::places::Place;
use crate::{Hub, Problem};

/// How long a request may take to come: so long, and a second more for so many bytes.
const MAX_TIME: Duration = Duration::from_secs(60);
const LEAST_BYTES_PER_SECOND: u64 = 256 * 1024;
/// How long it may be without a byte.
const MAX_IDLE: Duration = Duration::from_secs(20);
/// So much of it is kept in memory.
const IN_MEMORY: usize = 256 * 1024;
/// Requests that may be in files at once: a gigabyte in all.
pub(crate) const IN_FILES: usize = 16;
/// How long a request waits until it may be put in a file.
const FILE_WAIT: Duration = Duration::from_secs(30);

pub(super) struct Request {
    pub asked: Asked,
    start: Vec<u8>,
    rest: Option<(tokio::fs::File, Place)>,
}

/// How long it may be until the next part.
struct Clock {
    began: Instant,
    most: Duration,
    idle: Duration,
    bytes: u64,
}

impl Clock {
    fn left(&self) -> Duration {
        let earned = Duration::from_secs(self.bytes / LEAST_BYTES_PER_SECOND);
        (self.most + earned).saturating_sub(self.began.elapsed()).min(self.idle)
    }
}

impl Hub {
    /// Reads a request to its end.
    pub(super) async fn read_request(
        &self,
        context: &Context,
        parts: impl Stream<Item = io::Result<Bytes>>,
    ) -> Result<Request, Problem> {
        let mut parts = std::pin::pin!(parts);
        let mut clock = Clock { began: Instant::now(), most: MAX_TIME, idle: MAX_IDLE, bytes: 0 };
        let mut request = Request { asked: Asked::default(), start: Vec::new(), rest: None };
        while let Some(part) = next(&mut parts, &mut clock).await? {
            request.asked.take(&part)?;
            if request.start.len() + part.len() > IN_MEMORY && request.rest.is_none() {
                let place = self.git_requests.take(context, FILE_WAIT).await?;
                request.rest = Some((file(&self.scratch()?)?, place));
            }
            request.keep(&part).await?;
        }
        let Request { asked, rest, .. } = &mut request;
        if !asked.is_whole() {
            return Err(GitError::Packet.into());
        }
        if let Some((file, _)) = rest {
            file.flush().await.map_err(GitError::from)?;
            file.rewind().await.map_err(GitError::from)?;
        }
        Ok(request)
    }
}

impl Request {
    async fn keep(&mut self, part: &[u8]) -> Result<(), GitError> {
        match &mut self.rest {
            Some((file, _)) => file.write_all(part).await?,
            None => self.start.extend_from_slice(part),
        }
        Ok(())
    }

    /// Passes it on.
    pub(super) async fn write_to(&mut self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        to.write_all(&self.start).await?;
        if let Some((file, _)) = &mut self.rest {
            tokio::io::copy(file, to).await?;
        }
        Ok(())
    }
}

async fn next(
    parts: &mut (impl Stream<Item = io::Result<Bytes>> + Unpin),
    clock: &mut Clock,
) -> Result<Option<Bytes>, Problem> {
    let late = |_| Problem::Invalid("the request took too long to come: send it faster".into());
    let part = tokio::time::timeout(clock.left(), parts.next()).await.map_err(late)?;
    let part = part.transpose().map_err(|error| bad_request(&error))?;
    clock.bytes += part.as_ref().map_or(0, |part| part.len() as u64);
    Ok(part)
}

fn file(scratch: &Path) -> Result<tokio::fs::File, GitError> {
    Ok(tokio::fs::File::from_std(tempfile::tempfile_in(scratch)?))
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    #[tokio::test]
    async fn who_sends_too_slowly_is_left() {
        let short = Duration::from_millis(40);
        let mut silent = Box::pin(stream::pending());
        let mut clock = Clock { began: Instant::now(), most: MAX_TIME, idle: short, bytes: 0 };
        assert!(next(&mut silent, &mut clock).await.is_err(), "not a byte");
        // A line now and then.
        let line = async |()| {
            tokio::time::sleep(Duration::from_millis(15)).await;
            Some((Ok(Bytes::from_static(b"0009have\n")), ()))
        };
        let mut drops = Box::pin(stream::unfold((), line));
        let mut clock = Clock { began: Instant::now(), most: short, idle: MAX_IDLE, bytes: 0 };
        let mut came = 0;
        while next(&mut drops, &mut clock).await.is_ok() {
            came += 1;
        }
        assert!((1..20).contains(&came), "{came} lines");
        let clock = Clock { began: Instant::now(), most: MAX_TIME, idle: MAX_TIME * 9, bytes: 64 << 20 };
        assert!(clock.left() > MAX_TIME * 5, "a long request has longer");
    }
}
