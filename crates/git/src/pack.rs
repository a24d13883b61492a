//! Writing packs: what one commit adds, as a pack and an index (both version 2) that stock git
//! reads. Objects are stored whole; deltas come when packs are merged.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use bastide_core::Oid;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use tempfile::TempPath;

use crate::GitError;
use crate::object::{NewCommit, Tag, Tree};

/// Speed first: merging compresses again.
const LEVEL: Compression = Compression::new(1);
const HEADER_BYTES: u64 = 12;
pub(crate) const INDEX_MARK: [u8; 8] = [0xff, b't', b'O', b'c', 0, 0, 0, 2];
/// Offsets from here on do not fit into 31 bits and go to a table of their own.
pub(crate) const LARGE_OFFSET: u64 = 1 << 31;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Commit = 1,
    Tree = 2,
    Blob = 3,
    Tag = 4,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
            Self::Tag => "tag",
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    crc: u32,
}

/// Collects new objects into one pack. An object that is in it already is not written again.
pub struct PackWriter {
    file: BufWriter<File>,
    path: TempPath,
    at: u64,
    objects: HashMap<Oid, Place>,
    /// Trees of this pack, for edits that build upon each other.
    trees: HashMap<Oid, Tree>,
}

/// A pack that is ready to be stored.
#[derive(Debug)]
pub struct NewPack {
    /// `pack-` and the SHA-1 of its content.
    pub name: String,
    pub pack: TempPath,
    pub index: TempPath,
    pub objects: u64,
    pub bytes: u64,
}

