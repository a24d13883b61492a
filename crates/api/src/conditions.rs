//! What a request makes its answer depend on: a copy that the client has already (RFC 9110,
//! sections 13 and 14). A file's tag is that of its content, so it is always a strong one.

use std::ops::Range;

use bastide_hub::Problem;
use http::{HeaderMap, HeaderName, Method, header};

use crate::resolve::parse_range;

/// Has the client got this very content?
pub fn has_copy(headers: &HeaderMap, etag: &str) -> bool {
    let mut lists = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    lists.any(|list| list.split(',').map(str::trim).any(|tag| tag == "*" || is_tag(tag, etag)))
}

/// The part of the content that is wanted. Only GET knows parts, and a part is no use to who holds
/// the rest of another content: they get the whole.
pub fn range(
    method: &Method,
    headers: &HeaderMap,
    etag: &str,
    size: u64,
) -> Result<Option<Range<u64>>, Problem> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let Some(wanted) = text(header::RANGE).filter(|_| *method == Method::GET) else { return Ok(None) };
    if text(header::IF_RANGE).is_some_and(|tag| tag.starts_with("W/") || !is_tag(tag, etag)) {
        return Ok(None);
    }
    parse_range(wanted, size)
}

fn is_tag(text: &str, etag: &str) -> bool {
    let text = text.strip_prefix("W/").unwrap_or(text);
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) == Some(etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_copy_is_known_by_its_tag() {
        for same in ["\"abc\"", "W/\"abc\"", "\"x\", \"abc\"", "*"] {
            assert!(has_copy(&headers(&[(header::IF_NONE_MATCH, same)]), "abc"), "{same}");
        }
        for other in ["abc", "\"abcd\"", "\"\""] {
            assert!(!has_copy(&headers(&[(header::IF_NONE_MATCH, other)]), "abc"), "{other}");
        }
    }

    #[test]
    fn parts_are_for_get_and_for_the_same_content() {
        let part = |method, tag: &str| {
            let headers = headers(&[(header::RANGE, "bytes=1-2"), (header::IF_RANGE, tag)]);
            range(&method, &headers, "abc", 10).unwrap()
        };
        assert_eq!(part(Method::GET, "\"abc\""), Some(1..3));
        assert_eq!(part(Method::HEAD, "\"abc\""), None);
        for other in ["\"abd\"", "W/\"abc\"", "Tue, 24 Nov 2026 00:00:00 GMT"] {
            assert_eq!(part(Method::GET, other), None, "{other}");
        }
    }
}
