//! Where a push is received: a repository of its own, for as long as it is looked at. It sees the objects of the one
//! that is pushed to; nobody sees its own. Stock `git index-pack` takes the pack apart, within limits.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use bastide_core::Oid;
use tempfile::TempDir;
use tokio::process::ChildStdin;

use crate::index::{PackIndex, PackObjects};
use crate::pack::NewPack;
use crate::process::{Running, git};
use crate::repo::ALLOC_LIMIT;
use crate::snapshot::link;
use crate::{GitError, Repo};

/// Files from here on go through memory in pieces. None may be so large, but all have to be named.
const BIG_FILE_BYTES: &str = "core.bigFileThreshold=12m";
/// Deltas upon deltas that are kept as they come: what git itself makes at most by its defaults, old and new. Longer
/// chains cost every reader.
const MAX_CHAIN: u32 = 250;
/// Largest pack that is written to disk before anybody knows whether it is kept.
const WRITE_AHEAD_BYTES: u64 = 64 * 1024 * 1024;
/// Packs of its own, with some room.
const OWN_SLOTS: usize = 8;

/// A folder for one push. It goes when it is dropped.
pub struct Quarantine {
    folder: TempDir,
    path: PathBuf,
    /// Packs that are to be seen from here.
    slots: usize,
}

/// A pack that has come, in its quarantine.
pub struct Received {
    pub name: String,
    pack: PathBuf,
    index: PathBuf,
    /// Every object that is in it.
    pub objects: PackObjects,
    bytes: u64,
    /// Deltas upon deltas.
    pub deepest_chain: u32,
}

impl Received {
    /// Deltas that an object is made of.
    pub fn chain_length(&self, oid: &Oid) -> usize {
        self.objects.chain(oid).count()
    }

    pub(crate) fn pack(&self) -> &Path {
        &self.pack
    }

    /// Has the pack written to disk, where it is not large: so it is there when it is to be kept. Nothing depends on it.
    pub fn write_ahead(&self) {
        if self.bytes <= WRITE_AHEAD_BYTES
            && let Ok(pack) = std::fs::File::open(&self.pack)
        {
            let _ = pack.sync_data();
        }
    }
}

impl Quarantine {
    /// A quarantine in the folder `scratch`, beside the packs `packs` of the repository `copy` and no others: what is
    /// judged here builds upon what the repository has at this moment, not upon what is left in the copy of packs that
    /// were pruned or refused. Fails with `NotFound` when a pack is taken away meanwhile.
    pub fn new(scratch: &Path, copy: &Repo, packs: &[String]) -> Result<Self, GitError> {
        let folder = tempfile::Builder::new().prefix("push-").tempdir_in(scratch)?;
        let path = std::path::absolute(folder.path())?;
        std::fs::create_dir_all(path.join("objects/info"))?;
        let objects = path.join("beside");
        std::fs::create_dir_all(objects.join("pack"))?;
        for name in packs {
            let (pack, index) = copy.pack_paths(name);
            link(&pack, &objects.join(format!("pack/{name}.pack")))?;
            link(&index, &objects.join(format!("pack/{name}.idx")))?;
        }
        let mut text = objects.into_os_string().into_encoded_bytes();
        text.push(b'\n');
        std::fs::write(path.join("objects/info/alternates"), text)?;
        crate::repo::create(&path)?;
        Ok(Self { folder, path, slots: copy.slots().max(packs.len()) + OWN_SLOTS })
    }

    /// Starts the program that takes a pack of at most `max_bytes` from its input.
    pub fn index_pack(&self, max_bytes: u64) -> Result<(Running, ChildStdin), GitError> {
        let mut command = self.limited();
        command
            .args(["-c", BIG_FILE_BYTES, "-c", "pack.threads=2", "-c", "pack.writeReverseIndex=false"])
            // That what objects name is here is for the judge to see, of those that are kept.
            .args(["index-pack", "--stdin", "--fix-thin", "--fsck-objects"])
            .arg(format!("--max-input-size={max_bytes}"));
        // A thin pack is completed with what it builds upon.
        Running::start_limited(command, max_bytes.saturating_mul(2))
    }

