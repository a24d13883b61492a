//! The judgement of stock git, for `fsck --deep`: what it refuses, others cannot clone or push on.

use crate::process::git;
use crate::{GitError, Repo};

/// Complaints that are kept of one repository.
const MAX_COMPLAINTS: usize = 100;

impl Repo {
    /// What `git fsck --strict` has to say about the repository's packs; nothing when all is well.
    pub fn strict_complaints(&self) -> Result<Vec<String>, GitError> {
        let output = git(self.folder())
            .args(["fsck", "--strict", "--full", "--no-dangling", "--no-progress", "--no-reflogs"])
            .output()?;
        if output.status.success() {
            return Ok(Vec::new());
        }
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let lines = text.iter().flat_map(|text| text.lines()).filter(|line| !line.starts_with("notice:"));
        let mut complaints: Vec<String> = lines.take(MAX_COMPLAINTS).map(ToOwned::to_owned).collect();
        if complaints.is_empty() {
            complaints.push("git fsck --strict fails without saying why".to_owned());
        }
        Ok(complaints)
    }
}
