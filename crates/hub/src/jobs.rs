//! The worker: claims jobs one by one and runs each by its kind. One file per kind below here.
//!
//! Every job may run twice, so every job is idempotent. A job that panics has failed, like any
//! other; one that takes the process with it comes back, but not for ever.

pub(crate) mod merge_packs;
pub(crate) mod merged_pulls;
pub(crate) mod prune_packs;
pub(crate) mod share_xorbs;

use std::time::Duration;

use bastide_ledger::{Action, NewEvent, context};
use bastide_store::jobs::{self, Failed, Job};
use futures_util::future::BoxFuture;

use crate::{Hub, Problem};

/// Pause between looks into an empty queue.
const IDLE: Duration = Duration::from_millis(500);
/// A job that runs gives a sign of life this often: well within its lease.
const HEARTBEAT: Duration = if cfg!(test) {
    Duration::from_millis(20)
} else {
    Duration::from_secs(jobs::LEASE_SECONDS.unsigned_abs() / 4)
};

type Run = for<'a> fn(&'a Hub, payload: &'a str) -> BoxFuture<'a, Result<(), Problem>>;

/// Every kind of job: its name in the queue, and what runs it.
const KINDS: &[(&str, Run)] = &[
    (merge_packs::KIND, |hub, repo| Box::pin(hub.merge_packs(repo))),
    (merged_pulls::KIND, |hub, moved| Box::pin(hub.find_merged(moved))),
    (prune_packs::KIND, |hub, repo| Box::pin(hub.prune_packs(repo))),
    (share_xorbs::KIND, |hub, _| Box::pin(hub.share_xorbs())),
    #[cfg(test)]
    ("panic", |_, _| Box::pin(async { panic!("as the test wants it") })),
    #[cfg(test)]
    ("slow", |_, _| Box::pin(tests::sleep())),
];

