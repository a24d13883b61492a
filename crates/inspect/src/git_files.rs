//! Files that git itself reads in every folder. What its own `fsck --strict` refuses is refused
//! before it is committed: a repository has to be one that anybody can clone and push elsewhere.

/// Longest `.gitattributes`, `.gitmodules` and `.lfsconfig`.
pub const MAX_GIT_FILE_BYTES: usize = 1024 * 1024;
/// Longest line of `.gitattributes`: git ignores longer ones, and its checks refuse them.
pub const MAX_ATTRIBUTE_LINE: usize = 2047;

/// What is wrong with a file of git's; nothing for files of other names.
pub fn check(name: &str, content: &[u8]) -> Result<(), String> {
    if !is_git_file(name) {
        return Ok(());
    }
    if content.len() > MAX_GIT_FILE_BYTES {
        return Err(format!("{name} has at most {MAX_GIT_FILE_BYTES} bytes"));
    }
    let checked = match name {
        ".gitmodules" => modules(content),
        ".lfsconfig" => lfs_config(content),
        _ => attributes(content),
    };
    checked.map_err(|why| format!("{name}: {why}"))
}

/// Does git read a file of this name as its own? Such a file is a regular one.
pub fn is_git_file(name: &str) -> bool {
    matches!(name, ".gitattributes" | ".gitmodules" | ".lfsconfig")
}

fn attributes(content: &[u8]) -> Result<(), String> {
    match content.split(|byte| *byte == b'\n').position(|line| line.len() > MAX_ATTRIBUTE_LINE) {
        Some(at) => Err(format!("line {} has more than {MAX_ATTRIBUTE_LINE} bytes", at + 1)),
        None => Ok(()),
    }
}

/// Submodules in their plain form only. Git's own format has quotes, escapes and continued lines,
/// and each has hidden an attack before: nobody who writes this file needs them.
fn modules(content: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(content).map_err(|_| "it is not valid UTF-8".to_owned())?;
    for (number, line) in (1..).zip(text.lines()) {
        module_line(line.trim()).map_err(|why| format!("line {number} {why}"))?;
    }
    Ok(())
}

fn module_line(line: &str) -> Result<(), &'static str> {
    if line.is_empty() || line.starts_with(['#', ';']) {
        return Ok(());
    }
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return Err("has control characters");
    }
    if let Some(section) = line.strip_prefix('[') {
        let name = section.strip_prefix("submodule \"").and_then(|rest| rest.strip_suffix("\"]"));
        return match name {
            Some(name) if is_plain(name) => Ok(()),
            _ => Err("does not name a submodule plainly, as in [submodule \"folder/name\"]"),
        };
    }
    let (key, value) = line.split_once('=').ok_or("is not like: key = value")?;
    let value = value.trim();
    let good = match key.trim().to_ascii_lowercase().as_str() {
        "path" => is_plain(value),
        "url" => is_plain_url(value),
        "branch" | "ignore" | "update" | "shallow" | "fetchrecursesubmodules" => {
            !value.starts_with(['-', '!']) && !value.contains(['"', '\\'])
        }
        _ => return Err("has a key that submodules do not have"),
    };
    if good { Ok(()) } else { Err("has a value that git would not take, or that has quotes or escapes") }
}

/// What `.lfsconfig` may set. None of it says where large files are, or how to sign in there: who
/// clones would send their credentials to wherever somebody else has written.
const LFS_KEYS: [&str; 8] = [
    "allowincompletepush",
    "concurrenttransfers",
    "fetchexclude",
    "fetchinclude",
    "locksverify",
    "maxretries",
    "setlockablereadonly",
    "skipdownloaderrors",
];

/// Settings of git-lfs in their plain form, for the same reason as submodules.
fn lfs_config(content: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(content).map_err(|_| "it is not valid UTF-8".to_owned())?;
    for (number, line) in (1..).zip(text.lines()) {
        lfs_line(line.trim()).map_err(|why| format!("line {number} {why}"))?;
    }
    Ok(())
}

fn lfs_line(line: &str) -> Result<(), String> {
    if line.is_empty() || line.starts_with(['#', ';']) {
        return Ok(());
    }
    if line.chars().any(|c| c.is_control() && c != '\t') || line.contains('\\') {
        return Err("has control characters or escapes".into());
    }
    if line.starts_with('[') {
        return match line.eq_ignore_ascii_case("[lfs]") {
            true => Ok(()),
            false => Err(format!(
                "begins {line:.80}: only [lfs] is taken here. What is about a server, its URL or access to it, belongs \
                 into .git/config of those who want it"
            )),
        };
    }
    let key = line.split_once('=').map_or(line, |(key, _)| key).trim().to_ascii_lowercase();
    if LFS_KEYS.contains(&key.as_str()) {
        return Ok(());
    }
    if key.ends_with("url") {
        return Err(format!(
            "sets {key:.80}: clients would send their credentials there. Remove it: large files are beside the \
             repository, and git-lfs finds them without it"
        ));
    }
    Err(format!("sets {key:.80}: only {} are taken here", LFS_KEYS.join(", ")))
}

