//! The header of a GGUF file: what model it holds and how many parameters.
//! Format: `GGUF`, version, counts, then named values and a description of each tensor, all
//! little-endian. Vocabularies are in it, so a header has megabytes: it is read in steps.

/// Longest header that is read: the largest vocabularies take some 20 MB.
pub const MAX_HEADER_BYTES: u64 = 32 * 1024 * 1024;
/// Bytes that are worth reading first.
pub const FIRST_BYTES: u64 = 1024 * 1024;
/// Longest chat template that is kept.
const MAX_TEMPLATE_BYTES: usize = 64 * 1024;
/// Longest name, architecture or token that is kept.
const MAX_TEXT_BYTES: usize = 1024;
/// Dimensions of a tensor, by the format.
const MAX_DIMENSIONS: u32 = 4;
/// Arrays in arrays.
const MAX_DEPTH: u32 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GgufError {
    /// The header goes on behind the bytes that were given.
    #[error("the header is not complete")]
    Incomplete,
    #[error("this is not a GGUF file of version 2 or 3")]
    Magic,
    #[error("the header is not valid")]
    Invalid,
}

/// The files of a model that was split, of which one is called `name`: `x-00001-of-00003.gguf`.
/// A file that stands alone is its own only part; `None` for what cannot be.
pub fn parts(name: &str, most: u32) -> Option<Vec<String>> {
    let alone = || Some(vec![name.to_owned()]);
    let Some(stem) = name.strip_suffix(".gguf") else { return alone() };
    let Some((rest, count)) = stem.rsplit_once("-of-") else { return alone() };
    let Some((stem, number)) = rest.rsplit_once('-') else { return alone() };
    let digits = |text: &str| text.len() == PART_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(number) || !digits(count) {
        return alone();
    }
    let last: u32 = count.parse().ok().filter(|last| (1..=most).contains(last))?;
    Some((1..=last).map(|number| format!("{stem}-{number:05}-of-{count}.gguf")).collect())
}

/// Digits of a part's number.
const PART_DIGITS: usize = 5;

/// What a header says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Parameters, counted over all tensors of this file.
    pub total: u64,
    pub architecture: Option<String>,
    pub context_length: Option<u64>,
    pub chat_template: Option<String>,
    pub bos_token: Option<String>,
    pub eos_token: Option<String>,
}

/// Reads a header from the first bytes of a file of `size` bytes. `Incomplete` asks for more.
pub fn read(bytes: &[u8], size: u64) -> Result<Facts, GgufError> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.take(4)? != b"GGUF" || !matches!(reader.u32()?, 2 | 3) {
        return Err(GgufError::Magic);
    }
    let (tensors, values) = (reader.u64()?, reader.u64()?);
    let mut found = Values::default();
    for _ in 0..values {
        found.read(&mut reader)?;
    }
    let mut total: u64 = 0;
    for _ in 0..tensors {
        total = total.checked_add(reader.tensor()?).ok_or(GgufError::Invalid)?;
    }
    // The tightest packing has more than a bit for each.
    if total > size.saturating_mul(8) {
        return Err(GgufError::Invalid);
    }
    Ok(found.facts(bytes, total))
}

/// The values that matter, as they come by.
#[derive(Default)]
struct Values {
    architecture: Option<String>,
    context_lengths: Vec<(String, u64)>,
    chat_template: Option<String>,
    bos: Option<u64>,
    eos: Option<u64>,
    /// Where the vocabulary starts, and how many tokens it has.
    tokens: Option<(usize, u64)>,
}

impl Values {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), GgufError> {
        let key = reader.text()?;
        let kind = reader.u32()?;
        match (key, kind) {
            (b"general.architecture", STRING) => self.architecture = kept(reader.text()?, MAX_TEXT_BYTES),
            (b"tokenizer.chat_template", STRING) => {
                self.chat_template = kept(reader.text()?, MAX_TEMPLATE_BYTES);
            }
            (b"tokenizer.ggml.bos_token_id", U32) => self.bos = Some(reader.u32()?.into()),
            (b"tokenizer.ggml.eos_token_id", U32) => self.eos = Some(reader.u32()?.into()),
            (b"tokenizer.ggml.tokens", ARRAY) => {
                let (kind, count) = (reader.u32()?, reader.u64()?);
                self.tokens = Some((reader.at, count)).filter(|_| kind == STRING);
                reader.skip_items(kind, count, 1)?;
            }
            (key, U32 | U64) if key.ends_with(b".context_length") => {
                let length = if kind == U32 { reader.u32()?.into() } else { reader.u64()? };
                // One for each architecture that the file knows: a handful.
                if let Some(key) = kept(key, MAX_TEXT_BYTES).filter(|_| self.context_lengths.len() < 8) {
                    self.context_lengths.push((key, length));
                }
            }
            _ => reader.skip(kind, 0)?,
        }
        Ok(())
    }

    fn facts(self, bytes: &[u8], total: u64) -> Facts {
        let token = |id: Option<u64>| {
            let (at, count) = self.tokens?;
            let id = id.filter(|id| *id < count)?;
            let mut reader = Reader { bytes, at };
            for _ in 0..id {
                reader.text().ok()?;
            }
            kept(reader.text().ok()?, MAX_TEXT_BYTES)
        };
        let key = self.architecture.as_ref().map(|architecture| format!("{architecture}.context_length"));
        let context_length = self.context_lengths.iter().find(|(found, _)| Some(found) == key.as_ref());
        Facts {
            total,
            context_length: context_length.map(|(_, length)| *length),
            bos_token: token(self.bos),
            eos_token: token(self.eos),
            architecture: self.architecture,
            chat_template: self.chat_template,
        }
    }
}

