//! Stock git as the judge of the attribute lines that we write and read.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and git is the judge here"
)]

use std::path::Path;
use std::process::{Command, Stdio};

use bastide_inspect::attributes::{Attributes, Steps, default_attributes, line, literal};

const PATHS: &[&str] = &[
    "plain.dat",
    "#comment.dat",
    "!refused.dat",
    "!",
    "#",
    "\"quoted\".dat",
    "half\"quoted.dat",
    " leading and trailing ",
    "two  spaces.dat",
    "back\\slash.dat",
    "star*.dat",
    "[attr]x",
    "cla[s]s?.dat",
    "\u{3000}wide\u{3000}.dat",
    "\u{a0}no-break\u{85}",
    "ümläut 日本.dat",
    "folder/#comment.dat",
    "#folder/ plain.dat",
    "!folder/a b/\"c\".dat",
    "\u{3000}/\u{2028}x",
];

/// What git says of these paths: true where it gives them to LFS.
fn git_says(repo: &Path, paths: &[String]) -> Vec<bool> {
    let mut child = Command::new("git")
        .args(["check-attr", "-z", "--stdin", "filter"])
        .current_dir(repo)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let text: String = paths.iter().map(|path| format!("{path}\0")).collect();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut input, text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let fields: Vec<&str> = text.split_terminator('\0').collect();
    assert_eq!(fields.len(), paths.len() * 3, "{text}");
    fields.chunks(3).map(|fact| fact[2] == "lfs").collect()
}

fn repository(attributes: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new("git").args(["init", "--quiet"]).current_dir(&folder).status().unwrap();
    assert!(status.success());
    std::fs::write(folder.path().join(".gitattributes"), attributes).unwrap();
    folder
}

#[test]
fn git_reads_the_line_of_any_path_as_that_path() {
    for path in PATHS {
        let attributes = line(&literal(path));
        let folder = repository(&attributes);
        let asked = [(*path).to_owned(), format!("other/{path}"), format!("x{path}"), "unrelated".to_owned()];
        let expected = [true, false, false, false];
        assert_eq!(git_says(folder.path(), &asked), expected, "git: {path:?} by {attributes:?}");
        let ours = Attributes::parse(&attributes);
        assert_eq!(
            asked.map(|path| ours.is_large(&path, &mut Steps::default()).unwrap()),
            expected,
            "ours: {path:?} by {attributes:?}"
        );
    }
}

#[test]
fn we_read_attribute_files_as_git_does() {
    let files = [
        default_attributes(true),
        PATHS.iter().map(|path| format!("{path} filter=lfs\n")).collect(),
        PATHS.iter().map(|path| format!("\"{path}\" filter=lfs\n")).collect(),
        "*.dat filter=lfs\r\n\"a\\tb\" filter=lfs\nfolder/** -filter\n\u{3000}wide\u{3000}.dat filter=x\n"
            .to_owned(),
        "\u{feff}*.dat filter=lfs\n*star*.dat !filter\n[attr]large filter=lfs\n".to_owned(),
    ];
    let mut paths: Vec<String> = PATHS.iter().map(|path| (*path).to_owned()).collect();
    paths.extend(
        ["a\tb", "x.safetensors", "d/e/x.png", "saved_model/a/b", "folder/a/b.dat"].map(str::to_owned),
    );
    for attributes in files {
        let folder = repository(&attributes);
        let ours = Attributes::parse(&attributes);
        for (path, git) in paths.iter().zip(git_says(folder.path(), &paths)) {
            assert_eq!(
                ours.is_large(path, &mut Steps::default()).unwrap(),
                git,
                "{path:?} in {attributes:?}"
            );
        }
    }
}
