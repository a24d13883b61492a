//! The one home of running stock `git`: with an environment of its own, no configuration of the
//! machine or the user, no prompts.

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::LazyLock;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, prlimit};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;

use crate::GitError;

/// So much is kept of what a program complains about.
const MAX_COMPLAINT: u64 = 64 * 1024;
/// What taking a pack apart may have of memory and of processor time. Its size in objects is bounded by the first: git
/// asks for room for all that a pack says it has in one piece.
const ADDRESS_SPACE_BYTES: u64 = 2 * 1024 * 1024 * 1024;
const PROCESSOR_SECONDS: u64 = 1800;
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
    /// Starts a command that is talked to.
    pub(crate) fn start(command: Command) -> Result<(Self, Pipes), GitError> {
        let mut running = Self::spawn(command)?;
        let pipes =
            Pipes { stdin: running.stdin()?, stdout: running.child.stdout.take().ok_or_else(no_pipe)? };
        widen(&pipes.stdout);
        Ok((running, pipes))
    }

    /// Starts a command that is only given something, within limits of its own. `written` is how long a file of its
    /// can become.
    pub(crate) fn start_limited(mut command: Command, written: u64) -> Result<(Self, ChildStdin), GitError> {
        command.stdout(Stdio::null());
        let mut running = Self::spawn(command)?;
        let stdin = running.stdin()?;
        let id = running.child.id().ok_or_else(|| GitError::Program("it has ended at once".into()))?;
        limit_process(id, written)?;
        widen(&stdin);
        Ok((running, stdin))
    }

    /// In a process group of its own: its children are killed with it.
    fn spawn(mut command: Command) -> Result<Self, GitError> {
        command.process_group(0).stdin(Stdio::piped());
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        let complaint = tokio::spawn(complaint(child.stderr.take().ok_or_else(no_pipe)?));
        Ok(Self { child, complaint })
    }

    fn stdin(&mut self) -> Result<ChildStdin, GitError> {
        self.child.stdin.take().ok_or_else(no_pipe)
    }

    /// Bounds its processor time. That can be raised later, up to what every limited program may have.
    pub fn limit_processor(&self, seconds: u64) -> Result<(), GitError> {
        // No id: it has ended.
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let limit =
            Rlimit { current: Some(seconds.min(PROCESSOR_SECONDS)), maximum: Some(PROCESSOR_SECONDS) };
        match pid.map(|pid| prlimit(Some(pid), Resource::Cpu, limit)).transpose() {
            Ok(_) => Ok(()),
            Err(error) => Err(std::io::Error::from(error).into()),
        }
    }

    /// Waits for the end: what it was, and what the program had to say about it, in lines.
    pub async fn end(&mut self) -> Result<(ExitStatus, String), GitError> {
        let status = self.child.wait().await?;
        let complaint = (&mut self.complaint).await.unwrap_or_default();
        Ok((status, complaint))
    }

    /// Ends it now, and waits until it is gone.
    pub async fn kill(mut self) {
        self.kill_group();
        let _ = self.child.wait().await;
    }

    fn kill_group(&self) {
        // No id: it has ended and been waited for, and the number may be somebody else's by now.
        if let Some(pid) = self.child.id().and_then(pid) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

fn pid(id: u32) -> Option<Pid> {
    Pid::from_raw(id.try_into().ok()?)
}

fn no_pipe() -> GitError {
    GitError::Program("a pipe to it is missing".into())
}

/// A pipe of the usual size is slower and does as well.
fn widen(pipe: impl AsFd) {
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES);
}

/// Bounds what a process may use: `written` is how long a file of its can become.
pub(crate) fn limit_process(id: u32, written: u64) -> Result<(), GitError> {
    let pid = pid(id).ok_or(GitError::Pack("a process without a number"))?;
    for (resource, limit) in [
        (Resource::As, ADDRESS_SPACE_BYTES),
        (Resource::Cpu, PROCESSOR_SECONDS),
        (Resource::Fsize, written),
        (Resource::Core, 0),
    ] {
        prlimit(Some(pid), resource, Rlimit { current: Some(limit), maximum: Some(limit) })
            .map_err(std::io::Error::from)?;
    }
    Ok(())
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_group();
        self.complaint.abort();
    }
}

async fn complaint(mut stderr: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let _ = (&mut stderr).take(MAX_COMPLAINT).read_to_end(&mut kept).await;
    // The rest is read all the same: a program that cannot complain waits until it can.
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&kept).into_owned()
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
