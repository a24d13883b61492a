//! Starting: what goes wrong says what to do, and what is asked for wrongly is told apart from
//! what failed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and run the program itself"
)]

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn bastide(data: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bastide"));
    command.args(words).arg("--data").arg(data).stdin(Stdio::null());
    command
}

fn run(data: &Path, words: &[&str]) -> Output {
    bastide(data, words).output().unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server that is killed with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    fn signal(&self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// Its exit code, and how long it took to end.
    fn end(mut self) -> (Option<i32>, Duration) {
        let started = Instant::now();
        (self.0.wait().unwrap().code(), started.elapsed())
    }
}

fn serve(data: &Path, port: u16) -> Server {
    let listen = format!("127.0.0.1:{port}");
    let child =
        bastide(data, &["serve", "--listen", &listen]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let server = Server(child.unwrap());
    let started = Instant::now();
    while TcpStream::connect(&listen).is_err() {
        assert!(started.elapsed() < Duration::from_secs(20), "the server does not come up");
        std::thread::sleep(Duration::from_millis(20));
    }
    server
}

#[track_caller]
fn fails(output: &Output, text: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(text), "{error}");
}

#[test]
fn mistakes_at_the_start_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fails(&run(&data, &["serve", "--listen", &address]), "the port is taken: stop what listens there, or");
    fails(&run(&data, &["serve", "--listen", "192.0.2.1:7860"]), "choose another with --listen");

    let server = serve(&data, free_port());
    let second = format!("127.0.0.1:{}", free_port());
    fails(&run(&data, &["serve", "--listen", &second]), "another server is running on");
    drop(server);

    std::fs::write(folder.path().join("file"), b"").unwrap();
    fails(&run(&folder.path().join("file"), &["serve"]), "is not a folder: name another with --data");
    fails(
        &run(&folder.path().join("none"), &["user", "list"]),
        "run `bastide init` or `bastide serve` first",
    );
    // Not even root can write there.
    fails(
        &run(Path::new("/proc/hub"), &["serve"]),
        "cannot make the folder /proc/hub: name another with --data",
    );
    let blocked = folder.path().join("blocked");
    std::fs::create_dir_all(blocked.join("serve.lock")).unwrap();
    fails(&run(&blocked, &["serve"]), "is the folder yours? Name another with --data");
}

#[test]
fn wrong_settings_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    for (text, cure) in [
        ("listn = 'x'", "unknown field `listn`"),
        ("listen = ", "bastide.toml is not valid: TOML parse error at line 1"),
        ("listen = 'everywhere'", "invalid socket address"),
        ("default_visibility = 'open'", "unknown variant `open`"),
        ("public_url = 'https://hub.example.org/path'", "without a path"),
        ("read_record_days = 0", "read_record_days is 0, but has to be from 1 to"),
        ("lfs_multipart_bytes = -1", "invalid value"),
        ("storage = 'bucket'", "storage has to begin with s3://"),
    ] {
        std::fs::write(data.join("bastide.toml"), text).unwrap();
        for words in [&["serve"][..], &["user", "list"]] {
            fails(&run(data, words), cure);
        }
    }
    std::fs::remove_file(data.join("bastide.toml")).unwrap();
    let mut serve = bastide(data, &["serve"]);
    fails(&serve.env("BASTIDE_LOG", "a=b=c").output().unwrap(), "BASTIDE_LOG is 'a=b=c', but has to be like");
    let storage = ["serve", "--storage", "s3://bucket?endpoint=http://127.0.0.1:1&region=r"];
    let mut serve = bastide(data, &storage);
    serve.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b");
    fails(&serve.output().unwrap(), "cannot use `storage`: check its address, AWS_ACCESS_KEY_ID and");
}

#[test]
fn a_database_of_another_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    assert!(run(data, &["init", "--admin", "ann", "--email", "ann@example.org"]).status.success());
    let connection = rusqlite::Connection::open(data.join("bastide.db")).unwrap();
    connection.execute("INSERT INTO schema_version (version, checksum) VALUES (999, 'x')", []).unwrap();
    fails(&run(data, &["user", "list"]), "use the newer program");
    connection.execute("DELETE FROM schema_version WHERE version = 999", []).unwrap();
    connection.execute("UPDATE schema_version SET checksum = 'x'", []).unwrap();
    fails(&run(data, &["user", "list"]), "another build");
}