    fn limited(&self) -> Command {
        let mut command = git(&self.path);
        command
            .env("GIT_ALLOC_LIMIT", ALLOC_LIMIT.to_string())
            // Nothing here is kept over a crash.
            .args([
                "-c",
                "core.fsync=none",
                "-c",
                "core.packedGitWindowSize=16m",
                "-c",
                "core.packedGitLimit=256m",
            ])
            .args(["-c", "core.deltaBaseCacheLimit=64m"]);
        command
    }

    /// What a message of git's says, without where we keep things.
    pub fn without_paths(&self, message: &str) -> String {
        message.replace(&*self.path.to_string_lossy(), "...")
    }

    /// The repository as it would be with the push. With a memory of its own: what is refused is remembered nowhere.
    pub fn repo(&self) -> Result<Repo, GitError> {
        Repo::open_apart(&self.path, self.slots)
    }

    /// The pack that `index_pack` has made; `None` when there is nothing in it.
    pub fn received(&self) -> Result<Option<Received>, GitError> {
        for entry in std::fs::read_dir(self.path.join("objects/pack"))? {
            let index = entry?.path();
            if index.extension().is_none_or(|ending| ending != "idx") {
                continue;
            }
            let pack = index.with_extension("pack");
            let name = index.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let objects = PackIndex::parse(std::fs::read(&index)?)?.objects(&std::fs::File::open(&pack)?)?;
            if objects.is_empty() {
                return Ok(None);
            }
            let deepest_chain = objects.deepest_chain()?;
            let bytes = std::fs::metadata(&pack)?.len();
            return Ok(Some(Received { name, pack, index, objects, bytes, deepest_chain }));
        }
        Err(GitError::Pack("git has made no pack"))
    }

    /// A pack of what came and is to be kept; `None` when that is nothing. The pack as it came where all of it is
    /// kept, but for what the repository has already.
    pub fn keep(
        &self,
        received: &Received,
        wanted: &HashSet<Oid>,
        copy: &Repo,
        scratch: &Path,
    ) -> Result<Option<NewPack>, GitError> {
        let kept: Vec<Oid> = received.objects.iter().filter(|oid| wanted.contains(oid)).copied().collect();
        if kept.is_empty() {
            return Ok(None);
        }
        let mut others = received.objects.iter().filter(|oid| !wanted.contains(oid));
        let whole = others.try_fold(true, |whole, oid| Ok::<_, GitError>(whole && copy.has(*oid)?))?;
        if whole && received.deepest_chain <= MAX_CHAIN {
            return self.take(received, scratch).map(Some);
        }
        self.pack(&kept, scratch).map(Some)
    }

    /// The pack as it came, moved out of the quarantine.
    fn take(&self, received: &Received, scratch: &Path) -> Result<NewPack, GitError> {
        let move_out = |from: &Path, prefix| {
            let to = tempfile::Builder::new().prefix(prefix).tempfile_in(scratch)?.into_temp_path();
            // A second name: what is judged here goes on reading.
            std::fs::remove_file(&to)?;
            if std::fs::hard_link(from, &to).is_err() {
                std::fs::copy(from, &to)?;
            }
            Ok::<_, GitError>(to)
        };
        Ok(NewPack {
            name: received.name.clone(),
            pack: move_out(&received.pack, "pack-")?,
            index: move_out(&received.index, "index-")?,
            objects: received.objects.len() as u64,
            bytes: received.bytes,
        })
    }

    /// A new pack of some objects, with the deltas that they have.
    fn pack(&self, objects: &[Oid], scratch: &Path) -> Result<NewPack, GitError> {
        let mut command = self.limited();
        command.args(["pack-objects", "--quiet", "--threads=1", "--window=0", "--delta-base-offset"]);
        let mut list = Vec::with_capacity(objects.len() * 41);
        for oid in objects {
            writeln!(list, "{oid}")?;
        }
        let made = crate::merge::pack_objects(command, list, scratch)?;
        if made.objects != objects.len() as u64 {
            return Err(GitError::Pack("packing anew would lose objects"));
        }
        Ok(made)
    }

    /// Removes the folder, and says so when that fails.
    pub fn close(self) -> Result<(), GitError> {
        Ok(self.folder.close()?)
    }
}