fn kept(text: &[u8], most: usize) -> Option<String> {
    (text.len() <= most).then(|| std::str::from_utf8(text).ok().map(ToOwned::to_owned))?
}

const U32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const U64: u32 = 10;

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: u64) -> Result<&'a [u8], GgufError> {
        // What no header of a bearable length can hold is not waited for.
        if len > MAX_HEADER_BYTES {
            return Err(GgufError::Invalid);
        }
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        let end = end.ok_or(GgufError::Invalid)?;
        let part = self.bytes.get(self.at..end).ok_or(GgufError::Incomplete)?;
        self.at = end;
        Ok(part)
    }

    fn u32(&mut self) -> Result<u32, GgufError> {
        let bytes = self.take(4)?.try_into().map_err(|_| GgufError::Invalid)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn u64(&mut self) -> Result<u64, GgufError> {
        let bytes = self.take(8)?.try_into().map_err(|_| GgufError::Invalid)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn text(&mut self) -> Result<&'a [u8], GgufError> {
        let len = self.u64()?;
        self.take(len)
    }

    /// Goes past a value.
    fn skip(&mut self, kind: u32, depth: u32) -> Result<(), GgufError> {
        match kind {
            STRING => self.text().map(|_| ()),
            ARRAY if depth < MAX_DEPTH => {
                let (kind, count) = (self.u32()?, self.u64()?);
                self.skip_items(kind, count, depth + 1)
            }
            kind => self.take(width(kind).ok_or(GgufError::Invalid)?).map(|_| ()),
        }
    }

    /// Goes past the items of an array. Each takes bytes, so the end of the bytes ends the walk.
    fn skip_items(&mut self, kind: u32, count: u64, depth: u32) -> Result<(), GgufError> {
        if let Some(width) = width(kind) {
            let len = count.checked_mul(width).ok_or(GgufError::Invalid)?;
            return self.take(len).map(|_| ());
        }
        (0..count).try_for_each(|_| self.skip(kind, depth))
    }

    /// Goes past the description of a tensor, and counts its parameters.
    fn tensor(&mut self) -> Result<u64, GgufError> {
        self.text()?;
        let dimensions = self.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return Err(GgufError::Invalid);
        }
        let mut count: u64 = 1;
        for _ in 0..dimensions {
            count = count.checked_mul(self.u64()?).ok_or(GgufError::Invalid)?;
        }
        // Its type and where its data starts.
        self.take(4 + 8)?;
        Ok(count)
    }
}

