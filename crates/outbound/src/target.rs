//! Where a request goes, as somebody wrote it: a URL that every reader takes for the same.

use std::net::{IpAddr, SocketAddr};

use url::{Host, Url};

use crate::Unfit;

pub const MAX_URL_BYTES: usize = 2048;
/// Below this are the ports of other protocols: a request could be made to look like one of theirs.
const FIRST_FREE_PORT: u16 = 1024;
const WEB_PORTS: [u16; 2] = [80, 443];

/// A URL of `http` or `https`, without credentials and without a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    url: Url,
    host: String,
    port: u16,
}

impl Target {
    pub fn parse(text: &str) -> Result<Self, Unfit> {
        check_text(text)?;
        let url = Url::parse(text).map_err(|error| Unfit(format!("the URL is not valid: {error}")))?;
        let host = url.host_str().ok_or_else(|| Unfit("the URL has no host".into()))?.to_owned();
        let port = url.port_or_known_default().unwrap_or_default();
        if port == 0 {
            return Err(Unfit("the URL has no port that can be reached".into()));
        }
        Ok(Self { url, host, port })
    }

    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The host as the URL has it, in lower case; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Ports where nothing but a web server is to be expected.
    pub(crate) fn has_web_port(port: u16) -> bool {
        port >= FIRST_FREE_PORT || WEB_PORTS.contains(&port)
    }

    /// Scheme, host and port: what may be written where others read.
    pub fn origin(&self) -> String {
        format!("{}://{}:{}", self.url.scheme(), self.host, self.port)
    }

    /// The address, if the host is one. The parser knows every spelling of them.
    pub fn literal(&self) -> Option<SocketAddr> {
        let ip = match self.url.host()? {
            Host::Ipv4(ip) => IpAddr::V4(ip),
            Host::Ipv6(ip) => IpAddr::V6(ip),
            Host::Domain(_) => return None,
        };
        Some(SocketAddr::new(ip, self.port))
    }

    /// What the request line asks for.
    pub(crate) fn path_and_query(&self) -> String {
        match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        }
    }

    /// The header `Host`.
    pub(crate) fn authority(&self) -> String {
        match self.url.port() {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }
}

/// What parsers differ about is refused before one of them decides.
fn check_text(text: &str) -> Result<(), Unfit> {
    let unfit = |what: &str| Err(Unfit(what.to_owned()));
    if text.len() > MAX_URL_BYTES {
        return Err(Unfit(format!("a URL has at most {MAX_URL_BYTES} bytes")));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains('\\') {
        return unfit("a URL has only printable ASCII characters, no spaces and no '\\'");
    }
    let lower = text.to_ascii_lowercase();
    let rest = lower.strip_prefix("http://").or_else(|| lower.strip_prefix("https://"));
    let Some(rest) = rest else { return unfit("a URL has to begin with http:// or https://") };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.is_empty() {
        return unfit("the URL has no host");
    }
    if authority.contains('@') {
        return unfit("a URL has no user name and no password: use the secret");
    }
    if text.contains('#') {
        return unfit("a URL of a webhook has no fragment ('#')");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_readers_could_differ_about_is_refused() {
        for bad in [
            "ftp://x.org/",
            "http:/x.org",
            "http:x.org",
            "https://",
            "http:///x.org/",
            "http://ann@x.org/",
            "http://@x.org/",
            "http://ann:pass@x.org/",
            "http://x.org/#a",
            "http://x.org\\@127.0.0.1/",
            "http://x.org/a b",
            " http://x.org/",
            "http://x.org/\r\nx: y",
            "http://x.org/\t",
            "http://ex\u{e4}mple.org/",
            "http://x.org:0/",
            "http://x.org:99999/",
            "http://1.2.3.4.5/",
            "http://256.1.1.1/",
            "file:///etc/passwd",
            "gopher://x.org/",
            "",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
        let long = format!("http://x.org/{}", "a".repeat(MAX_URL_BYTES - 13));
        assert!(Target::parse(&long).is_ok());
        assert!(Target::parse(&format!("{long}a")).is_err());
    }

    #[test]
    fn an_address_is_known_in_every_spelling() {
        for text in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://127.0.0.1./",
            "http://%31%32%37.0.0.1/",
            "HTTP://127.0.0.1:80/",
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!(target.literal(), Some("127.0.0.1:80".parse().unwrap()), "{text}");
        }
        let target = Target::parse("https://[::ffff:127.0.0.1]/x?y=1").unwrap();
        assert_eq!(target.literal(), Some("[::ffff:7f00:1]:443".parse().unwrap()));
        assert_eq!((target.path_and_query().as_str(), target.port()), ("/x?y=1", 443));
        assert_eq!(Target::parse("http://x.org:8080?q").unwrap().authority(), "x.org:8080");
        assert_eq!(Target::parse("http://x.org?q").unwrap().path_and_query(), "/?q");
    }
}
