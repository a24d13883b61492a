//! Requests that the hub makes to addresses that its users name: webhooks. Small enough to audit
//! in an hour.
//!
//! One way out, `Outbound::post`: the name is looked up once, every address is judged, and the
//! connection goes to the very address that was judged. There is no pool, no proxy, no redirect,
//! and no second look-up, so what was judged is what is reached.

mod connection;
mod policy;
mod resolve;
mod target;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use tokio::time::timeout;

pub use policy::{Allowed, Policy, Reach, is_public};
pub use resolve::Resolver;
pub use target::{MAX_URL_BYTES, Target};

/// A whole exchange, from the look-up of the name to the answer's head.
pub const TOTAL: Duration = Duration::from_secs(10);
/// A connection, and its TLS.
pub const CONNECT: Duration = Duration::from_secs(5);

/// An address or a setting that cannot be taken; the text says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub String);

/// Why there was no answer. The texts are for whoever named the address: they tell nothing of
/// which addresses there are behind a name, or in this network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The name has no address, or none that may be reached: one answer for both.
    #[error("the URL leads to no address that this hub sends to")]
    NoAddress,
    #[error("no connection could be made")]
    Connect,
    #[error("the TLS connection failed: the certificate has to be valid for this host")]
    Tls,
    #[error("this hub has no certificates to check https with: tell its operator")]
    NoRoots,
    #[error("no answer came in time")]
    TimeOut,
    #[error("the answer was not HTTP/1.1")]
    Protocol,
}

pub struct Request<'a> {
    pub target: &'a Target,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// How the body begins. Empty where only the operator's leave lets requests through: what is
    /// inside of a network is not shown to whoever can name an address in it.
    pub excerpt: Bytes,
}

/// The way out.
pub struct Outbound {
    policy: Policy,
    resolver: Resolver,
    tls: connection::Tls,
}

impl Outbound {
    pub fn new(policy: Policy, resolver: Resolver) -> Self {
        Self { policy, resolver, tls: connection::Tls::default() }
    }

    /// Whether a target can be said no to before its name is looked up.
    pub fn refuses(&self, target: &Target) -> bool {
        let literal = target.literal();
        literal.is_some_and(|address| self.policy.judge(target.host(), address).is_none())
    }

    /// Sends one request and reads the head of the answer.
    pub async fn post(&self, request: Request<'_>) -> Result<Reply, Failure> {
        timeout(TOTAL, self.exchange(request)).await.unwrap_or(Err(Failure::TimeOut))
    }

    async fn exchange(&self, request: Request<'_>) -> Result<Reply, Failure> {
        let addresses = self.resolver.addresses(request.target).await;
        let host = request.target.host();
        let judged = addresses.into_iter().filter_map(|address| {
            let reach = self.policy.judge(host, address)?;
            (reach == Reach::ByOperator || !policy::is_this_machine(address)).then_some((address, reach))
        });
        let judged: Vec<_> = judged.take(connection::MOST_ADDRESSES).collect();
        let (stream, reach) = connection::open(&judged).await?;
        let secure = request.target.is_https();
        let reply = if secure {
            let stream = self.tls.wrap(request.target, stream).await?;
            connection::send(stream, request).await?
        } else {
            connection::send(stream, request).await?
        };
        Ok(if reach == Reach::ByOperator { Reply { excerpt: Bytes::new(), ..reply } } else { reply })
    }
}

/// What tests put in the place of the system's resolver.
pub type Lookup = Arc<dyn Fn(&str) -> Vec<std::net::IpAddr> + Send + Sync>;
