//! Reads objects straight out of the pack that has come: one look-up, one unpacking, no copies. `git index-pack` has
//! taken every byte of it apart before, and named each object by its hash.

use std::sync::Arc;

use bastide_core::Oid;
use flate2::{Decompress, FlushDecompress, Status};
use gix_object::Kind;
use gix_odb::pack;
use gix_odb::pack::data::entry::Header;

use super::delta;
use crate::{GitError, Received};

pub(super) struct Packed {
    received: Arc<Received>,
    file: pack::data::File<pack::MMap>,
    zlib: Decompress,
}

/// How an object stands in the pack.
pub(super) struct Stored {
    place: u32,
    /// What it is; `None` for a delta.
    pub kind: Option<Kind>,
    /// Bytes that are packed here: of a delta its own.
    pub size: u64,
    start: u64,
}

impl Packed {
    pub fn open(received: Arc<Received>) -> Result<Self, GitError> {
        let file = pack::data::File::at(received.pack(), gix_hash::Kind::Sha1);
        let file = file.map_err(|error| GitError::Odb(error.to_string()))?;
        Ok(Self { received, file, zlib: Decompress::new(true) })
    }

    pub fn find(&self, oid: Oid) -> Option<Stored> {
        self.at(self.received.objects.place(&oid)?)
    }

    fn at(&self, place: u32) -> Option<Stored> {
        let entry = self.file.entry(self.received.objects.offset(place)?).ok()?;
        let kind = match entry.header {
            Header::Commit => Some(Kind::Commit),
            Header::Tree => Some(Kind::Tree),
            Header::Blob => Some(Kind::Blob),
            Header::Tag => Some(Kind::Tag),
            Header::RefDelta { .. } | Header::OfsDelta { .. } => None,
        };
        Some(Stored { place, kind, size: entry.decompressed_size, start: entry.data_offset })
    }

    /// What an object builds upon.
    pub fn base(&self, stored: &Stored) -> Option<Oid> {
        self.received.objects.base(stored.place)
    }

    /// What an object is, and how long, whatever it builds upon.
    pub fn header(&mut self, stored: &Stored) -> Option<(Kind, u64)> {
        if let Some(kind) = stored.kind {
            return Some((kind, stored.size));
        }
        let kind = self.at(self.received.objects.ground(stored.place)?)?.kind?;
        let mut head = [0; delta::HEAD_BYTES];
        let length = self.unpack(stored, &mut head)?;
        Some((kind, delta::sizes(head.get(..length)?)?.1))
    }

    /// The bytes that are packed, of at most `limit`.
    pub fn bytes(&mut self, stored: &Stored, limit: u64) -> Option<Vec<u8>> {
        if stored.size > limit {
            return None;
        }
        let mut data = vec![0; usize::try_from(stored.size).ok()?];
        (self.unpack(stored, &mut data)? == data.len()).then_some(data)
    }

    /// The first of the bytes that are packed: so many, where there are as many.
    pub fn start(&mut self, stored: &Stored, bytes: usize) -> Option<Vec<u8>> {
        let mut data = vec![0; usize::try_from(stored.size).ok()?.min(bytes)];
        (self.unpack(stored, &mut data)? == data.len()).then_some(data)
    }

    /// Unpacks as much as there is room for; how much it was.
    fn unpack(&mut self, stored: &Stored, out: &mut [u8]) -> Option<usize> {
        if out.is_empty() {
            return Some(0);
        }
        let packed = self.file.entry_slice(stored.start..self.file.data_len() as u64)?;
        self.zlib.reset(true);
        let status = self.zlib.decompress(packed, out, FlushDecompress::None).ok()?;
        let done = status == Status::StreamEnd || self.zlib.total_out() == out.len() as u64;
        usize::try_from(self.zlib.total_out()).ok().filter(|_| done)
    }
}
