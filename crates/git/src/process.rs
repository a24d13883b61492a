//! The one home of running stock `git`: with an environment of its own, no configuration of the
//! machine or the user, no prompts.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use crate::GitError;

/// Oldest git that is good enough (Debian 12's).
const OLDEST: Version = Version { major: 2, minor: 39 };

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

/// The program, found once on the `PATH` that the hub was started with.
static PROGRAM: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let path = std::env::var_os("PATH")?;
    let found =
        std::env::split_paths(&path).map(|folder| folder.join("git")).find(|file| is_program(file))?;
    std::path::absolute(found).ok()
});

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// A `git` command in `folder`.
#[expect(clippy::disallowed_methods, reason = "this is the one place where git is run")]
pub(crate) fn git(folder: &Path) -> Command {
    let mut command = Command::new(PROGRAM.as_deref().unwrap_or(Path::new("git")));
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .args(["-c", "safe.directory=*", "-c", "core.hooksPath=/dev/null"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The version of the installed git, when it is new enough.
pub fn git_version() -> Result<Version, GitError> {
    let Some(program) = &*PROGRAM else {
        return Err(GitError::Program("there is no program `git` on the PATH".into()));
    };
    let program = program.display();
    let output = git(Path::new("/")).arg("--version").output();
    let output = output.map_err(|error| GitError::Program(format!("{program} cannot be run: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = parse_version(&text);
    let version = version
        .ok_or_else(|| GitError::Program(format!("{program} says '{}' as its version", text.trim())))?;
    if version < OLDEST {
        let Version { major, minor } = version;
        return Err(GitError::Program(format!("{program} is version {major}.{minor}, which is too old")));
    }
    Ok(version)
}

fn parse_version(text: &str) -> Option<Version> {
    let mut numbers = text.strip_prefix("git version ")?.split('.').map(|part| part.trim().parse().ok());
    Some(Version { major: numbers.next()??, minor: numbers.next()?? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_understood() {
        assert_eq!(parse_version("git version 2.39.5\n"), Some(Version { major: 2, minor: 39 }));
        assert!(Version { major: 2, minor: 38 } < OLDEST);
        assert_eq!(parse_version("nonsense"), None);
        assert!(git_version().unwrap() >= OLDEST);
    }
}