impl PackWriter {
    pub fn new(folder: &Path) -> Result<Self, GitError> {
        let (file, path) = tempfile::Builder::new().prefix("pack-").tempfile_in(folder)?.into_parts();
        let mut file = BufWriter::with_capacity(256 * 1024, file);
        // The count comes at the end.
        file.write_all(b"PACK\0\0\0\x02\0\0\0\0")?;
        Ok(Self { file, path, at: HEADER_BYTES, objects: HashMap::new(), trees: HashMap::new() })
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    pub fn blob(&mut self, data: &[u8]) -> Result<Oid, GitError> {
        self.add(Kind::Blob, data)
    }

    pub fn tree(&mut self, tree: Tree) -> Result<Oid, GitError> {
        let oid = self.add(Kind::Tree, &tree.render())?;
        self.trees.insert(oid, tree);
        Ok(oid)
    }

    pub(crate) fn written_tree(&self, oid: Oid) -> Option<&Tree> {
        self.trees.get(&oid)
    }

    pub fn commit(&mut self, commit: &NewCommit<'_>) -> Result<Oid, GitError> {
        self.add(Kind::Commit, &commit.render())
    }

    pub fn tag(&mut self, tag: &Tag<'_>) -> Result<Oid, GitError> {
        self.add(Kind::Tag, &tag.render())
    }

    /// Objects as their bytes are: made from others of the same kind.
    pub(crate) fn raw_tree(&mut self, data: &[u8]) -> Result<Oid, GitError> {
        self.add(Kind::Tree, data)
    }

    pub(crate) fn raw_commit(&mut self, data: &[u8]) -> Result<Oid, GitError> {
        self.add(Kind::Commit, data)
    }

    pub(crate) fn raw_tag(&mut self, data: &[u8]) -> Result<Oid, GitError> {
        self.add(Kind::Tag, data)
    }

    fn add(&mut self, kind: Kind, data: &[u8]) -> Result<Oid, GitError> {
        let oid = object_id(kind, data)?;
        if self.objects.contains_key(&oid) {
            return Ok(oid);
        }
        let mut out = Counted { inner: &mut self.file, crc: crc32fast::Hasher::new(), bytes: 0 };
        out.write_all(&entry_header(kind, data.len() as u64))?;
        let mut packed = ZlibEncoder::new(out, LEVEL);
        packed.write_all(data)?;
        let Counted { crc, bytes, .. } = packed.finish()?;
        self.objects.insert(oid, Place { offset: self.at, crc: crc.finalize() });
        self.at += bytes;
        Ok(oid)
    }

    /// Ends the pack and writes its index.
    pub fn finish(self, folder: &Path) -> Result<NewPack, GitError> {
        let Self { file, path, at, objects, .. } = self;
        let mut file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        let count = u32::try_from(objects.len()).map_err(|_| GitError::Pack("too many objects"))?;
        file.seek(SeekFrom::Start(8))?;
        file.write_all(&count.to_be_bytes())?;
        file.seek(SeekFrom::Start(0))?;
        let checksum = hash_file(&mut file)?;
        file.seek(SeekFrom::End(0))?;
        file.write_all(checksum.as_bytes())?;
        file.flush()?;
        let (mut index, index_path) =
            tempfile::Builder::new().prefix("index-").tempfile_in(folder)?.into_parts();
        index.write_all(&index_bytes(&objects, checksum)?)?;
        Ok(NewPack {
            name: format!("pack-{checksum}"),
            pack: path,
            index: index_path,
            objects: count.into(),
            bytes: at + 20,
        })
    }
}

/// Counts and checksums what passes to the pack.
struct Counted<'a> {
    inner: &'a mut BufWriter<File>,
    crc: crc32fast::Hasher,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(data)?;
        self.crc.update(data.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// SHA-1 with collision detection, as git itself computes it.
fn sha1(update: impl FnOnce(&mut gix_hash::Hasher) -> std::io::Result<()>) -> Result<Oid, GitError> {
    let mut hasher = gix_hash::hasher(gix_hash::Kind::Sha1);
    update(&mut hasher)?;
    let id = hasher.try_finalize().map_err(|_| GitError::Pack("content made to collide under SHA-1"))?;
    Oid::from_slice(id.as_bytes()).map_err(|_| GitError::Pack("a hash of the wrong length"))
}

fn object_id(kind: Kind, data: &[u8]) -> Result<Oid, GitError> {
    sha1(|hasher| {
        hasher.update(format!("{} {}\0", kind.name(), data.len()).as_bytes());
        hasher.update(data);
        Ok(())
    })
}

/// The id that these bytes have as a file in git.
pub(crate) fn blob_id(kind: gix_object::Kind, data: &[u8]) -> Result<Oid, GitError> {
    let kind = match kind {
        gix_object::Kind::Blob => Kind::Blob,
        gix_object::Kind::Tree => Kind::Tree,
        gix_object::Kind::Commit => Kind::Commit,
        gix_object::Kind::Tag => Kind::Tag,
    };
    object_id(kind, data)
}

fn hash_file(file: &mut File) -> Result<Oid, GitError> {
    let mut reader = BufReader::with_capacity(1 << 20, file);
    sha1(|hasher| {
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = reader.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            hasher.update(buffer.get(..read).unwrap_or_default());
        }
    })
}

/// Kind and size, in the variable-length form of packs.
fn entry_header(kind: Kind, size: u64) -> Vec<u8> {
    let low = |bits: u64, mask: u64| u8::try_from(bits & mask).unwrap_or(0);
    let mut rest = size >> 4;
    let mut bytes = vec![(kind as u8) << 4 | low(size, 0x0f)];
    while rest > 0 {
        if let Some(last) = bytes.last_mut() {
            *last |= 0x80;
        }
        bytes.push(low(rest, 0x7f));
        rest >>= 7;
    }
    bytes
}

fn index_bytes(objects: &HashMap<Oid, Place>, pack: Oid) -> Result<Vec<u8>, GitError> {
    let mut sorted: Vec<(&Oid, &Place)> = objects.iter().collect();
    sorted.sort_by_key(|(oid, _)| **oid);
    let mut bytes = INDEX_MARK.to_vec();
    for first in 0..=u8::MAX {
        let upto =
            sorted.partition_point(|(oid, _)| oid.as_bytes().first().is_some_and(|byte| *byte <= first));
        bytes.extend_from_slice(&u32::try_from(upto).unwrap_or(u32::MAX).to_be_bytes());
    }
    sorted.iter().for_each(|(oid, _)| bytes.extend_from_slice(oid.as_bytes()));
    sorted.iter().for_each(|(_, place)| bytes.extend_from_slice(&place.crc.to_be_bytes()));
    let mut large = Vec::new();
    for (_, place) in &sorted {
        let offset = if place.offset < LARGE_OFFSET {
            u32::try_from(place.offset).unwrap_or(0)
        } else {
            large.push(place.offset);
            0x8000_0000 | u32::try_from(large.len() - 1).unwrap_or(0)
        };
        bytes.extend_from_slice(&offset.to_be_bytes());
    }
    large.iter().for_each(|offset| bytes.extend_from_slice(&offset.to_be_bytes()));
    bytes.extend_from_slice(pack.as_bytes());
    let checksum = sha1(|hasher| {
        hasher.update(&bytes);
        Ok(())
    })?;
    bytes.extend_from_slice(checksum.as_bytes());
    Ok(bytes)
}

/// The ids in an index of version 2.
pub(crate) fn indexed_objects(bytes: &[u8]) -> Result<Vec<Oid>, GitError> {
    let bad = GitError::Pack("an index that is not one of version 2");
    let Some(rest) = bytes.strip_prefix(&INDEX_MARK) else { return Err(bad) };
    let count = rest.get(255 * 4..256 * 4).and_then(|count| count.try_into().ok()).map(u32::from_be_bytes);
    let Some(ids) = count.and_then(|count| rest.get(1024..1024 + 20 * count as usize)) else {
        return Err(bad);
    };
    ids.chunks_exact(20).map(|id| Oid::from_slice(id).map_err(|_| GitError::Pack("an index"))).collect()
}
