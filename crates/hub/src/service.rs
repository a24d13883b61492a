//! What runs beside the requests: the job worker, the journal's mover, checkpoints, clean-up.

use std::time::Duration;

use crate::{Hub, Problem};

const SYNC_READS: Duration = Duration::from_millis(250);
const FLUSH_READS: Duration = Duration::from_secs(2);
const FLUSH_LAST_USES: Duration = Duration::from_secs(30);
const CHECKPOINT: Duration = Duration::from_secs(60);
const DISPATCH_WEBHOOKS: Duration = Duration::from_millis(500);
const HOURLY: Duration = Duration::from_secs(3600);

impl Hub {
    /// Starts the background work of a server, which holds the lock of its data folder. What a
    /// crash left behind is put in order first; where that fails, the server runs all the same.
    pub async fn start(&self) -> Result<(), Problem> {
        log("clean-up", self.clear_scratch().await);
        log("read journal", self.flush_reads().await);
        tokio::spawn(self.clone().work());
        tokio::spawn(self.clone().send_webhooks());
        self.every("read journal", SYNC_READS, |hub| async move { hub.sync_reads().await });
        self.every("read journal", FLUSH_READS, |hub| async move { hub.flush_reads().await.map(drop) });
        self.every("last uses", FLUSH_LAST_USES, |hub| async move { hub.flush_last_uses().await });
        self.every("checkpoint", CHECKPOINT, |hub| async move { hub.checkpoint().await.map(drop) });
        self.every("webhook events", DISPATCH_WEBHOOKS, |hub| async move {
            hub.dispatch_webhooks().await.map(drop)
        });
        self.every("webhook logs", HOURLY, |hub| async move { hub.prune_webhook_logs().await });
        self.every("old read records", HOURLY, |hub| async move { hub.prune_reads().await.map(drop) });
        self.every("clean-up", HOURLY, |hub| async move { hub.sweep().await });
        Ok(())
    }

    /// Ends a server: what is only in memory or in the journal is written down.
    pub async fn stop(&self) -> Result<(), Problem> {
        let (last_uses, reads) = (self.flush_last_uses().await, self.flush_reads().await);
        self.checkpoint().await?;
        last_uses.and(reads.map(drop))
    }

    /// Does `work` again and again. An error or a panic is logged, and the next turn comes.
    pub(crate) fn every<F, W>(&self, name: &'static str, period: Duration, work: W)
    where
        F: Future<Output = Result<(), Problem>> + Send + 'static,
        W: Fn(Self) -> F + Send + 'static,
    {
        let hub = self.clone();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(period);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                log(name, tokio::spawn(work(hub.clone())).await.unwrap_or_else(|panic| Err(panic.into())));
            }
        });
    }
}

fn log<T>(name: &'static str, done: Result<T, Problem>) {
    if let Err(problem) = done {
        tracing::error!(name, ?problem, "background work failed");
    }
}
