//! How much those may write who have no right to the repository: enough for people, too little for a flood.

use bastide_core::limits::{COMMENTS_PER_HOUR, DISCUSSIONS_PER_DAY};
use bastide_core::{NamespaceId, Timestamp};
use bastide_ledger::Context;
use bastide_store::Reader;
use bastide_store::discussions::{self, Spent};

use crate::Problem;
use crate::access::{Access, Propose};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Whether a caller may open one more, anywhere.
pub(super) async fn check_opening(
    read: &mut Reader,
    context: &Context,
    access: &Access<Propose>,
) -> Result<(), Problem> {
    let Some((user, from)) = since(context, DAY) else { return Ok(()) };
    let spent = discussions::opened_since(read, access, user, from).await?;
    check(spent, DISCUSSIONS_PER_DAY, "discussions and pull requests in a day", DAY, context.now())
}

/// Whether a caller may say or do one thing more in the discussions of a repository.
pub(super) async fn check_saying(
    read: &mut Reader,
    context: &Context,
    access: &Access<Propose>,
) -> Result<(), Problem> {
    let Some((user, from)) = since(context, HOUR) else { return Ok(()) };
    let spent = discussions::comments_since(read, access, user, from).await?;
    check(spent, COMMENTS_PER_HOUR, "comments and changes in an hour here", HOUR, context.now())
}

fn since(context: &Context, window: i64) -> Option<(NamespaceId, Timestamp)> {
    Some((context.user_id()?, context.now().plus_seconds(-window)))
}

fn check(spent: Spent, most: u64, what: &str, window: i64, now: Timestamp) -> Result<(), Problem> {
    if spent.count < most {
        return Ok(());
    }
    let ends = spent.first.map_or(now, |first| first.plus_seconds(window));
    let wait = (ends.as_millis() - now.as_millis()).max(0) / 1000 + 1;
    let seconds = u32::try_from(wait).unwrap_or(u32::MAX);
    let message = format!(
        "That was much: those without write access have {most} {what}. Try again in {} min.",
        seconds.div_ceil(60)
    );
    Err(Problem::TooMany { message, seconds })
}
