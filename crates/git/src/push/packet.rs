//! Packets, as git frames what it says on the wire (`gitprotocol-common`): four hex digits of length, then that many
//! bytes. Read strictly: whatever is no packet ends the conversation.

use bytes::{Buf, Bytes, BytesMut};

use crate::GitError;

/// Longest packet, its head included.
pub const MAX_PACKET_BYTES: usize = 65_520;
const HEAD_BYTES: usize = 4;
/// The end of a list.
pub const FLUSH: &[u8] = b"0000";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    Data(Bytes),
    Flush,
}

/// Takes the first packet out of `buffer`, of at most `limit` bytes; `None` when it has not come whole.
pub fn take_packet(buffer: &mut BytesMut, limit: usize) -> Result<Option<Packet>, GitError> {
    let Some(head) = buffer.get(..HEAD_BYTES) else { return Ok(None) };
    let length = packet_length(head).ok_or(GitError::Protocol("a packet begins with four hex digits"))?;
    if length == 0 {
        buffer.advance(HEAD_BYTES);
        return Ok(Some(Packet::Flush));
    }
    if length < HEAD_BYTES {
        return Err(GitError::Protocol("a packet that has no place in a push"));
    }
    if length > limit.min(MAX_PACKET_BYTES) {
        return Err(GitError::Protocol("a packet is too long"));
    }
    if buffer.len() < length {
        return Ok(None);
    }
    let mut packet = buffer.split_to(length);
    packet.advance(HEAD_BYTES);
    Ok(Some(Packet::Data(packet.freeze())))
}

fn packet_length(head: &[u8]) -> Option<usize> {
    let digits = head.iter().all(u8::is_ascii_hexdigit).then_some(head)?;
    usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Adds a packet. What is longer than a packet can be is cut: no caller has such text.
pub fn put_packet(out: &mut Vec<u8>, data: &[u8]) {
    let data = data.get(..MAX_PACKET_BYTES - HEAD_BYTES).unwrap_or(data);
    out.extend_from_slice(format!("{:04x}", data.len() + HEAD_BYTES).as_bytes());
    out.extend_from_slice(data);
}

/// Adds data for one of the three bands, in as many packets as it takes.
pub fn put_band(out: &mut Vec<u8>, band: u8, data: &[u8]) {
    for part in data.chunks(MAX_PACKET_BYTES - HEAD_BYTES - 1) {
        out.extend_from_slice(format!("{:04x}", part.len() + HEAD_BYTES + 1).as_bytes());
        out.push(band);
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8]) -> Result<Vec<Packet>, GitError> {
        let mut buffer = BytesMut::from(bytes);
        std::iter::from_fn(|| take_packet(&mut buffer, MAX_PACKET_BYTES).transpose()).collect()
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for bad in ["zzzz", "+004", " 004", "0x10", "0001", "0002", "0003", "fff1", "-001", "00\u{e9}"] {
            assert!(all(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert_eq!(all(b"0004").unwrap(), [Packet::Data(Bytes::new())]);
        assert_eq!(all(b"000").unwrap(), []);
        assert_eq!(all(b"0005a0000").unwrap(), [Packet::Data("a".into()), Packet::Flush]);
    }

    #[test]
    fn a_packet_is_as_long_as_its_limit_and_no_longer() {
        let mut bytes = Vec::new();
        put_packet(&mut bytes, &[b'x'; 96]);
        assert!(take_packet(&mut BytesMut::from(&bytes[..]), 100).unwrap().is_some());
        assert!(take_packet(&mut BytesMut::from(&bytes[..]), 99).is_err());
        let mut bytes = Vec::new();
        put_packet(&mut bytes, &vec![b'x'; MAX_PACKET_BYTES]);
        assert_eq!(bytes.len(), MAX_PACKET_BYTES);
    }

    proptest! {
        #[test]
        fn packets_go_both_ways_however_they_are_cut(
            texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
            cut in 1usize..50,
        ) {
            let mut bytes = Vec::new();
            texts.iter().for_each(|text| put_packet(&mut bytes, text));
            let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
            for part in bytes.chunks(cut) {
                buffer.extend_from_slice(part);
                while let Some(packet) = take_packet(&mut buffer, MAX_PACKET_BYTES).unwrap() {
                    found.push(packet);
                }
            }
            let expected: Vec<_> = texts.into_iter().map(|text| Packet::Data(text.into())).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = all(&bytes);
        }

        #[test]
        fn bands_are_packets(data in proptest::collection::vec(any::<u8>(), 0..200_000)) {
            let mut bytes = Vec::new();
            put_band(&mut bytes, 2, &data);
            let mut whole = Vec::new();
            for packet in all(&bytes).unwrap() {
                let Packet::Data(packet) = packet else { panic!("no flush was put") };
                prop_assert_eq!(packet[0], 2);
                whole.extend_from_slice(&packet[1..]);
            }
            prop_assert_eq!(whole, data);
        }
    }
}
