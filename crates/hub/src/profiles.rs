//! What accounts show of themselves, and who follows whom.
//!
//! An account is seen by everybody who signs in, and by who does not when something public names it
//! (`people::KNOWN`). E-mail addresses are their owner's alone; numbers count what the caller may see.

use bastide_core::limits::{MAX_FOLLOWED, PEOPLE_PAGE};
use bastide_ledger::Context;
use bastide_ledger::{Action, NewEvent};
use bastide_store::people::{self, Circles, Person, Place};
use bastide_store::profiles::{self, Face, Organization, RepoCounts, Sized};
use bastide_store::{follows, likes};

use crate::access::{Access, Namespace, Read, See, Write};
use crate::likes::{Paged, page, paged, person_place};
use crate::{Hub, Problem};

pub use bastide_store::people::{Person as Account, Place as PeoplePlace};
pub use bastide_store::profiles::{Organization as UserOrganization, Sized as SizedRepo};

/// The overview of a user or an organisation.
#[derive(Debug)]
pub struct Overview {
    pub face: Face,
    pub repos: RepoCounts,
    pub circles: Circles,
    pub likes: u64,
    /// Whether the caller follows it; nothing for who does not sign in.
    pub is_following: Option<bool>,
    pub organizations: Vec<Organization>,
}

/// A page of repositories with their sizes, and the size of all together.
#[derive(Debug)]
pub struct Sizes {
    pub rows: Vec<Sized>,
    pub total_bytes: i64,
    /// Size and id of the last row, when more follow.
    pub next: Option<(i64, i64)>,
}

impl Hub {
    pub async fn overview(
        &self,
        context: &Context,
        account: &Access<See, Namespace>,
    ) -> Result<Overview, Problem> {
        let viewer = context.user_id();
        let mut read = self.db.read().await?;
        let is_following = match viewer {
            Some(viewer) => Some(follows::is_following(&mut read, viewer, account).await?),
            None => None,
        };
        let (mut likes, mut organizations) = (0, Vec::new());
        if !account.namespace().is_organization {
            likes = likes::visible_count(&mut read, account, viewer).await?;
            organizations = profiles::organizations(&mut read, account, viewer).await?;
        }
        Ok(Overview {
            face: profiles::face(&mut read, account).await?,
            repos: profiles::repo_counts(&mut read, account, viewer).await?,
            circles: people::circles(&mut read, account, viewer).await?,
            likes,
            is_following,
            organizations,
        })
    }

    /// Members of an organisation, the latest first.
    pub async fn org_members(
        &self,
        context: &Context,
        org: &Access<See, Namespace>,
        after: Option<Place>,
    ) -> Result<Paged<Person>, Problem> {
        let rows = people::members(&mut self.db.read().await?, org, page(context, after)).await?;
        Ok(paged(rows, person_place))
    }

    pub async fn followers(
        &self,
        context: &Context,
        account: &Access<See, Namespace>,
        after: Option<Place>,
    ) -> Result<Paged<Person>, Problem> {
        let rows = people::followers(&mut self.db.read().await?, account, page(context, after)).await?;
        Ok(paged(rows, person_place))
    }

    /// Whom a user follows.
    pub async fn followed(
        &self,
        context: &Context,
        user: &Access<See, Namespace>,
        after: Option<Place>,
    ) -> Result<Paged<Person>, Problem> {
        let rows = people::followed(&mut self.db.read().await?, user, page(context, after)).await?;
        Ok(paged(rows, person_place))
    }

    /// Follows a user or an organisation. Twice is once.
    pub async fn follow(
        &self,
        context: &Context,
        me: &Access<Write, Namespace>,
        account: &Access<See, Namespace>,
    ) -> Result<(), Problem> {
        if me.namespace().id == account.namespace().id {
            return Err(Problem::Invalid("nobody follows themselves".into()));
        }
        let mut tx = self.write_in(context, me).await?;
        self.renew_in(&mut tx, context, account).await?;
        if follows::count_of(&mut tx, me).await? >= MAX_FOLLOWED {
            return Err(Problem::Unprocessable(format!(
                "a user follows at most {MAX_FOLLOWED} others: unfollow some first"
            )));
        }
        if follows::follow(&mut tx, me, account, context.now()).await? {
            tx.commit(follow_event(context, Action::AccountFollow, account)).await?;
        }
        Ok(())
    }

    pub async fn unfollow(
        &self,
        context: &Context,
        me: &Access<Write, Namespace>,
        account: &Access<See, Namespace>,
    ) -> Result<(), Problem> {
        let mut tx = self.write_in(context, me).await?;
        if follows::unfollow(&mut tx, me, account).await? {
            tx.commit(follow_event(context, Action::AccountUnfollow, account)).await?;
        }
        Ok(())
    }

    /// All repositories of an account with their sizes, the largest first.
    pub async fn repo_sizes(
        &self,
        account: &Access<Read, Namespace>,
        after: Option<(i64, i64)>,
    ) -> Result<Sizes, Problem> {
        let limit = u32::try_from(PEOPLE_PAGE + 1).unwrap_or(u32::MAX);
        let mut rows = profiles::sizes(&mut self.db.read().await?, account, after, limit).await?;
        let total_bytes = profiles::total_size(&mut self.db.read().await?, account).await?;
        let more = rows.len() > PEOPLE_PAGE;
        rows.truncate(PEOPLE_PAGE);
        let next = rows.last().filter(|_| more).map(|row| (row.bytes, row.id.as_i64()));
        Ok(Sizes { rows, total_bytes, next })
    }
}

fn follow_event(context: &Context, action: Action, account: &Access<See, Namespace>) -> NewEvent {
    let account = account.namespace();
    let kind = if account.is_organization { "org" } else { "user" };
    NewEvent::new(context, action).subject(kind, Some(account.id.as_i64()), account.name.as_str())
}