/// The name or the folder of a submodule.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(['-', '/'])
        && !name.contains(['"', '\\', '#', ';'])
        && name.split('/').all(|part| !part.is_empty() && part != "..")
}

fn is_plain_url(url: &str) -> bool {
    let safe = |c: char| c.is_ascii_alphanumeric() || "._~/:@+-".contains(c);
    if !url.chars().all(safe) {
        return false;
    }
    let host =
        ["https://", "http://", "ssh://", "git://", "git@"].iter().find_map(|start| url.strip_prefix(start));
    match host {
        Some(host) => host.starts_with(|c: char| c.is_ascii_alphanumeric()),
        // Beside or above this repository.
        None => {
            let mut rest = url;
            while let Some(above) = rest.strip_prefix("../").or_else(|| rest.strip_prefix("./")) {
                rest = above;
            }
            rest != url && rest.starts_with(|c: char| c.is_ascii_alphanumeric())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One submodule with these fields.
    fn module(name: &str, path: &str, url: &str) -> String {
        format!("[submodule \"{name}\"]\n\tpath = {path}\n\turl = {url}\n")
    }

    #[test]
    fn ordinary_submodules_pass() {
        for url in
            ["https://example.org/a/b.git", "git@example.org:a/b.git", "../b", "ssh://git@example.org:22/a"]
        {
            assert_eq!(check(".gitmodules", module("libs/b", "libs/b", url).as_bytes()), Ok(()), "{url}");
        }
        assert_eq!(check(".gitmodules", b"# none\n\n"), Ok(()));
        assert_eq!(check("gitmodules", b"[submodule \"..\"]"), Ok(()));
    }

    #[test]
    fn what_git_refuses_is_refused() {
        for (name, path, url) in [
            ("../../x", "x", "https://example.org/x"),
            ("a/../b", "x", "https://example.org/x"),
            ("x", "-u./x", "https://example.org/x"),
            ("x", "x", "-u./x"),
            ("x", "x", "ext::sh"),
            ("x", "x", "https://example.org%0ahost=evil"),
            ("x", "x", "https:///x"),
            ("x", "x", "../:x"),
            ("x", "x", "../\\x"),
            ("x", "x", "\"-u./x\""),
            ("x\\..\\y", "x", "https://example.org/x"),
        ] {
            assert!(check(".gitmodules", module(name, path, url).as_bytes()).is_err(), "{name} {path} {url}");
        }
        assert!(check(".gitmodules", b"[submodule \"x\"]\n\tupdate = !sh\n").is_err());
        assert!(check(".gitmodules", b"[submodule \"x\"]\n\tpath = a\\\nb\n").is_err());
        assert!(check(".gitmodules", b"[core]\n").is_err());
    }

    #[test]
    fn lfs_settings_name_no_server() {
        for good in [
            "",
            "# none\n[lfs]\n\tfetchexclude = *.bin\n\tlocksverify = true\r\n",
            "[LFS]\nFetchInclude = \"a, b\"\n",
        ] {
            assert_eq!(check(".lfsconfig", good.as_bytes()), Ok(()), "{good}");
        }
        for bad in [
            "[lfs]\nurl = https://evil.example/x\n",
            "[lfs]\n\tURL=https://evil.example/x\n",
            "[lfs]\nurl = ../x\n",
            "[lfs]\npushurl = https://evil.example/x\n",
            "[lfs] url = https://evil.example/x\n",
            "[lfs \"https://evil.example/\"]\naccess = basic\n",
            "[lfs \"customtransfer.x\"]\npath = sh\n",
            "[remote \"origin\"]\nlfsurl = https://evil.example/x\n",
            "[url \"https://evil.example/\"]\ninsteadOf = https://hub.example/\n",
            "[lfs]\nstandalonetransferagent = x\n",
            "[lfs]\ngitprotocol = http\n",
            "[lfs]\nfetchinclude = a\\\nurl = x\n",
            "[lfs]\nfetchinclude = a\rurl = x\n",
            "\u{feff}[lfs]\nurl = x\n",
            "\u{a0}[include]\npath = x\n",
        ] {
            assert!(check(".lfsconfig", bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(check(".lfsconfig", b"[lfs]\nfetchinclude = \xff\n").is_err());
        let said = check(".lfsconfig", b"[lfs]\nurl = https://evil.example/x").unwrap_err();
        assert!(said.starts_with(".lfsconfig: line 2 sets url: clients would send"), "{said}");
    }

    #[test]
    fn limits_hold_at_their_edge() {
        let line = "x".repeat(MAX_ATTRIBUTE_LINE);
        assert!(check(".gitattributes", format!("a\n{line}\n").as_bytes()).is_ok());
        assert!(check(".gitattributes", format!("a\n{line}x").as_bytes()).is_err());
        assert!(check(".gitattributes", &vec![b'\n'; MAX_GIT_FILE_BYTES]).is_ok());
        assert!(check(".gitattributes", &vec![b'\n'; MAX_GIT_FILE_BYTES + 1]).is_err());
    }
}
