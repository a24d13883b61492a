//! What commands print: a line or a table for people, JSON with `--json`, and on the terminal how
//! far a long command is. The only place that writes to the standard streams.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};

use serde_json::Value;

/// Prints JSON when it was asked for, and text otherwise.
pub fn print(json: bool, value: &Value, text: impl FnOnce() -> String) -> io::Result<()> {
    if json { line(&format!("{value:#}")) } else { line(text().trim_end()) }
}

/// One text and the end of its line. A reader who has gone (`| head`) has seen enough: that is no
/// failure. A full disk is one.
pub fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// A note for the operator. Nobody can be told when even this cannot be written.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A line on the terminal that tells how far a long command is. It is gone before anything else is
/// printed: with the end of the value that shows it.
pub struct Progress {
    shown: bool,
}

impl Progress {
    pub fn new() -> Self {
        Self { shown: io::stderr().is_terminal() }
    }

    pub fn show<N: Display>(&self, what: &str, done: N, all: N) {
        if self.shown {
            let _ = write!(io::stderr(), "\r{what}: {done} of {all}\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Rows in columns as wide as their widest cell.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let width = |column: usize| {
        let cells = std::iter::once(&head).chain(rows).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    std::iter::once(&head).chain(rows).map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["ann".into(), "1".into()], vec!["barbara".into(), "22".into()]];
        assert_eq!(table(&["name", "n"], &rows), "name     n\nann      1\nbarbara  22");
    }
}
