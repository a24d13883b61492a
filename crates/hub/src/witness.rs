//! Checkpoints outside of the database: every one that this server signed, in a file that only
//! grows. Whoever can rewrite the database, events, tree and checkpoints alike, has not yet
//! rewritten this; and copies of it elsewhere are out of their reach altogether.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use bastide_blobs::BlobError;
use bastide_ledger::{read_notes, write_note};

use crate::Problem;

/// The end of the file that holds its last note for certain: a note has less than 400 bytes.
const TAIL_BYTES: u64 = 4096;

#[derive(Clone)]
pub(crate) struct Witness(PathBuf);

impl Witness {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Adds a note, durably.
    pub(crate) fn add(&self, note: &str) -> Result<(), Problem> {
        let is_new = !self.0.exists();
        let options = OpenOptions::new().create(true).read(true).append(true).clone();
        let mut file = options.open(&self.0).map_err(BlobError::from)?;
        cut_half_a_note(&mut file).map_err(BlobError::from)?;
        let written = file.write_all(write_note(note).as_bytes()).and_then(|()| file.sync_all());
        written.map_err(BlobError::from)?;
        if is_new && let Some(folder) = self.0.parent() {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(BlobError::from)?;
        }
        Ok(())
    }

    /// All notes, in the order of their signing. What a crash left half written at the end is no
    /// note yet.
    pub(crate) fn notes(&self) -> Result<Vec<String>, Problem> {
        match fs::read_to_string(&self.0) {
            Ok(text) => Ok(read_notes(&text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Problem::internal(format!("{}: {error}", self.0.display()))),
        }
    }

    /// The note that was added last.
    pub(crate) fn last(&self) -> Result<Option<String>, Problem> {
        match File::open(&self.0).and_then(|mut file| tail(&mut file)) {
            Ok((text, _)) => Ok(read_notes(&text).pop()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Problem::internal(format!("{}: {error}", self.0.display()))),
        }
    }
}

/// The end of the file, and where it begins.
fn tail(file: &mut File) -> std::io::Result<(String, u64)> {
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), start))
}

/// What a crash left behind the last whole note would spoil the next one.
fn cut_half_a_note(file: &mut File) -> std::io::Result<()> {
    let (text, start) = tail(file)?;
    let whole: usize = read_notes(&text).iter().map(|note| write_note(note).len()).sum();
    if whole < text.len() { file.set_len(start + whole as u64) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back_and_half_a_note_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let witness = Witness::new(folder.path().join("checkpoints.txt"));
        assert!(witness.notes().unwrap().is_empty() && witness.last().unwrap().is_none());
        let note = |number: u32| format!("hub\n{number}\nAA==\n\n\u{2014} hub {}\n", "x".repeat(200));
        for number in 0..40 {
            witness.add(&note(number)).unwrap();
            let mut file = OpenOptions::new().append(true).open(&witness.0).unwrap();
            file.write_all(b"hub\n999\n").unwrap();
            assert_eq!(witness.last().unwrap(), Some(note(number)));
        }
        assert_eq!(witness.notes().unwrap(), (0..40).map(note).collect::<Vec<_>>());
    }
}
