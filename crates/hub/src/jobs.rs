//! The worker: claims jobs one by one and runs each by its kind. One file per kind below here.
//!
//! Every job may run twice, so every job is idempotent.

use std::time::Duration;

use bastide_ledger::context;
use bastide_ledger::{Action, NewEvent};
use bastide_store::jobs::{self, Job};

use crate::{Hub, Problem};

/// Pause between looks into an empty queue.
const IDLE: Duration = Duration::from_millis(500);

impl Hub {
    /// Works for ever. Errors are logged here, where they are handled.
    pub async fn work(self) {
        loop {
            match self.run_one_job().await {
                Ok(true) => {}
                Ok(false) => tokio::time::sleep(IDLE).await,
                Err(error) => {
                    tracing::error!(?error, "job queue");
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
        match self.run_job(&job).await {
            Ok(()) => jobs::finish(&self.db, &job).await?,
            Err(problem) => self.job_failed(&job, &problem).await?,
        }
        Ok(true)
    }

    async fn job_failed(&self, job: &Job, problem: &Problem) -> Result<(), Problem> {
        tracing::warn!(kind = job.kind, key = job.key, attempts = job.attempts, ?problem, "job failed");
        let again = jobs::fail(&self.db, job, &format!("{problem:?}"), self.clock.now()).await?;
        if !again {
            let context = context::system("jobs", &self.clock);
            let event = NewEvent::new(&context, Action::JobFailed)
                .subject("job", Some(job.id.as_i64()), &job.kind)
                .fact("key", job.key.as_str());
            self.write(&context).await?.commit(event).await?;
        }
        Ok(())
    }

    async fn run_job(&self, job: &Job) -> Result<(), Problem> {
        match job.kind.as_str() {
            crate::merge::KIND => self.merge_packs(&job.payload).await,
            unknown => Err(Problem::internal(format!("no job is called {unknown}"))),
        }
    }
}
