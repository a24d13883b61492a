//! Which addresses may be reached: what is on the public internet, and what the operator allows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use bastide_core::network::Network;

use crate::Unfit;
use crate::target::Target;

/// Why an address may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Public,
    ByOperator,
}

/// One thing that the operator allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// Every port of these addresses.
    Network(Network),
    /// Whatever address this name has, or this address, at one port.
    Host { host: String, port: u16 },
}

impl Allowed {
    /// Parses `10.1.0.0/16`, `10.1.2.3`, `fd00::/8`, `10.1.2.3:8080`, `[fd00::1]:8080` or
    /// `hooks.example.org:8080`.
    pub fn parse(text: &str) -> Result<Self, Unfit> {
        let unfit = || Unfit(format!("'{text}' is neither a network like 10.1.0.0/16 nor like host:port"));
        if let Ok(network) = text.parse() {
            return Ok(Self::Network(network));
        }
        if text.contains('/') {
            return Err(unfit());
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(unfit)?;
        let port: u16 = port.parse().map_err(|_| unfit())?;
        let target = Target::parse(&format!("http://{host}:{port}/")).map_err(|_| unfit())?;
        Ok(Self::Host { host: target.host().to_owned(), port })
    }

    fn covers(&self, host: &str, address: SocketAddr) -> bool {
        match self {
            Self::Network(network) => network.contains(address.ip()),
            Self::Host { host: allowed, port } => host == allowed && address.port() == *port,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Policy {
    allowed: Vec<Allowed>,
}

impl Policy {
    pub const fn new(allowed: Vec<Allowed>) -> Self {
        Self { allowed }
    }

    /// Whether an address may be reached that stands behind `host`; `None` for no.
    pub fn judge(&self, host: &str, address: SocketAddr) -> Option<Reach> {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        if self.allowed.iter().any(|allowed| allowed.covers(host, address)) {
            return Some(Reach::ByOperator);
        }
        (is_public(address.ip()) && Target::has_web_port(address.port())).then_some(Reach::Public)
    }
}

/// Whether an address is on the public internet, and nothing else. What is not known to be is not:
/// of IPv6 only 2000::/3 is given out today.
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    /// The registry of special addresses (RFC 6890 and those after it), and one address at which a
    /// large cloud serves its machines their secrets.
    const SPECIAL: [([u8; 4], u8); 17] = [
        ([0, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([100, 64, 0, 0], 10),
        ([127, 0, 0, 0], 8),
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 31, 196, 0], 24),
        ([192, 52, 193, 0], 24),
        ([192, 88, 99, 0], 24),
        ([192, 168, 0, 0], 16),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        ([224, 0, 0, 0], 3),
        ([168, 63, 129, 16], 32),
    ];
    let special = |(first, prefix): &([u8; 4], u8)| {
        Network::new(IpAddr::V4(Ipv4Addr::from(*first)), *prefix).contains(IpAddr::V4(ip))
    };
    !SPECIAL.iter().any(special)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    /// Of 2000::/3: protocols (Teredo among them), documentation, 6to4.
    const SPECIAL: [(u16, u16, u8); 5] =
        [(0x2001, 0, 23), (0x2001, 0xdb8, 32), (0x2002, 0, 16), (0x3fff, 0, 20), (0x2620, 0x4f, 32)];
    // NAT64 in its well-known form is IPv4 in other words.
    if let [0x64, 0xff9b, 0, 0, 0, 0, _, _] = ip.segments() {
        let [.., a, b, c, d] = ip.octets();
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    let special = |(first, second, prefix): &(u16, u16, u8)| {
        let first = Ipv6Addr::new(*first, *second, 0, 0, 0, 0, 0, 0);
        Network::new(IpAddr::V6(first), *prefix).contains(IpAddr::V6(ip))
    };
    let given_out = Network::new(IpAddr::V6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0)), 3);
    given_out.contains(IpAddr::V6(ip)) && !SPECIAL.iter().any(special)
}

/// Whether an address is one of this machine's own, public as it may be: what listens there expects
/// its neighbours. Only the system is asked, and nothing is sent: would it send from there, and can
/// one listen there? The second says nothing where one can listen anywhere.
pub fn is_this_machine(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let (any, nobodys) = match ip {
        IpAddr::V4(_) => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
        IpAddr::V6(_) => {
            let nobodys = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
            (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(nobodys))
        }
    };
    let bound = |ip: IpAddr| UdpSocket::bind((ip, 0));
    let source = bound(any).and_then(|socket| {
        socket.connect((ip, address.port()))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == ip) || (bound(ip).is_ok() && bound(nobodys).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(text: &str) -> bool {
        is_public(text.parse().unwrap())
    }

    #[test]
    fn only_the_public_internet_is_public() {
        for yes in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "11.0.0.1",
            "223.255.255.255",
            "198.17.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "2001:4860::8888",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(public(yes), "{yes}");
        }
        for no in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "168.63.129.16",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::8.8.8.8",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "3fff::1",
            "2001::1",
            "2001:20::1",
            "2002:7f00:1::",
            "2002:808:808::1",
            "100::1",
            "4000::1",
            "5f00::1",
        ] {
            assert!(!public(no), "{no}");
        }
    }

    #[test]
    fn the_operator_allows_networks_and_hosts_at_ports() {
        let allow = |text: &str| Policy::new(vec![Allowed::parse(text).unwrap()]);
        let judge = |allowed: &str, host: &str, address: &str| {
            allow(allowed).judge(host, address.parse().unwrap()).is_some()
        };
        assert!(judge("10.1.0.0/16", "x", "10.1.255.1:5"));
        assert!(!judge("10.1.0.0/16", "x", "10.2.0.1:80"));
        assert!(judge("10.1.2.3", "x", "10.1.2.3:80") && !judge("10.1.2.3", "x", "10.1.2.4:80"));
        assert!(judge("10.1.0.0/16", "x", "[::ffff:10.1.0.1]:80"));
        assert!(judge("fd00::/8", "x", "[fd12::1]:80") && !judge("fd00::/8", "x", "[fe80::1]:80"));
        assert!(judge("127.0.0.1:80", "127.0.0.1", "127.0.0.1:80"));
        assert!(!judge("127.0.0.1:80", "127.0.0.1", "127.0.0.1:81"));
        assert!(!judge("127.0.0.1:80", "evil.org", "127.0.0.1:80"));
        assert!(judge("hooks.lab:8080", "hooks.lab", "10.0.0.1:8080"));
        assert!(!judge("hooks.lab:8080", "other.lab", "10.0.0.1:8080"));
        assert!(judge("0.0.0.0/0", "x", "127.0.0.1:1") && !judge("0.0.0.0/0", "x", "[::1]:80"));
        assert!(judge("[::1]:81", "[::1]", "[::1]:81"));
        for bad in ["", "x", "10.0.0.0/33", "fd00::/129", "x:y", "x:99999", "a b:1", "10.0.0.0/x"] {
            assert!(Allowed::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_of_other_protocols_are_not_for_webhooks() {
        let judge = |address: &str| Policy::default().judge("x", address.parse().unwrap()).is_some();
        assert!(judge("8.8.8.8:80") && judge("8.8.8.8:443") && judge("8.8.8.8:1024"));
        assert!(!judge("8.8.8.8:25") && !judge("8.8.8.8:1023") && !judge("8.8.8.8:22"));
    }

    #[test]
    fn this_machine_knows_itself() {
        assert!(is_this_machine("127.0.0.1:9".parse().unwrap()));
        assert!(is_this_machine("127.1.2.3:9".parse().unwrap()));
        assert!(is_this_machine("[::ffff:127.1.2.3]:9".parse().unwrap()));
        assert!(!is_this_machine("192.0.2.1:9".parse().unwrap()));
        assert!(!is_this_machine("8.8.8.8:53".parse().unwrap()));
    }
}
