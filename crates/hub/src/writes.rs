//! How a transaction begins: the credential is looked at once more, and so are the rights that the
//! permit stands for. A request can last for hours; what was true when it began is not enough to
//! change something by. There is one writer at a time, so what holds here holds until the commit.

use bastide_core::Credential;
use bastide_ledger::Context;
use bastide_store::{Reader, WriteTx, gate};

use crate::access::{Access, Collection, Level, Namespace, Write};
use crate::auth::is_alive;
use crate::{Hub, Problem};

impl Hub {
    /// A transaction of somebody whose credential is alive.
    #[expect(clippy::disallowed_methods, reason = "the one beginning of transactions")]
    pub(crate) async fn write(&self, context: &Context) -> Result<WriteTx, Problem> {
        let mut tx = self.db.write().await?;
        self.check_alive(&mut tx, context).await?;
        Ok(tx)
    }

    /// The same, of somebody who may still do with a repository what the permit says.
    pub(crate) async fn write_to<L: Level>(
        &self,
        context: &Context,
        access: &Access<L>,
    ) -> Result<WriteTx, Problem> {
        let mut tx = self.write(context).await?;
        self.renew(&mut tx, context, access).await?;
        Ok(tx)
    }

    /// The same for a namespace.
    pub(crate) async fn write_in<L: Level>(
        &self,
        context: &Context,
        access: &Access<L, Namespace>,
    ) -> Result<WriteTx, Problem> {
        let mut tx = self.write(context).await?;
        self.renew_in(&mut tx, context, access).await?;
        Ok(tx)
    }

    /// The same for a collection.
    pub(crate) async fn write_collection<L: Level>(
        &self,
        context: &Context,
        access: &Access<L, Collection>,
    ) -> Result<WriteTx, Problem> {
        let mut tx = self.write(context).await?;
        self.renew_collection(&mut tx, context, access).await?;
        Ok(tx)
    }

    /// The same for who may make collections in a namespace.
    pub(crate) async fn write_as_curator(
        &self,
        context: &Context,
        access: &Access<Write, Namespace>,
    ) -> Result<WriteTx, Problem> {
        let mut tx = self.write(context).await?;
        let name = &access.namespace().name;
        let facts = gate::namespace_by_name(&mut tx, name, context.user_id()).await?;
        self.access(context).grant_curator(name, facts)?;
        Ok(tx)
    }

    /// Whether a permit would be given again.
    pub(crate) async fn renew<L: Level>(
        &self,
        read: &mut Reader,
        context: &Context,
        access: &Access<L>,
    ) -> Result<(), Problem> {
        let facts = gate::repo_by_id(read, access.repo_id(), context.user_id()).await?;
        self.access(context).grant::<L>(facts).map(drop)
    }

    /// The same for a namespace.
    pub(crate) async fn renew_in<L: Level>(
        &self,
        read: &mut Reader,
        context: &Context,
        access: &Access<L, Namespace>,
    ) -> Result<(), Problem> {
        let name = &access.namespace().name;
        let facts = gate::namespace_by_name(read, name, context.user_id()).await?;
        self.access(context).grant_namespace::<L>(name, facts).map(drop)
    }

    /// The same for a collection.
    pub(crate) async fn renew_collection<L: Level>(
        &self,
        read: &mut Reader,
        context: &Context,
        access: &Access<L, Collection>,
    ) -> Result<(), Problem> {
        let facts = gate::collection_by_id(read, access.collection().id, context.user_id()).await?;
        self.access(context).grant_collection::<L>(facts).map(drop)
    }

    /// Whether a caller may still do what a permit says: for answers that last.
    pub async fn still_allowed<L: Level>(
        &self,
        context: &Context,
        access: &Access<L>,
    ) -> Result<(), Problem> {
        let mut read = self.db.read().await?;
        self.check_alive(&mut read, context).await?;
        self.renew(&mut read, context, access).await
    }

    async fn check_alive(&self, read: &mut Reader, context: &Context) -> Result<(), Problem> {
        let Credential::Token { id, .. } = context.credential() else { return Ok(()) };
        let token = gate::token_by_id(read, *id).await?;
        let now = self.clock.now();
        if token.is_some_and(|token| is_alive(&token, now)) { Ok(()) } else { Err(Problem::BadToken) }
    }
}
