//! Deltas of a pack (`gitformat-pack`): copies of what they build upon, and bytes of their own.

/// A copy that does not say how long it is.
const USUAL_COPY_BYTES: usize = 0x10000;
/// The two sizes that a delta begins with have at most so many bytes.
pub(super) const HEAD_BYTES: usize = 20;

/// How long what it builds upon is, and what comes out; from the first bytes of a delta.
pub(super) fn sizes(delta: &[u8]) -> Option<(u64, u64)> {
    let mut bytes = delta.iter().copied();
    Some((size(&mut bytes)?, size(&mut bytes)?))
}

fn size(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut size = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.next()?;
        let part = u64::from(byte & 0x7f);
        if part.checked_shl(shift)? >> shift != part {
            return None;
        }
        size |= part << shift;
        if byte & 0x80 == 0 {
            return Some(size);
        }
    }
    None
}

/// What a delta makes of its base; `None` when it is no delta of this one, or more than `limit` comes out.
pub(super) fn apply(base: &[u8], delta: &[u8], limit: u64) -> Option<Vec<u8>> {
    let mut bytes = delta.iter().copied();
    let (from, to) = (size(&mut bytes)?, size(&mut bytes)?);
    if from != base.len() as u64 || to > limit {
        return None;
    }
    let to = usize::try_from(to).ok()?;
    let mut out = Vec::with_capacity(to);
    while let Some(command) = bytes.next() {
        let part = match command {
            0 => return None,
            command if command & 0x80 != 0 => {
                let (start, length) = copy(command, &mut bytes)?;
                base.get(start..start.checked_add(length)?)?
            }
            length => {
                let at = delta.len() - bytes.len();
                let part = delta.get(at..at + usize::from(length))?;
                bytes.nth(usize::from(length) - 1)?;
                part
            }
        };
        if part.len() > to - out.len() {
            return None;
        }
        out.extend_from_slice(part);
    }
    (out.len() == to).then_some(out)
}

/// Where a copy begins and how long it is: the bits of the command say which bytes of the two numbers follow.
fn copy(command: u8, bytes: &mut impl Iterator<Item = u8>) -> Option<(usize, usize)> {
    let mut number = |bits: std::ops::Range<u32>| {
        let mut number = 0;
        for (place, bit) in bits.enumerate() {
            if command & (1 << bit) != 0 {
                number |= usize::from(bytes.next()?) << (8 * place);
            }
        }
        Some(number)
    };
    let (start, length) = (number(0..4)?, number(4..7)?);
    Some((start, if length == 0 { USUAL_COPY_BYTES } else { length }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn copies_and_bytes_are_put_together() {
        let delta = [5, 7, 0x91, 1, 3, 2, b'x', b'y', 0x90, 2];
        assert_eq!(apply(b"abcde", &delta, 7).unwrap(), b"bcdxyab");
        assert_eq!(sizes(&delta), Some((5, 7)));
        assert_eq!(apply(b"abcde", &delta, 6), None, "beyond the limit");
        assert_eq!(apply(b"abcd", &delta, 7), None, "of another base");
        let base = vec![7; USUAL_COPY_BYTES + 1];
        let delta = [0x81, 0x80, 0x04, 0x80, 0x80, 0x04, 0x81, 1];
        assert_eq!(apply(&base, &delta, u64::MAX).unwrap(), vec![7; USUAL_COPY_BYTES]);
        assert_eq!(apply(b"", &[0, 0], 0).unwrap(), b"");
    }

    #[test]
    fn what_is_no_delta_makes_nothing() {
        for bad in [
            &[][..],
            &[5],
            &[5, 1, 0],
            &[5, 1, 1],
            &[5, 1, 3, b'x'],
            &[5, 1, 0x90],
            &[5, 2, 0x90, 1],
            &[5, 1, 0x90, 2],
            &[5, 6, 0x90, 6],
            &[5, 1, 0x91, 5, 1],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1],
        ] {
            assert_eq!(apply(b"abcde", bad, 1000), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            base in proptest::collection::vec(any::<u8>(), 0..200),
            delta in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut whole = vec![u8::try_from(base.len()).unwrap_or(0) & 0x7f, 0x7f];
            whole.extend(delta);
            let base = &base[..usize::from(whole[0])];
            prop_assert!(apply(base, &whole, 1000).is_none_or(|made| made.len() == 0x7f));
            prop_assert!(sizes(&whole).is_some());
        }
    }
}