/// A program of this name that says what it is told to.
fn fake_git(folder: &Path, version: &str) {
    let script = format!("#!/bin/sh\necho 'git version {version}'\n");
    std::fs::write(folder.join("git"), script).unwrap();
    std::fs::set_permissions(folder.join("git"), Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn git_is_looked_for_where_the_path_says() {
    let folder = tempfile::tempdir().unwrap();
    let (data, programs) = (folder.path().join("data"), folder.path().join("programs"));
    std::fs::create_dir(&programs).unwrap();
    let start = || {
        let words = ["init", "--admin", "ann", "--email", "ann@example.org"];
        bastide(&data, &words).env("PATH", &programs).output().unwrap()
    };
    fails(&start(), "Bastide needs git 2.39 or newer");
    fails(&start(), "there is no program `git` on the PATH");
    fake_git(&programs, "2.38.9");
    fails(&start(), "is version 2.38, which is too old");
    std::fs::write(programs.join("git"), "").unwrap();
    fails(&start(), "Bastide needs git 2.39 or newer");
    fake_git(&programs, "2.39.0");
    assert!(start().status.success());
}

#[test]
fn what_is_asked_for_wrongly_is_told_apart_from_what_failed() {
    let folder = tempfile::tempdir().unwrap();
    for words in [
        &["dance"][..],
        &["token", "create"],
        &["token", "create", "--user", "ann", "--role", "god"],
        &["token", "create", "--user", "ann", "--role", "read", "--expires", "0d"],
        &["token", "create", "--user", "ann", "--role", "read", "--expires", "3651d"],
        &["token", "create", "--user", "ann", "--role", "read", "--expires", "soon"],
        &["org", "member", "lab", "bob", "boss"],
        &["user", "add", "not a name", "--email", "x@example.org"],
        &["serve", "--listen", "everywhere"],
        &["serve", "--default-visibility", "open"],
    ] {
        assert_eq!(run(folder.path(), words).status.code(), Some(2), "{words:?}");
    }
}

/// A closed pipe ended commands with a panic.
#[test]
fn commands_end_quietly_when_nobody_reads_and_fail_when_the_disk_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let data = &folder.path().join("data");
    assert!(run(data, &["init", "--admin", "ann", "--email", "ann@example.org"]).status.success());
    for words in [&["user", "list"][..], &["fsck"], &["ledger", "checkpoint"], &["user", "list", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let closed = bastide(data, words).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((closed.status.code(), closed.stderr.as_slice()), (Some(0), &[][..]), "{words:?}");
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        fails(&bastide(data, words).stdout(full).stderr(Stdio::piped()).output().unwrap(), "No space left");
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert_eq!(
            bastide(data, &["org", "members", "nowhere"]).stderr(full).status().unwrap().code(),
            Some(1)
        );
    }
}

/// The line of progress was left in front of the result.
#[test]
fn progress_is_gone_before_the_result() {
    let folder = tempfile::tempdir().unwrap();
    let data = &folder.path().join("data");
    assert!(run(data, &["init", "--admin", "ann", "--email", "ann@example.org"]).status.success());
    let words = format!("{} fsck --data {}", env!("CARGO_BIN_EXE_bastide"), data.display());
    let terminal = Command::new("script").args(["-qec", &words, "/dev/null"]).output().unwrap();
    let text = String::from_utf8(terminal.stdout).unwrap();
    assert!(
        text.ends_with("\r\x1b[K0 repositories, 0 packs, 0 xorbs, 0 large files: all is well\r\n"),
        "{text:?}"
    );
}

/// A connection whose request never ends, to a hub that is then asked to stop.
fn stalled(data: &Path) -> (Server, TcpStream) {
    let port = free_port();
    let server = serve(data, port);
    let mut stalled = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let head = "POST /api/validate-yaml HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{";
    stalled.write_all(head.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    server.signal();
    (server, stalled)
}

/// One stalled transfer kept the hub from ever ending.
#[test]
fn a_hub_that_is_told_to_stop_gives_transfers_a_grace_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _stalled) = stalled(&folder.path().join("data"));
    let (code, took) = server.end();
    assert_eq!(code, Some(0));
    assert!(took > Duration::from_secs(8) && took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn a_second_signal_ends_a_hub_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (server, _stalled) = stalled(&data);
    std::thread::sleep(Duration::from_millis(300));
    server.signal();
    let (code, took) = server.end();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
    // The ledger was signed on the way out.
    let verified = run(&data, &["ledger", "verify", "--json"]);
    let verified: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(verified["events"], verified["vouched"]);
}

/// The lines that `init` and `serve` print used to name a hub on the default port, whatever they
/// were told, and a program that is on nobody's path.
#[test]
fn the_next_steps_are_those_of_this_hub() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("my data");
    let listen = format!("127.0.0.1:{}", free_port());
    let mut serve = bastide(&data, &["serve", "--json", "--listen", &listen]);
    serve.env("BASTIDE_LOG_JSON", "1").stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = Server(serve.spawn().unwrap());
    let mut start = String::new();
    let mut lines = BufReader::new(server.0.stdout.take().unwrap());
    while !start.ends_with("}\n") {
        assert!(lines.read_line(&mut start).unwrap() > 0, "{start}");
    }
    let start: serde_json::Value = serde_json::from_str(&start).unwrap();
    let url = format!("http://{listen}");
    assert_eq!((start["url"].as_str(), start["empty"].as_bool()), (Some(url.as_str()), Some(true)));

    let page = page(&listen);
    let line = page.lines().find_map(|line| line.trim().strip_prefix("<pre tabindex=\"0\"><code>")).unwrap();
    let line = line.trim_end_matches("</code></pre>").replace("&#39;", "'");
    assert!(line.contains("/my data' --admin ann"), "{line}");
    assert!(page.contains(&format!("export HF_ENDPOINT={url}\n")), "{page}");
    // Pasted, with nothing but a shell.
    let made = Command::new("sh").args(["-c", &line]).current_dir("/").output().unwrap();
    let text = String::from_utf8(made.stdout).unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(text.contains(&format!("The hub is running at {url}.")), "{text}");
    assert!(text.contains(&format!("export HF_ENDPOINT={url}\n    export HF_TOKEN=hf_")), "{text}");
    assert!(!text.contains("auth login") && !text.contains("Start the hub"), "{text}");
}

fn page(address: &str) -> String {
    let started = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(error) => assert!(started.elapsed() < Duration::from_secs(20), "{error}"),
        }
    };
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200 OK") && text.contains("content-security-policy: default-src 'none'")
    );
    text
}

