//! A repository as it is at one moment, for stock git to serve: exactly the refs and the packs that
//! it has then, in a folder that nobody changes any more.
//!
//! Whoever is served from one is not disturbed when refs move or packs are merged meanwhile, and sees
//! nothing of changes that never came to be, whose packs may be in the node's copy. Packs are linked,
//! not copied.

use std::fs;
use std::path::Path;
use std::process::Command;

use bastide_core::{Oid, RefName};
use tempfile::TempDir;

use crate::process::{Pipes, Running, git};
use crate::repo::{is_whole, packed_refs};
use crate::{GitError, KnownPack, Repo};

/// What a client may ask for. Everything that is in a snapshot may be read, so anything may be asked
/// for by its id, in both versions of the protocol; a filter that names an object of its own is not
/// worth its price.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n\
    [gc]\n\tauto = 0\n\
    [pack]\n\tthreads = 4\n\twindowMemory = 256m\n\
    [uploadpack]\n\tallowFilter = true\n\tallowAnySHA1InWant = true\n\
    [uploadpackfilter]\n\tallow = false\n\
    [uploadpackfilter \"blob:none\"]\n\tallow = true\n\
    [uploadpackfilter \"blob:limit\"]\n\tallow = true\n\
    [uploadpackfilter \"tree\"]\n\tallow = true\n\
    [uploadpackfilter \"object:type\"]\n\tallow = true\n\
    [uploadpackfilter \"combine\"]\n\tallow = true\n";

/// Seconds that git waits for more of a request.
const REQUEST_SECONDS: u32 = 120;

/// The version of git's protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    V0,
    V1,
    V2,
}

impl Protocol {
    /// From what a client says of itself: keys with values, with a colon between them, of which only
    /// the version is known. What is not understood means the oldest, as git's own server has it.
    pub fn parse(text: &str) -> Self {
        let versions = text.split(':').filter_map(|part| match part {
            "version=2" => Some(Self::V2),
            "version=1" => Some(Self::V1),
            _ => None,
        });
        versions.max_by_key(|version| *version as u8).unwrap_or(Self::V0)
    }

    /// For git's environment: never what a client has written.
    const fn variable(self) -> &'static str {
        match self {
            Self::V0 => "version=0",
            Self::V1 => "version=1",
            Self::V2 => "version=2",
        }
    }
}

/// A ref: its name, what it names, and the commit that an annotated tag comes to.
pub type SnapshotRef = (RefName, Oid, Option<Oid>);

pub struct Snapshot {
    folder: TempDir,
    refs: Vec<SnapshotRef>,
    packs: Vec<String>,
}

impl Snapshot {
    /// Makes one in `root`. Fails with `NotFound` when a pack is taken away meanwhile.
    pub(crate) fn make(
        root: &Path,
        repo: &Repo,
        refs: Vec<SnapshotRef>,
        packs: &[KnownPack<'_>],
    ) -> Result<Self, GitError> {
        fs::create_dir_all(root)?;
        let folder = tempfile::Builder::new().prefix("at-").tempdir_in(root)?;
        let path = folder.path();
        fs::create_dir_all(path.join("objects/pack"))?;
        fs::create_dir_all(path.join("objects/info"))?;
        fs::create_dir(path.join("refs"))?;
        fs::write(path.join("HEAD"), "ref: refs/heads/main\n")?;
        fs::write(path.join("config"), CONFIG)?;
        fs::write(path.join("packed-refs"), packed_refs(&refs))?;
        for pack in packs {
            let (from_pack, from_index) = repo.pack_paths(pack.name);
            let (to_pack, to_index) = pack_paths(path, pack.name);
            link(&from_pack, &to_pack)?;
            link(&from_index, &to_index)?;
        }
        let packs = packs.iter().map(|pack| pack.name.to_owned()).collect();
        Ok(Self { folder, refs, packs })
    }

    /// Is this what the repository is like now, and is it still whole?
    pub(crate) fn is_of(&self, refs: &[SnapshotRef], packs: &[KnownPack<'_>]) -> bool {
        let names = || packs.iter().map(|pack| pack.name);
        let whole = |pack: &KnownPack<'_>| {
            let (file, index) = pack_paths(self.folder.path(), pack.name);
            is_whole(&file, &index, pack)
        };
        self.refs == refs
            && names().eq(self.packs.iter().map(String::as_str))
            && self.folder.path().join("packed-refs").is_file()
            && packs.iter().all(whole)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The names of its packs.
    pub fn packs(&self) -> &[String] {
        &self.packs
    }

    pub(crate) fn pack_paths(&self, name: &str) -> (std::path::PathBuf, std::path::PathBuf) {
        pack_paths(self.folder.path(), name)
    }

    pub fn refs(&self) -> &[SnapshotRef] {
        &self.refs
    }

    /// Starts the program that tells a client which refs there are.
    pub fn advertise(&self, protocol: Protocol) -> Result<(Running, Pipes), GitError> {
        Running::start(self.upload_pack(protocol, &["--http-backend-info-refs"]))
    }

    /// Starts the program that answers one request of a client.
    pub fn answer(&self, protocol: Protocol) -> Result<(Running, Pipes), GitError> {
        Running::start(self.upload_pack(protocol, &[]))
    }

    fn upload_pack(&self, protocol: Protocol, more: &[&str]) -> Command {
        let mut command = git(self.folder.path());
        command
            .env("GIT_PROTOCOL", protocol.variable())
            // Which version of which program answers is nobody's business.
            .env("GIT_USER_AGENT", "bastide")
            .args(["upload-pack", "--strict", "--stateless-rpc"])
            .arg(format!("--timeout={REQUEST_SECONDS}"))
            .args(more)
            .arg(".");
        command
    }
}

fn pack_paths(folder: &Path, name: &str) -> (std::path::PathBuf, std::path::PathBuf) {
    let packs = folder.join("objects/pack");
    (packs.join(format!("{name}.pack")), packs.join(format!("{name}.idx")))
}

/// Where files cannot have two names, a link by name does until the pack is merged into another.
pub(crate) fn link(from: &Path, to: &Path) -> Result<(), GitError> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Ok(std::os::unix::fs::symlink(std::path::absolute(from)?, to)?)
        }
        done => Ok(done?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_never_reaches_the_environment() {
        for (text, version) in [
            ("version=2", Protocol::V2),
            ("version=1:version=2", Protocol::V2),
            ("key=value:version=1", Protocol::V1),
            ("version=3", Protocol::V0),
            ("version=2\nGIT_DIR=/", Protocol::V0),
            ("version=2 ", Protocol::V0),
            ("", Protocol::V0),
        ] {
            assert_eq!(Protocol::parse(text), version, "{text:?}");
        }
    }
}
