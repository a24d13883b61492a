//! Starting: what goes wrong says what to do, and what is asked for wrongly is told apart from
//! what failed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and run the program itself"
)]

use std::fs::Permissions;
use std::net::TcpListener;
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

fn serve(data: &Path, port: u16) -> Server {
    let listen = format!("127.0.0.1:{port}");
    let child =
        bastide(data, &["serve", "--listen", &listen]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let server = Server(child.unwrap());
    let started = Instant::now();
    while std::net::TcpStream::connect(&listen).is_err() {
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
    fails(&run(&data, &["serve", "--listen", &address]), "the port is taken");

    let server = serve(&data, free_port());
    let second = format!("127.0.0.1:{}", free_port());
    fails(&run(&data, &["serve", "--listen", &second]), "another server is running on");
    drop(server);

    std::fs::write(folder.path().join("file"), b"").unwrap();
    fails(&run(&folder.path().join("file"), &["serve"]), "is not a folder");
    fails(
        &run(&folder.path().join("none"), &["user", "list"]),
        "run `bastide init` or `bastide serve` first",
    );

    std::fs::write(data.join("bastide.toml"), "listn = 'x'").unwrap();
    fails(&run(&data, &["user", "list"]), "unknown field `listn`");
    std::fs::write(data.join("bastide.toml"), "public_url = 'https://hub.example.org/path'").unwrap();
    fails(&run(&data, &["user", "list"]), "without a path");
    std::fs::remove_file(data.join("bastide.toml")).unwrap();

    let connection = rusqlite::Connection::open(data.join("bastide.db")).unwrap();
    connection.execute("INSERT INTO schema_version (version, checksum) VALUES (999, 'x')", []).unwrap();
    fails(&run(&data, &["user", "list"]), "use the newer program");
    connection.execute("DELETE FROM schema_version WHERE version = 999", []).unwrap();
    connection.execute("UPDATE schema_version SET checksum = 'x'", []).unwrap();
    fails(&run(&data, &["user", "list"]), "another build");

    assert_eq!(run(&data, &["token", "create"]).status.code(), Some(2));
    assert_eq!(run(&data, &["dance"]).status.code(), Some(2));
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
