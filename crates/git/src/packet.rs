//! Packet lines, the frames of git's protocol: four hexadecimal digits of length, then the rest.

use crate::GitError;

/// Digits of the length, which they count as well.
const DIGITS: usize = 4;
/// Longest line, with its digits.
const MAX_LINE: usize = 65_520;

/// One packet of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// What is in a line, or the start of it.
    Line(&'a [u8]),
    Flush,
    Delimiter,
    End,
}

/// The end of a list.
pub const FLUSH: &[u8] = b"0000";

/// Appends a line. What is longer than a line can be is cut: no caller has such text.
pub fn push_line(to: &mut Vec<u8>, text: &[u8]) {
    let text = text.get(..MAX_LINE - DIGITS).unwrap_or(text);
    to.extend_from_slice(format!("{:04x}", text.len() + DIGITS).as_bytes());
    to.extend_from_slice(text);
}

/// Appends bytes for one of the three bands, in as many lines as it takes.
pub fn push_band(to: &mut Vec<u8>, band: u8, data: &[u8]) {
    for part in data.chunks(MAX_LINE - DIGITS - 1) {
        to.extend_from_slice(format!("{:04x}", part.len() + DIGITS + 1).as_bytes());
        to.push(band);
        to.extend_from_slice(part);
    }
}

/// Reads packets out of a stream that passes by in parts of any size.
#[derive(Debug)]
pub struct Packets {
    /// So much of each line is kept; what is longer is shown without its end.
    keep: usize,
    digits: Vec<u8>,
    line: Vec<u8>,
    /// Bytes of the line that are still to come.
    left: usize,
}

impl Packets {
    pub const fn new(keep: usize) -> Self {
        Self { keep, digits: Vec::new(), line: Vec::new(), left: 0 }
    }

    /// Is the stream between two packets?
    pub const fn is_between(&self) -> bool {
        self.digits.is_empty() && self.left == 0
    }

    /// Takes the next bytes, and shows `found` each packet that ends in them, for as long as it
    /// answers yes. What comes after the packet to which it says no.
    pub fn feed<'a>(
        &mut self,
        mut bytes: &'a [u8],
        mut found: impl FnMut(Packet<'_>) -> bool,
    ) -> Result<&'a [u8], GitError> {
        while !bytes.is_empty() {
            if self.left == 0 {
                let (first, rest) = bytes.split_at(bytes.len().min(DIGITS - self.digits.len()));
                self.digits.extend_from_slice(first);
                bytes = rest;
                if self.digits.len() == DIGITS && !self.begin(&mut found)? {
                    return Ok(bytes);
                }
                continue;
            }
            let (part, rest) = bytes.split_at(bytes.len().min(self.left));
            let kept = part.len().min(self.keep.saturating_sub(self.line.len()));
            self.line.extend(part.iter().take(kept));
            self.left -= part.len();
            bytes = rest;
            if self.left == 0 && !self.end(&mut found) {
                return Ok(bytes);
            }
        }
        Ok(bytes)
    }

    fn begin(&mut self, found: &mut impl FnMut(Packet<'_>) -> bool) -> Result<bool, GitError> {
        let length = length(&self.digits);
        self.digits.clear();
        Ok(match length {
            Some(0) => found(Packet::Flush),
            Some(1) => found(Packet::Delimiter),
            Some(2) => found(Packet::End),
            Some(DIGITS) => found(Packet::Line(&[])),
            Some(length @ DIGITS..=MAX_LINE) => {
                self.left = length - DIGITS;
                true
            }
            _ => return Err(GitError::Packet),
        })
    }

    fn end(&mut self, found: &mut impl FnMut(Packet<'_>) -> bool) -> bool {
        let line = std::mem::take(&mut self.line);
        found(Packet::Line(&line))
    }
}

fn length(digits: &[u8]) -> Option<usize> {
    // `from_str_radix` would take a sign.
    let hex = digits.iter().all(u8::is_ascii_hexdigit);
    usize::from_str_radix(std::str::from_utf8(digits).ok().filter(|_| hex)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(keep: usize, parts: &[&[u8]]) -> Result<Vec<String>, GitError> {
        let (mut packets, mut all) = (Packets::new(keep), Vec::new());
        for part in parts {
            packets.feed(part, |packet| {
                all.push(match packet {
                    Packet::Line(line) => String::from_utf8_lossy(line).into_owned(),
                    other => format!("{other:?}"),
                });
                true
            })?;
        }
        Ok(all)
    }

    #[test]
    fn packets_are_found_however_the_stream_is_cut() {
        let stream = b"0009hello0000000400010005x0002";
        let all = ["hello", "Flush", "", "Delimiter", "x", "End"];
        for size in 1..=stream.len() {
            let parts: Vec<&[u8]> = stream.chunks(size).collect();
            assert_eq!(read(100, &parts).unwrap(), all);
        }
        assert_eq!(read(2, &[stream]).unwrap(), ["he", "Flush", "", "Delimiter", "x", "End"]);
    }

    #[test]
    fn what_is_no_packet_is_an_error() {
        for bad in [&b"0003"[..], b"PACK", b"+00a", b" 00a", b"fff1", b"ffff", b"\xff\xff\xff\xff"] {
            assert!(matches!(read(10, &[bad]), Err(GitError::Packet)), "{bad:?}");
        }
        let mut longest = Vec::new();
        push_line(&mut longest, &vec![b'a'; MAX_LINE]);
        assert_eq!(&longest[..4], b"fff0");
        assert_eq!(read(10, &[&longest]).unwrap(), ["a".repeat(10)]);
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_left_alone() {
        let mut seen = 0;
        let mut packets = Packets::new(10);
        let enough = packets.feed(b"0005aPACK and not a packet at all", |_| {
            seen += 1;
            false
        });
        assert_eq!(enough.unwrap(), b"PACK and not a packet at all");
        assert!(seen == 1 && packets.is_between());
    }

    proptest! {
        #[test]
        fn lines_go_both_ways_however_they_are_cut(
            texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
            cut in 1usize..50,
        ) {
            let mut bytes = Vec::new();
            texts.iter().for_each(|text| push_line(&mut bytes, text));
            let (mut packets, mut found) = (Packets::new(300), Vec::new());
            for part in bytes.chunks(cut) {
                let rest = packets.feed(part, |packet| {
                    found.extend(if let Packet::Line(line) = packet { Some(line.to_vec()) } else { None });
                    true
                });
                prop_assert!(rest.unwrap().is_empty());
            }
            prop_assert_eq!(found, texts);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Packets::new(10).feed(&bytes, |_| true);
        }

        #[test]
        fn bands_are_lines(data in proptest::collection::vec(any::<u8>(), 0..200_000)) {
            let (mut bytes, mut whole) = (Vec::new(), Vec::new());
            push_band(&mut bytes, 2, &data);
            let fed = Packets::new(MAX_LINE).feed(&bytes, |packet| {
                let Packet::Line([2, data @ ..]) = packet else { return false };
                whole.extend_from_slice(data);
                true
            });
            prop_assert!(fed.unwrap().is_empty());
            prop_assert_eq!(whole, data);
        }
    }
}
