//! From a target to its addresses, once for each request.

use std::net::SocketAddr;

use crate::{Lookup, Target};

#[derive(Clone, Default)]
pub enum Resolver {
    #[default]
    System,
    /// For tests: names that have what addresses the test says.
    Fixed(Lookup),
}

impl Resolver {
    /// All addresses of a target; none when its name has none.
    pub(crate) async fn addresses(&self, target: &Target) -> Vec<SocketAddr> {
        if let Some(literal) = target.literal() {
            return vec![literal];
        }
        let (host, port) = (target.host(), target.port());
        match self {
            Self::System => match tokio::net::lookup_host((host, port)).await {
                Ok(found) => found.collect(),
                Err(_) => Vec::new(),
            },
            Self::Fixed(lookup) => lookup(host).into_iter().map(|ip| SocketAddr::new(ip, port)).collect(),
        }
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::System => "System",
            Self::Fixed(_) => "Fixed(..)",
        })
    }
}