/// Bytes of a value with a fixed width.
const fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        U32 | 5 | 6 => Some(4),
        U64 | 11 | 12 => Some(8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Facts, GgufError> {
        super::read(bytes, 1000)
    }

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
    }

    fn value(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
        [text(key), kind.to_le_bytes().to_vec(), value.to_vec()].concat()
    }

    fn tensor(name: &str, sides: &[u64]) -> Vec<u8> {
        let sides_bytes = sides.iter().flat_map(|side| side.to_le_bytes());
        let mut bytes = [text(name), (sides.len() as u32).to_le_bytes().to_vec()].concat();
        bytes.extend(sides_bytes);
        bytes.extend([0; 12]);
        bytes
    }

    fn file(values: &[Vec<u8>], tensors: &[Vec<u8>]) -> Vec<u8> {
        let counts = [(tensors.len() as u64).to_le_bytes(), (values.len() as u64).to_le_bytes()].concat();
        [b"GGUF".to_vec(), 3u32.to_le_bytes().to_vec(), counts, values.concat(), tensors.concat()].concat()
    }

    fn array(kind: u32, count: u64, items: &[u8]) -> Vec<u8> {
        [&kind.to_le_bytes()[..], &count.to_le_bytes(), items].concat()
    }

    fn good() -> Vec<u8> {
        let tokens = array(STRING, 3, &[text("a"), text("<s>"), text("</s>")].concat());
        let nested = array(ARRAY, 2, &[array(0, 2, &[1, 2]), array(6, 1, &[0; 4])].concat());
        file(
            &[
                value("llama.context_length", U32, &4096u32.to_le_bytes()),
                value("clip.context_length", U64, &77u64.to_le_bytes()),
                value("general.architecture", STRING, &text("llama")),
                value("tokenizer.ggml.eos_token_id", U32, &2u32.to_le_bytes()),
                value("tokenizer.ggml.tokens", ARRAY, &tokens),
                value("tokenizer.ggml.bos_token_id", U32, &1u32.to_le_bytes()),
                value("nested", ARRAY, &nested),
                value("flag", 7, &[1]),
                value("tokenizer.chat_template", STRING, &text("{{ messages }}")),
            ],
            &[tensor("a", &[3, 4]), tensor("b", &[5]), tensor("scalar", &[])],
        )
    }

    #[test]
    fn what_a_header_says() {
        let expected = Facts {
            total: 18,
            architecture: Some("llama".into()),
            context_length: Some(4096),
            chat_template: Some("{{ messages }}".into()),
            bos_token: Some("<s>".into()),
            eos_token: Some("</s>".into()),
        };
        let bytes = good();
        assert_eq!(read(&bytes), Ok(expected.clone()));
        assert_eq!(read(&[bytes.clone(), vec![0; 100]].concat()), Ok(expected));
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Err(GgufError::Incomplete), "{end}");
        }
    }

    #[test]
    fn parts_of_split_models() {
        assert_eq!(parts("a-of-b.gguf", 9), Some(vec!["a-of-b.gguf".to_owned()]));
        assert_eq!(
            parts("q/m-00002-of-00002.gguf", 9),
            Some(vec!["q/m-00001-of-00002.gguf".to_owned(), "q/m-00002-of-00002.gguf".to_owned()])
        );
        assert_eq!(parts("m-00001-of-99999.gguf", 200), None);
        assert_eq!(parts("m-00001-of-00000.gguf", 200), None);
    }

    #[test]
    fn lies_end_as_errors_at_once() {
        let header = |values: u64, tensors: u64, rest: &[u8]| {
            [b"GGUF", &3u32.to_le_bytes()[..], &tensors.to_le_bytes(), &values.to_le_bytes(), rest].concat()
        };
        // Counts without bytes behind them.
        assert_eq!(read(&header(u64::MAX, 0, &[])), Err(GgufError::Incomplete));
        assert_eq!(read(&header(0, u64::MAX, &tensor("a", &[1]))), Err(GgufError::Incomplete));
        assert_eq!(read(&header(1, 0, &u64::MAX.to_le_bytes())), Err(GgufError::Invalid));
        for kind in [0, U64] {
            let long = value("a", ARRAY, &array(kind, u64::MAX, &[]));
            assert_eq!(read(&header(1, 0, &long)), Err(GgufError::Invalid));
        }
        let endless = value("a", ARRAY, &array(STRING, u64::MAX, &text("x").repeat(1000)));
        assert_eq!(read(&header(1, 0, &endless)), Err(GgufError::Incomplete));
        // Arrays in arrays in arrays.
        let deep = value("a", ARRAY, &array(ARRAY, 1, &[]).repeat(100));
        assert_eq!(read(&header(1, 0, &deep)), Err(GgufError::Invalid));
        // More than 64 bits of parameters, five dimensions, an unknown type.
        let huge = tensor("a", &[1 << 40, 1 << 40]);
        assert_eq!(read(&header(0, 1, &huge)), Err(GgufError::Invalid));
        let two = [tensor("a", &[1 << 63]), tensor("b", &[1 << 63])].concat();
        assert_eq!(read(&header(0, 2, &two)), Err(GgufError::Invalid));
        assert_eq!(read(&header(0, 1, &tensor("a", &[1; 5]))), Err(GgufError::Invalid));
        assert_eq!(read(&header(0, 1, &tensor("a", &[8001]))), Err(GgufError::Invalid));
        assert!(read(&header(0, 1, &tensor("a", &[8000]))).is_ok());
        assert_eq!(read(&header(1, 0, &value("a", 99, &[]))), Err(GgufError::Invalid));
        // Other files, other versions, other byte orders.
        for other in [&b"GGML\x03\0\0\0"[..], b"GGUF\x01\0\0\0", b"GGUF\0\0\0\x03"] {
            assert_eq!(read(other), Err(GgufError::Magic));
        }
    }

    #[test]
    fn texts_that_are_too_long_or_not_text_are_left_out() {
        let long = "x".repeat(MAX_TEMPLATE_BYTES + 1);
        let bytes = file(
            &[
                value("tokenizer.chat_template", STRING, &text(&long)),
                value("general.architecture", STRING, &[2, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe]),
                value("tokenizer.ggml.bos_token_id", U32, &7u32.to_le_bytes()),
                value("tokenizer.ggml.tokens", ARRAY, &array(STRING, 1, &text("a"))),
            ],
            &[],
        );
        assert_eq!(read(&bytes), Ok(Facts::default()));
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&[&b"GGUF\x03\0\0\0"[..], &bytes].concat());
        }

        #[test]
        fn one_wrong_byte_is_no_panic(at in 8usize..400, byte: u8) {
            let mut bytes = good();
            if let Some(one) = bytes.get_mut(at) {
                *one = byte;
            }
            let _ = read(&bytes);
        }
    }
}