#[test]
fn a_hub_that_does_not_run_yet_is_started_with_what_it_was_made_with() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let words = ["init", "--admin", "ann", "--email", "ann@example.org", "--listen", "127.0.0.1:9999"];
    let text = String::from_utf8(run(&data, &words).stdout).unwrap();
    let line =
        format!("{} serve --data {} --listen 127.0.0.1:9999", env!("CARGO_BIN_EXE_bastide"), data.display());
    assert!(
        text.contains("Start the hub, which will be at http://127.0.0.1:9999:") && text.contains(&line),
        "{text}"
    );
}

#[test]
fn the_data_folder_is_for_its_user_alone() {
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let made = run(&data, &["init", "--admin", "ann", "--email", "ann@example.org"]);
    assert!(made.status.success() && !String::from_utf8_lossy(&made.stderr).contains("warning"));
    assert_eq!(mode(&data), 0o700);
    std::fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
    let warned = run(&data, &["user", "list"]);
    assert!(warned.status.success());
    assert!(String::from_utf8_lossy(&warned.stderr).contains("run `chmod 700 "), "{warned:?}");
}

/// A mistyped `--data` used to become an empty hub with keys of its own, in which all was well.
#[test]
fn commands_make_no_hub_where_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes.txt"), b"mine").unwrap();
    for words in [&["user", "list"][..], &["fsck"], &["gc"], &["ledger", "verify"], &["ledger", "checkpoint"]]
    {
        fails(&run(folder.path(), words), "there is no hub in");
    }
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["notes.txt"]);
}

#[test]
fn the_first_minutes_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let json = |words: &[&str]| -> serde_json::Value {
        let output = run(data, words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let made = json(&["init", "--admin", "ann", "--email", "ann@example.org", "--json"]);
    assert!(made["token"].as_str().unwrap().starts_with("hf_"));
    fails(&run(data, &["init", "--admin", "bob", "--email", "bob@example.org"]), "has users already");
    json(&["user", "add", "bob", "--email", "bob@example.org", "--json"]);
    fails(&run(data, &["user", "add", "BOB", "--email", "b@example.org"]), "the name 'BOB' is taken");
    fails(&run(data, &["user", "add", "cem", "--email", "x\ny@example.org"]), "is not an e-mail address");
    json(&["org", "add", "lab", "--owner", "ann", "--json"]);
    json(&["org", "member", "lab", "bob", "write", "--json"]);
    fails(&run(data, &["org", "member", "lab", "ann", "read"]), "at least one admin");
    assert_eq!(json(&["org", "members", "lab", "--json"]).as_array().unwrap().len(), 2);
    let token = json(&["token", "create", "--user", "bob", "--role", "read", "--expires", "1d", "--json"]);
    let id = token["id"].as_str().unwrap();
    let listed = json(&["token", "list", "--user", "bob", "--json"]);
    assert!(!listed.to_string().contains(token["token"].as_str().unwrap()));
    json(&["token", "revoke", "--user", "bob", id, "--json"]);
    fails(&run(data, &["token", "revoke", "--user", "bob", id]), "no live token");
    json(&["user", "disable", "bob", "--json"]);

    let export = folder.path().join("export");
    let exported = json(&["ledger", "export", export.to_str().unwrap(), "--json"]);
    let key = exported["publicKey"].as_str().unwrap();
    let verify = ["ledger", "verify", "--export", export.to_str().unwrap(), "--key", key, "--json"];
    assert!(json(&verify)["events"].as_i64().unwrap() >= 8);
    let events = std::fs::read_to_string(export.join("events.jsonl")).unwrap();
    std::fs::write(export.join("events.jsonl"), events.replace("\"bob\"", "\"eve\"")).unwrap();
    fails(&run(data, &verify), "not those that the checkpoint was signed over");
    let kept = export.join("checkpoints.txt");
    let verify = ["ledger", "verify", "--checkpoint", kept.to_str().unwrap(), "--json"];
    assert_eq!(json(&verify)["problems"], serde_json::json!([]));
    assert_eq!(json(&["ledger", "verify", "--json"])["problems"], serde_json::json!([]));
    assert_eq!(json(&["gc", "--json"])["removedXorbs"], 0);
    assert_eq!(json(&["fsck", "--deep", "--json"])["problems"], serde_json::json!([]));
}
