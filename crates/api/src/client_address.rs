//! Whose request it is, behind proxies that the operator trusts. What others say about it is not believed.

use std::net::{IpAddr, SocketAddr};

use bastide_core::network::Network;
use http::{HeaderMap, HeaderName};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's address: that of the peer, unless the peer is trusted. Each proxy adds at the end where a request came
/// to it from: the last address that is no trusted proxy's is the client's, and what stands before it is only its word.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    let lines: Vec<&str> =
        headers.get_all(X_FORWARDED_FOR).iter().map(|line| line.to_str().unwrap_or_default()).collect();
    let mut said = lines.iter().rev().flat_map(|line| line.rsplit(','));
    while is_trusted(client) {
        match said.next().and_then(address) {
            Some(address) => client = address,
            None => break,
        }
    }
    client
}

/// Some proxies write the port as well.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let found = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|found| found.ip()));
    found.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, lines: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "::1"].map(|text| text.parse::<Network>().unwrap());
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, line.parse().unwrap());
        }
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_say_who_comes() {
        // Nobody else names another address, or none.
        assert_eq!(client("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client("192.0.2.1", &["10.0.0.1"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("::ffff:10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("::1", &["[2001:db8::7]:443"]), "2001:db8::7");
        assert_eq!(client("::1", &["198.51.100.7:443"]), "198.51.100.7");
        // What a client wrote itself stands before what the proxy wrote.
        assert_eq!(client("10.0.0.1", &["203.0.113.9, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["203.0.113.9", "198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["10.9.9.9, 198.51.100.7"]), "198.51.100.7");
        // Proxies behind each other.
        assert_eq!(client("10.0.0.1", &["203.0.113.9, 198.51.100.7, 10.0.0.2"]), "198.51.100.7");
        // Words that are no address end it.
        for bad in ["unknown", "", "x, ", "198.51.100.7, _hidden", "256.1.1.1"] {
            assert_eq!(client("10.0.0.1", &[bad]), "10.0.0.1", "{bad:?}");
        }
    }
}
