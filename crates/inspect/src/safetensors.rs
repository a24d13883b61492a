//! The header of a safetensors file: how many parameters of which type.
//! Format: 8 bytes length (little-endian), then JSON of name to dtype, shape and offsets.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// Longest header that is read; the format's own limit is 100 MB.
pub const MAX_HEADER_BYTES: u64 = 25_000_000;
const LENGTH_BYTES: u64 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("the header has more than {MAX_HEADER_BYTES} bytes")]
    TooLong,
    #[error("the header is not valid")]
    Invalid,
    #[error("a tensor lies outside of the file, or its size is not that of its shape")]
    Layout,
}

/// Parameters by type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    pub by_type: BTreeMap<String, u64>,
    pub total: u64,
}

impl Parameters {
    /// Adds those of another file of the same model.
    pub fn add(&mut self, other: &Self) {
        for (name, count) in &other.by_type {
            let sum = self.by_type.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
        self.total = self.total.saturating_add(other.total);
    }
}

#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Where the header ends, from the first eight bytes.
pub fn header_end(first: [u8; 8]) -> Result<u64, HeaderError> {
    match u64::from_le_bytes(first) {
        len if len > MAX_HEADER_BYTES => Err(HeaderError::TooLong),
        0 | 1 => Err(HeaderError::Invalid),
        len => Ok(LENGTH_BYTES + len),
    }
}

/// Counts the parameters that a header (without the length) describes in a file of `size` bytes.
pub fn parameters(header: &[u8], size: u64) -> Result<Parameters, HeaderError> {
    let entries: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(header).map_err(|_| HeaderError::Invalid)?;
    let data = size.checked_sub(LENGTH_BYTES + header.len() as u64).ok_or(HeaderError::Layout)?;
    let mut found = Parameters::default();
    for (name, value) in entries {
        if name == "__metadata__" {
            continue;
        }
        let tensor: Tensor = serde_json::from_value(value).map_err(|_| HeaderError::Invalid)?;
        let count = tensor.shape.iter().try_fold(1u64, |product, side| product.checked_mul(*side));
        let count = count.ok_or(HeaderError::Layout)?;
        let (start, end) = tensor.data_offsets;
        let bits = end.checked_sub(start).and_then(|bytes| bytes.checked_mul(8));
        // A value of a type that is not known has a bit at least.
        let fits = bits.is_some_and(|bits| match type_bits(&tensor.dtype) {
            Some(each) => count.checked_mul(each) == Some(bits),
            None => count <= bits,
        });
        if end > data || !fits {
            return Err(HeaderError::Layout);
        }
        let one = Parameters { by_type: BTreeMap::from([(tensor.dtype, count)]), total: count };
        found.add(&one);
    }
    Ok(found)
}

/// The files that an index (`model.safetensors.index.json`) spreads a model over.
pub fn shards(index: &[u8]) -> Option<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_slice(index).ok()?;
    Some(index.weight_map.into_values().collect())
}

/// Bits of one value; `None` for types that are not known, which are counted all the same.
fn type_bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F64" | "I64" | "U64" | "C64" => 64,
        "F32" | "I32" | "U32" => 32,
        "F16" | "BF16" | "I16" | "U16" => 16,
        "F8_E4M3" | "F8_E5M2" | "F8_E8M0" | "I8" | "U8" | "BOOL" => 8,
        "F4" => 4,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counts_by_type() {
        let header = br#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},
            "b":{"dtype":"BF16","shape":[5],"data_offsets":[24,34]},"s":{"dtype":"F32","shape":[],"data_offsets":[34,38]}}"#;
        let size = 8 + header.len() as u64 + 38;
        let found = parameters(header, size).unwrap();
        assert_eq!(found.total, 12);
        assert_eq!(found.by_type, BTreeMap::from([("BF16".into(), 5), ("F32".into(), 7)]));
        assert_eq!(parameters(header, size - 1), Err(HeaderError::Layout));
    }

    #[test]
    fn lies_are_refused() {
        let layout = |tensor: &str| parameters(format!("{{\"a\":{tensor}}}").as_bytes(), 1 << 40);
        for lie in [
            r#"{"dtype":"F32","shape":[2],"data_offsets":[0,4]}"#,
            r#"{"dtype":"F32","shape":[2],"data_offsets":[8,0]}"#,
            r#"{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}"#,
            r#"{"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1099511627776]}"#,
            r#"{"dtype":"NEW","shape":[9223372036854775807],"data_offsets":[0,8]}"#,
        ] {
            assert_eq!(layout(lie), Err(HeaderError::Layout), "{lie}");
        }
        assert_eq!(layout("7"), Err(HeaderError::Invalid));
        assert_eq!(header_end(u64::MAX.to_le_bytes()), Err(HeaderError::TooLong));
        assert_eq!(header_end(MAX_HEADER_BYTES.to_le_bytes()), Ok(MAX_HEADER_BYTES + 8));
    }

    #[test]
    fn an_index_names_each_file_once() {
        let index =
            br#"{"metadata":{"total_size":8},"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors",
            "c":"m-1.safetensors"}}"#;
        assert_eq!(
            shards(index).unwrap().into_iter().collect::<Vec<_>>(),
            ["m-1.safetensors", "m-2.safetensors"]
        );
        for bad in [&b"{}"[..], b"[]", b"{\"weight_map\":{\"a\":7}}", b"\xff"] {
            assert_eq!(shards(bad), None);
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), size: u64) {
            let _ = parameters(&bytes, size);
        }
    }
}