impl Hub {
    /// Works for ever. Errors are logged here, where they are handled.
    pub async fn work(self) {
        loop {
            let hub = self.clone();
            // In a task of its own, so that even a panic does not end the loop.
            match tokio::spawn(async move { hub.run_one_job().await }).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => tokio::time::sleep(IDLE).await,
                Ok(Err(error)) => {
                    tracing::error!(?error, "job queue");
                    tokio::time::sleep(IDLE).await;
                }
                Err(panic) => {
                    tracing::error!(%panic, "job queue");
                    tokio::time::sleep(IDLE).await;
                }
            }
        }
    }

    /// Runs all that is due. For tests and for commands that end.
    pub async fn run_due_jobs(&self) -> Result<usize, Problem> {
        let mut count = 0;
        while self.run_one_job().await? {
            count += 1;
        }
        Ok(count)
    }

    /// Runs one job if one is due; says whether there was one.
    async fn run_one_job(&self) -> Result<bool, Problem> {
        let Some(job) = jobs::claim(&self.db, self.clock.now()).await? else { return Ok(false) };
        let done = if job.is_used_up() {
            Some(Err(Problem::internal("it never ended: the process died, or its lease ran out, each time")))
        } else {
            self.run_while_held(&job).await
        };
        match done {
            Some(Ok(())) => self.lost_unless(jobs::finish(&self.db, &job).await?, &job),
            Some(Err(problem)) => self.job_failed(&job, &problem).await?,
            None => self.lost_unless(false, &job),
        }
        Ok(true)
    }

    /// Runs a job and renews its lease meanwhile. `None` when the lease was lost: another has it.
    async fn run_while_held(&self, job: &Job) -> Option<Result<(), Problem>> {
        let mut running = tokio::spawn({
            let (hub, job) = (self.clone(), job.clone());
            async move { hub.run_job(&job).await }
        });
        loop {
            match tokio::time::timeout(HEARTBEAT, &mut running).await {
                Ok(Ok(done)) => return Some(done),
                Ok(Err(panic)) => return Some(Err(Problem::internal(panic))),
                Err(_still_running) => match jobs::renew(&self.db, job, self.clock.now()).await {
                    Ok(true) => {}
                    Ok(false) => {
                        running.abort();
                        return None;
                    }
                    Err(error) => tracing::warn!(kind = job.kind, %error, "a job's lease was not renewed"),
                },
            }
        }
    }

    fn lost_unless(&self, held: bool, job: &Job) {
        if !held {
            tracing::warn!(kind = job.kind, key = job.key, "a job was taken over while it ran");
        }
    }

    async fn job_failed(&self, job: &Job, problem: &Problem) -> Result<(), Problem> {
        tracing::warn!(kind = job.kind, key = job.key, attempts = job.attempts, ?problem, "job failed");
        let context = context::system("jobs", &self.clock);
        let event = NewEvent::new(&context, Action::JobFailed)
            .subject("job", Some(job.id.as_i64()), &job.kind)
            .fact("key", job.key.as_str());
        let failed = jobs::fail(&self.db, job, &format!("{problem:?}"), self.clock.now(), event).await?;
        self.lost_unless(failed != Failed::Lost, job);
        Ok(())
    }

    async fn run_job(&self, job: &Job) -> Result<(), Problem> {
        match KINDS.iter().find(|(kind, _)| *kind == job.kind) {
            Some((_, run)) => run(self, &job.payload).await,
            None => Err(Problem::internal(format!("no job is called {}", job.kind))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use bastide_core::{Clock, Timestamp};
    use bastide_store::jobs::NewJob;

    use super::*;

    pub(super) async fn sleep() -> Result<(), Problem> {
        tokio::time::sleep(Duration::from_millis(400)).await;
        Ok(())
    }

    struct Lab {
        hub: Hub,
        time: Arc<AtomicI64>,
        _folder: tempfile::TempDir,
    }

    async fn lab() -> Lab {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let time = Arc::new(AtomicI64::new(1_800_000_000_000));
        let hub = Hub::new(crate::Parts {
            config: crate::Config::new(data.to_owned(), "http://hub.test"),
            db: bastide_store::Db::open_sqlite(&data.join("test.db")).await.unwrap(),
            blobs: bastide_blobs::Blobs::folder(&data.join("blobs")).unwrap(),
            git: bastide_git::Cache::new(data.join("git")),
            keys: bastide_vault::Keys::load_or_create(&data.join("keys")).unwrap(),
            clock: Clock::Test(Arc::clone(&time)),
        });
        Lab { hub, time, _folder: folder }
    }

    impl Lab {
        async fn enqueue(&self, kind: &'static str) {
            let now = self.hub.clock.now();
            let context = context::system("test", &self.hub.clock);
            let mut tx = self.hub.write(&context).await.unwrap();
            let new = NewJob { kind, key: "k".into(), payload: String::new(), run_at: now };
            jobs::enqueue(&mut tx, now, new).await.unwrap();
            tx.commit(NewEvent::new(&context, Action::HubInit)).await.unwrap();
        }

        fn advance(&self, seconds: i64) -> Timestamp {
            self.time.fetch_add(seconds * 1000, Ordering::SeqCst);
            self.hub.clock.now()
        }

        async fn counts(&self) -> (u64, u64) {
            jobs::counts(&mut self.hub.db.read().await.unwrap()).await.unwrap()
        }
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_and_failures_end() {
        let lab = lab().await;
        lab.enqueue("panic").await;
        for _ in 0..jobs::MAX_ATTEMPTS {
            assert_eq!(lab.hub.run_due_jobs().await.unwrap(), 1);
            lab.advance(3600);
        }
        assert_eq!((lab.counts().await, lab.hub.run_due_jobs().await.unwrap()), ((0, 1), 0));
    }

    #[tokio::test]
    async fn a_job_that_took_its_worker_with_it_each_time_is_not_run_again() {
        let lab = lab().await;
        lab.enqueue("panic").await;
        for _ in 0..jobs::MAX_ATTEMPTS {
            // Claimed, and never heard of again.
            assert!(jobs::claim(&lab.hub.db, lab.hub.clock.now()).await.unwrap().is_some());
            lab.advance(jobs::LEASE_SECONDS + 1);
        }
        assert_eq!(lab.hub.run_due_jobs().await.unwrap(), 1);
        assert_eq!(lab.counts().await, (0, 1));
    }

    #[tokio::test]
    async fn a_long_job_keeps_its_lease() {
        let lab = lab().await;
        lab.enqueue("slow").await;
        let hub = lab.hub.clone();
        let running = tokio::spawn(async move { hub.run_due_jobs().await });
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(70)).await;
            let now = lab.advance(jobs::LEASE_SECONDS / 2);
            tokio::time::sleep(Duration::from_millis(30)).await;
            assert!(jobs::claim(&lab.hub.db, now).await.unwrap().is_none(), "taken from who has it");
        }
        assert_eq!(running.await.unwrap().unwrap(), 1);
        assert_eq!(lab.counts().await, (0, 0));
    }

    #[tokio::test]
    async fn background_work_goes_on_after_a_panic() {
        let lab = lab().await;
        let (sender, mut turns) = tokio::sync::mpsc::unbounded_channel();
        lab.hub.every("test", Duration::from_millis(1), move |_| {
            let sender = sender.clone();
            async move {
                let _ = sender.send(());
                panic!("as the test wants it")
            }
        });
        for _ in 0..3 {
            turns.recv().await.unwrap();
        }
    }
}
