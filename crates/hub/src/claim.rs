//! Which keys are this hub's: written down with its first event, and compared at every start.

use bastide_ledger::{Action, Context, NewEvent};
use bastide_store::{Db, settings};

use crate::accounts::require_operator;
use crate::{Hub, Problem};

const KEYS: &str = "keys";

/// The fingerprint of the keys that a database was used with; `None` for a new one.
pub async fn keys_of(db: &Db) -> Result<Option<String>, Problem> {
    Ok(settings::get(&mut db.read().await?, KEYS).await?)
}

impl Hub {
    /// Binds a new database to this hub's keys, or checks that they are those it is bound to: with
    /// others every token would be dead and every checkpoint a forgery.
    pub async fn claim(&self, context: &Context) -> Result<(), Problem> {
        require_operator(context)?;
        let ours = self.keys.fingerprint();
        if is_bound(keys_of(&self.db).await?, &ours)? {
            return Ok(());
        }
        let mut tx = self.write(context).await?;
        // Of two servers that start at once on a new database, the second finds the first's.
        if is_bound(settings::get(&mut tx, KEYS).await?, &ours)? {
            return Ok(());
        }
        settings::set(&mut tx, KEYS, &ours).await?;
        let event = NewEvent::new(context, Action::HubInit)
            .subject("hub", None, "")
            .fact("keys", ours)
            .fact("ledger_key", self.ledger_public_key());
        tx.commit(event).await?;
        self.checkpoint().await.map(drop)
    }
}

fn is_bound(found: Option<String>, ours: &str) -> Result<bool, Problem> {
    match found {
        None => Ok(false),
        Some(theirs) if theirs == ours => Ok(true),
        Some(_) => Err(Problem::Invalid(
            "the database was used with other keys than those in the data folder: put its own back; servers that \
             share a database share their keys"
                .into(),
        )),
    }
}
