//! The one home of running stock `git`: with an environment of its own, no configuration of the
//! machine or the user, no prompts.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::LazyLock;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;

use crate::GitError;

/// So much is kept of what a program complains about.
const MAX_COMPLAINT: u64 = 4096;
/// Bytes that wait in a pipe, where the system allows it: what is made and what is sent go on beside
/// each other for longer.
const PIPE_BYTES: usize = 1024 * 1024;

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

/// A git that runs beside us. It ends with this value, and so does whatever it has started.
pub struct Running {
    child: Child,
    complaint: JoinHandle<String>,
}

/// The two ends of a running git.
pub struct Pipes {
    pub stdin: ChildStdin,
    pub stdout: ChildStdout,
}

impl Running {
    /// Starts a command, in a process group of its own: its children are killed with it.
    pub(crate) fn start(mut command: Command) -> Result<(Self, Pipes), GitError> {
        command.process_group(0).stdin(Stdio::piped());
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        let no_pipe = || GitError::Program("a pipe to it is missing".into());
        let stdin = child.stdin.take().ok_or_else(no_pipe)?;
        let stdout = child.stdout.take().ok_or_else(no_pipe)?;
        let stderr = child.stderr.take().ok_or_else(no_pipe)?;
        // A pipe of the usual size is slower and does as well.
        let _ = rustix::pipe::fcntl_setpipe_size(&stdout, PIPE_BYTES);
        let complaint = tokio::spawn(complaint(stderr));
        Ok((Self { child, complaint }, Pipes { stdin, stdout }))
    }

    /// Waits for the end: what it was, and what the program had to say about it.
    pub async fn end(mut self) -> Result<(ExitStatus, String), GitError> {
        let status = self.child.wait().await?;
        let complaint = (&mut self.complaint).await.unwrap_or_default();
        Ok((status, complaint))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // No id: it has ended and been waited for, and the number may be somebody else's by now.
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        if let Some(pid) = pid {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        self.complaint.abort();
    }
}

async fn complaint(mut stderr: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let _ = (&mut stderr).take(MAX_COMPLAINT).read_to_end(&mut kept).await;
    // The rest is read all the same: a program that cannot complain waits until it can.
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&kept).trim().replace('\n', "; ")
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
