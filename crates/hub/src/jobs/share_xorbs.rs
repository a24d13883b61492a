//! The job that stores equal xorbs once. A repository that sends a xorb gets a row and a blob of its
//! own, so that nothing it is answered depends on what others hold. Afterwards, rows of one hash
//! whose stored bytes are equal, byte for byte, come to name one blob: nobody can tell.

use bastide_core::Timestamp;
use bastide_ledger::context;
use bastide_ledger::{Action, NewEvent};
use bastide_store::collect::{self, XorbFacts};
use bastide_store::jobs::NewJob;

use crate::{Hub, Problem};

pub(crate) const KIND: &str = "share-xorbs";

/// Xorbs of one round.
const ROUND: u32 = 200;
/// Other copies that a xorb is compared with.
const TWINS: u32 = 8;

pub(crate) fn job(now: Timestamp) -> NewJob<'static> {
    NewJob { kind: KIND, key: String::new(), payload: String::new(), run_at: now }
}

impl Hub {
    pub(crate) async fn share_xorbs(&self) -> Result<(), Problem> {
        let context = context::system(KIND, &self.clock);
        loop {
            let round = collect::uncompared(&mut self.db.read().await?, ROUND).await?;
            if round.is_empty() {
                return Ok(());
            }
            let mut equal = Vec::new();
            for xorb in &round {
                if let Some(twin) = self.twin(xorb).await? {
                    equal.push((xorb, twin));
                }
            }
            let mut tx = self.write(&context).await?;
            let mut shared = 0u64;
            for (xorb, twin) in &equal {
                shared += u64::from(collect::share(&mut tx, xorb, twin).await?);
            }
            collect::compared(&mut tx, &round, context.now()).await?;
            let event = NewEvent::new(&context, Action::XorbShare)
                .subject("xorbs", None, "")
                .fact("compared", round.len() as u64)
                .fact("shared", shared);
            crate::crash::point("share.before");
            tx.commit(event).await?;
        }
    }

    /// An older copy of a xorb whose stored bytes are the same.
    async fn twin(&self, xorb: &XorbFacts) -> Result<Option<XorbFacts>, Problem> {
        let twins = collect::twins(&mut self.db.read().await?, xorb, TWINS).await?;
        for twin in twins {
            if self.same_bytes(&xorb.blob_key, &twin.blob_key).await?
                && self.same_bytes(&xorb.index_key, &twin.index_key).await?
            {
                return Ok(Some(twin));
            }
        }
        Ok(None)
    }

    /// Compares two blobs. One that cannot be opened is equal to none.
    async fn same_bytes(&self, one: &str, other: &str) -> Result<bool, Problem> {
        let (Ok(one), Ok(other)) =
            (self.blobs.open(&one.parse()?).await, self.blobs.open(&other.parse()?).await)
        else {
            return Ok(false);
        };
        if one.len() != other.len() {
            return Ok(false);
        }
        let mut at = 0;
        while at < one.len() {
            let len = usize::try_from(one.len() - at).unwrap_or(usize::MAX).min(bastide_blobs::READ_BYTES);
            if one.read_at(at, len).await? != other.read_at(at, len).await? {
                return Ok(false);
            }
            at += len as u64;
        }
        Ok(true)
    }
}
