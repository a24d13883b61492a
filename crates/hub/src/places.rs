//! Places among the programs that may run at once, shared out so that few callers cannot have them all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bastide_core::{Actor, NamespaceId};
use bastide_ledger::Context;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Problem;

/// What is told to whoever finds no place.
const RETRY_SECONDS: u32 = 30;

/// Whose a place is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Account(NamespaceId),
    Address(Option<IpAddr>),
    Hub,
}

impl Who {
    fn of(context: &Context) -> Self {
        match context.actor() {
            Actor::User { id, .. } => Self::Account(*id),
            Actor::Anonymous => Self::Address(context.origin().address.map(network)),
            Actor::System(_) | Actor::Operator => Self::Hub,
        }
    }
}

/// Of the newer addresses whoever has one has the whole network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(long) => IpAddr::V6(Ipv6Addr::from_bits(long.to_bits() >> 64 << 64)),
        short @ IpAddr::V4(_) => short,
    }
}

pub(crate) struct Places {
    all: Arc<Semaphore>,
    own: usize,
    shares: Mutex<HashMap<Who, Weak<Semaphore>>>,
    waiting: AtomicUsize,
}

/// A place, until it is dropped.
pub(crate) struct Place {
    _one: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    /// Others of the same caller find it by this.
    _share: Arc<Semaphore>,
}

impl Places {
    /// One account, or one address without an account, has at most one in `share` of the places, and always one.
    pub(crate) fn new(places: usize, share: usize) -> Self {
        let own = (places / share).max(1);
        let (shares, waiting) = (Mutex::default(), AtomicUsize::new(0));
        Self { all: Arc::new(Semaphore::new(places)), own, shares, waiting }
    }

    /// A place within `patience`: first one of the caller's own, then one of all.
    pub(crate) async fn take(&self, context: &Context, patience: Duration) -> Result<Place, Problem> {
        let share = self.share(Who::of(context));
        let take = async {
            let own = Arc::clone(&share).acquire_owned().await.ok()?;
            let _waits = Waits::new(&self.waiting);
            let one = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some(Place { _one: one, _own: own, _share: Arc::clone(&share) })
        };
        let taken = tokio::time::timeout(patience, take).await.ok().flatten();
        taken.ok_or(Problem::Busy { seconds: RETRY_SECONDS })
    }

    /// Does anybody wait for a place that others have?
    pub(crate) fn are_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn share(&self, who: Who) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(&who).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.own));
        shares.insert(who, Arc::downgrade(&share));
        share
    }
}

struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bastide_core::Timestamp;
    use bastide_ledger::context::{Origin, request};

    const SHORT: Duration = Duration::from_millis(20);

    fn from(address: &str) -> Context {
        let origin = Origin { address: Some(address.parse().unwrap()), ..Origin::default() };
        request(Actor::Anonymous, bastide_core::Credential::None, origin, Timestamp::from_millis(0))
    }

    #[tokio::test]
    async fn nobody_has_more_than_a_share_of_the_places() {
        let places = Places::new(8, 4);
        let (one, other) = (from("2001:db8::1"), from("2001:db8:0:1::1"));
        let first = places.take(&one, SHORT).await.unwrap();
        let _second = places.take(&from("2001:db8::ffff"), SHORT).await.unwrap();
        assert!(places.take(&one, SHORT).await.is_err(), "a neighbour in its network is the same");
        let _third = places.take(&other, SHORT).await.unwrap();
        drop(first);
        let _fourth = places.take(&one, SHORT).await.unwrap();
        assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()), "10.0.0.1".parse::<IpAddr>().unwrap());
    }

    #[tokio::test]
    async fn who_waits_for_others_is_known_and_nothing_is_kept_of_those_who_went() {
        let places = Arc::new(Places::new(1, 4));
        let first = places.take(&from("10.0.0.1"), SHORT).await.unwrap();
        assert!(places.take(&from("10.0.0.1"), SHORT).await.is_err() && !places.are_waited_for());
        let waiting = {
            let places = Arc::clone(&places);
            tokio::spawn(async move { places.take(&from("10.0.0.2"), Duration::from_secs(60)).await })
        };
        while !places.are_waited_for() {
            tokio::task::yield_now().await;
        }
        drop(first);
        drop(waiting.await.unwrap().unwrap());
        assert!(!places.are_waited_for());
        drop(places.take(&from("10.0.0.3"), SHORT).await.unwrap());
        assert_eq!(places.shares.lock().unwrap().len(), 1);
    }
}
