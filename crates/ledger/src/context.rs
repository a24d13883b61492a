//! Who asks, by which credential, from where, and when: goes into every operation and from there
//! into the event.
//!
//! It lives here, and its makers are functions of this module and not of the type, because
//! whoever can make a context can be anybody: the presentations see the type through `hub`, but
//! cannot name this crate. A handler's context comes from `hub::auth` alone.

use std::net::IpAddr;

use bastide_core::{Actor, Clock, Credential, Name, NamespaceId, Timestamp};

#[derive(Debug, Clone)]
pub struct Context {
    actor: Actor,
    credential: Credential,
    origin: Origin,
    now: Timestamp,
}

/// Where a request came from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    pub request_id: String,
    pub address: Option<IpAddr>,
    pub user_agent: Option<String>,
    /// The address of the hub as the caller wrote it, where that may be repeated.
    pub hub_url: Option<String>,
}

/// A request of somebody whose credential was checked.
pub const fn request(actor: Actor, credential: Credential, origin: Origin, now: Timestamp) -> Context {
    Context { actor, credential, origin, now }
}

/// A job of ours.
pub fn system(job: &'static str, clock: &Clock) -> Context {
    request(Actor::System(job), Credential::Local, Origin::default(), clock.now())
}

/// A person at the command line.
pub fn operator(clock: &Clock) -> Context {
    request(Actor::Operator, Credential::Local, Origin::default(), clock.now())
}

/// A user who is not here, for whom something is looked up: may read what they may, and change nothing.
pub fn on_behalf_of(id: NamespaceId, name: Name, clock: &Clock) -> Context {
    request(Actor::User { id, name }, Credential::None, Origin::default(), clock.now())
}

impl Context {
    pub const fn actor(&self) -> &Actor {
        &self.actor
    }

    pub const fn credential(&self) -> &Credential {
        &self.credential
    }

    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// When the request began.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    pub fn user_id(&self) -> Option<NamespaceId> {
        match &self.actor {
            Actor::User { id, .. } => Some(*id),
            Actor::Anonymous | Actor::System(_) | Actor::Operator => None,
        }
    }

    pub fn is_anonymous(&self) -> bool {
        self.actor == Actor::Anonymous
    }
}
