//! The git side of pull requests: who may add to one.

use bastide_ledger::Context;
use bastide_store::discussions;

use crate::access::{Access, Propose};
use crate::{Hub, Problem};

impl Hub {
    /// Is this the caller's own pull request?
    pub(crate) async fn is_author(
        &self,
        context: &Context,
        access: &Access<Propose>,
        number: u64,
    ) -> Result<bool, Problem> {
        let found = discussions::get(&mut self.db.read().await?, access, number).await?;
        Ok(found.is_some_and(|found| found.is_pull_request() && found.is_author(context.user_id())))
    }
}
