//! Untrusted bytes to facts: cards, model headers, attribute files. No I/O, no unsafe code,
//! nothing that an input can make panic, loop or allocate without bound.

pub mod attributes;
pub mod card;
pub mod gguf;
pub mod git_files;
pub mod metadata;
pub mod readme;
pub mod safetensors;
pub mod transformers;

/// Bytes at a file's start that are looked at to tell text from binary.
pub const SAMPLE_BYTES: usize = 512;

/// NUL or invalid UTF-8 in the first bytes of a file. A character that the sample cuts in two is
/// no sign of anything.
pub fn is_binary(sample: &[u8]) -> bool {
    let sample = sample.get(..SAMPLE_BYTES).unwrap_or(sample);
    if sample.contains(&0) {
        return true;
    }
    match std::str::from_utf8(sample) {
        Ok(_) => false,
        Err(error) => error.error_len().is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_binary() {
        assert!(!is_binary(b""));
        assert!(!is_binary("grüße".as_bytes()));
        assert!(!is_binary(&"é".as_bytes()[..1]));
        assert!(is_binary(b"a\0b"));
        assert!(is_binary(&[0xff, 0xfe, 0x41]));
        let long = [vec![b'a'; SAMPLE_BYTES], vec![0]].concat();
        assert!(!is_binary(&long));
    }
}
