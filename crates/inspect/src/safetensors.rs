//! The header of a safetensors file: how many parameters of which type.
//! Format: 8 bytes length (little-endian), then JSON of name to dtype, shape and offsets.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Longest header that is read: 50,000 tensors and more. The format's own limit is 100 MB.
pub const MAX_HEADER_BYTES: u64 = 10 * 1024 * 1024;
/// Types that one file may name, and the length of a name: there are about twenty.
const MAX_TYPES: usize = 64;
const MAX_TYPE_BYTES: usize = 32;
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

/// One tensor. Whatever else its entry holds is skipped, not kept.
#[derive(Deserialize)]
struct Tensor<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Count,
    data_offsets: (u64, u64),
}

/// The product of a shape: `None` when it is too large for a number.
struct Count(Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sides;
        impl<'de> Visitor<'de> for Sides {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of sides")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut sides: A) -> Result<Count, A::Error> {
                let mut product = Some(1u64);
                while let Some(side) = sides.next_element::<u64>()? {
                    product = product.and_then(|product| product.checked_mul(side));
                }
                Ok(Count(product))
            }
        }
        deserializer.deserialize_seq(Sides)
    }
}

/// Counts while the header is read, so that memory does not grow with it.
struct Counter {
    /// Bytes of the file after its header.
    data: u64,
    found: Parameters,
    layout: bool,
}

impl<'de> Visitor<'de> for &mut Counter {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(name) = entries.next_key::<Cow<'de, str>>()? {
            if name == "__metadata__" {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            let tensor: Tensor<'de> = entries.next_value()?;
            if self.add(&tensor).is_none() {
                self.layout = true;
                return Err(A::Error::custom("a tensor that cannot be"));
            }
        }
        Ok(())
    }
}

impl Counter {
    fn add(&mut self, tensor: &Tensor<'_>) -> Option<()> {
        let count = tensor.shape.0?;
        let (start, end) = tensor.data_offsets;
        let bits = end.checked_sub(start)?.checked_mul(8)?;
        // A value of a type that is not known has a bit at least.
        let fits = match type_bits(&tensor.dtype) {
            Some(each) => count.checked_mul(each) == Some(bits),
            None => count <= bits,
        };
        if end > self.data || !fits {
            return None;
        }
        let types = &mut self.found.by_type;
        let is_new = !types.contains_key(tensor.dtype.as_ref());
        if is_new && (tensor.dtype.len() > MAX_TYPE_BYTES || types.len() >= MAX_TYPES) {
            return None;
        }
        let sum = types.entry(tensor.dtype.to_string()).or_default();
        *sum = sum.saturating_add(count);
        self.found.total = self.found.total.saturating_add(count);
        Some(())
    }
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
    let data = size.checked_sub(LENGTH_BYTES + header.len() as u64).ok_or(HeaderError::Layout)?;
    let mut counter = Counter { data, found: Parameters::default(), layout: false };
    let mut json = serde_json::Deserializer::from_slice(header);
    let read = json.deserialize_map(&mut counter).and_then(|()| json.end());
    match read {
        Ok(()) => Ok(counter.found),
        Err(_) if counter.layout => Err(HeaderError::Layout),
        Err(_) => Err(HeaderError::Invalid),
    }
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
    fn what_is_not_known_is_skipped_and_types_are_few() {
        let deep = format!("{{\"a\":[{}0]}}", "0,".repeat(100_000));
        assert_eq!(parameters(deep.as_bytes(), 1 << 40), Err(HeaderError::Invalid));
        let more = format!(
            "{{\"__metadata__\":[{}0],\"a\":{{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":[[1],{{}}]}}}}",
            "0,".repeat(1000)
        );
        assert_eq!(parameters(more.as_bytes(), 1 << 40).map(|found| found.total), Ok(1));
        let types = |count: usize| {
            let tensor =
                |n: usize| format!("\"{n}\":{{\"dtype\":\"T{n}\",\"shape\":[1],\"data_offsets\":[0,1]}}");
            let all: Vec<String> = (0..count).map(tensor).collect();
            parameters(format!("{{{}}}", all.join(",")).as_bytes(), 1 << 40).map(|found| found.total)
        };
        assert_eq!(types(MAX_TYPES), Ok(64));
        assert_eq!(types(MAX_TYPES + 1), Err(HeaderError::Layout));
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
