//! What runs beside the requests: the job worker, the journal's mover, checkpoints, clean-up.

use std::time::Duration;

use crate::{Hub, Problem};

const FLUSH_READS: Duration = Duration::from_secs(2);
const FLUSH_LAST_USES: Duration = Duration::from_secs(30);
const CHECKPOINT: Duration = Duration::from_secs(60);
const HOURLY: Duration = Duration::from_secs(3600);
/// Temporary files of this age were left behind by a crash.
const LITTER_AGE: Duration = Duration::from_secs(24 * 3600);

impl Hub {
    /// Starts the background work of a server. What a crash left behind is put in order first.
    pub async fn start(&self) -> Result<(), Problem> {
        self.flush_reads().await?;
        tokio::spawn(self.clone().work());
        self.every("read journal", FLUSH_READS, |hub| async move { hub.flush_reads().await.map(drop) });
        self.every("last uses", FLUSH_LAST_USES, |hub| async move { hub.flush_last_uses().await });
        self.every("checkpoint", CHECKPOINT, |hub| async move { hub.checkpoint().await.map(drop) });
        self.every("clean-up", HOURLY, |hub| async move {
            hub.prune_reads().await?;
            hub.blobs.sweep_temporary(LITTER_AGE).await?;
            Ok(())
        });
        Ok(())
    }

    /// Ends a server: what is only in memory or in the journal is written down.
    pub async fn stop(&self) -> Result<(), Problem> {
        self.flush_last_uses().await?;
        self.flush_reads().await?;
        self.checkpoint().await?;
        Ok(())
    }

    fn every<F, W>(&self, name: &'static str, period: Duration, work: W)
    where
        F: Future<Output = Result<(), Problem>> + Send,
        W: Fn(Self) -> F + Send + 'static,
    {
        let hub = self.clone();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(period);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if let Err(problem) = work(hub.clone()).await {
                    tracing::error!(name, ?problem, "background work failed");
                }
            }
        });
    }
}
