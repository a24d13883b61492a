//! What is said around the pack of a push (`gitprotocol-pack`): the refs that are advertised, the commands that come
//! back, and the report at the end.

use bastide_core::Oid;
use bytes::Bytes;

use crate::GitError;
use crate::packet::{FLUSH, Packet, Packets, push_band, push_line};

/// Refs that one push may move.
pub const MAX_PUSH_COMMANDS: usize = 1_000;
/// Lines that are read before a push is cut off. Those of too large a push are read to their end, so that the client
/// is there to be told.
const MAX_LINES: usize = 100_000;
/// Longest line: two ids, a ref name, and for the first one what the client can do.
const MAX_LINE_BYTES: usize = 4096;
/// Longest name that is read. A name that is too long for a ref is refused by name.
const MAX_NAME_BYTES: usize = 1024;
const NO_OBJECT: &str = "0000000000000000000000000000000000000000";
const SERVICE: &[u8] = b"# service=git-receive-pack\n";
const CAPABILITIES: &str = "report-status report-status-v2 delete-refs side-band-64k quiet atomic ofs-delta \
    object-format=sha1 agent=bastide";

/// One move of a ref, as a client wants it. The name is text without control characters, and no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub name: String,
    pub old: Option<Oid>,
    pub new: Option<Oid>,
}

/// What the client can do with our answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a word of the protocol")]
pub struct Capabilities {
    pub report: bool,
    pub side_band: bool,
    pub atomic: bool,
    pub quiet: bool,
}

/// All that comes before the pack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commands {
    pub list: Vec<Command>,
    pub capabilities: Capabilities,
    /// There were more than a push may have.
    pub too_many: bool,
}

impl Commands {
    /// A push that only removes refs brings no pack.
    pub fn has_pack(&self) -> bool {
        self.list.iter().any(|command| command.new.is_some())
    }
}

/// Reads commands as they come.
#[derive(Debug)]
pub struct CommandReader {
    packets: Packets,
    commands: Commands,
    lines: usize,
}

impl Default for CommandReader {
    fn default() -> Self {
        // A line of one byte more is seen to be too long.
        let packets = Packets::new(MAX_LINE_BYTES + 1);
        Self { packets, commands: Commands::default(), lines: 0 }
    }
}

impl CommandReader {
    /// Takes more of the request. When the commands have ended: them, and what of the pack has come with them.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<(Commands, Bytes)>, GitError> {
        let Self { packets, commands, lines } = self;
        let mut ended = None;
        let rest = packets.feed(bytes, |packet| {
            ended = match packet {
                Packet::Line(line) => commands.line(line, lines).err().map(Err),
                Packet::Flush => Some(Ok(())),
                Packet::Delimiter | Packet::End => {
                    Some(Err(GitError::Protocol("a packet that has no place in a push")))
                }
            };
            ended.is_none()
        });
        let rest = Bytes::copy_from_slice(rest?);
        ended.transpose().map(|ended| ended.map(|()| (std::mem::take(commands), rest)))
    }
}

impl Commands {
    fn line(&mut self, line: &[u8], lines: &mut usize) -> Result<(), GitError> {
        *lines += 1;
        if *lines > MAX_LINES {
            return Err(GitError::Protocol("a push of far too many refs"));
        }
        if line.len() > MAX_LINE_BYTES {
            return Err(GitError::Protocol("a line is too long"));
        }
        let text =
            std::str::from_utf8(line).map_err(|_| GitError::Protocol("a ref name is not valid UTF-8"))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        // Where a shallow clone ends. All that the new commits need has to be here anyway.
        if let Some(id) = text.strip_prefix("shallow ") {
            return id.parse::<Oid>().map(drop).map_err(|_| GitError::Protocol("a bad shallow line"));
        }
        let (text, capabilities) = match text.split_once('\0') {
            Some((text, words)) if self.list.is_empty() => (text, Some(words)),
            Some(_) => return Err(GitError::Protocol("capabilities come with the first command")),
            None => (text, None),
        };
        let command = parse_command(text)?;
        if let Some(words) = capabilities {
            self.capabilities = parse_capabilities(words)?;
        }
        if self.list.len() >= MAX_PUSH_COMMANDS {
            self.too_many = true;
        } else {
            self.list.push(command);
        }
        Ok(())
    }
}

fn parse_command(text: &str) -> Result<Command, GitError> {
    let mut words = text.splitn(3, ' ');
    let (Some(old), Some(new), Some(name)) = (words.next(), words.next(), words.next()) else {
        return Err(GitError::Protocol("a command has two ids and a name"));
    };
    // Whatever else may be wrong with a name, it is said by name: it must not carry anything along.
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(|c: char| c.is_control() || c == ' ') {
        return Err(GitError::Protocol("a ref name with control characters or spaces, or far too long"));
    }
    Ok(Command { name: name.to_owned(), old: parse_id(old)?, new: parse_id(new)? })
}

fn parse_id(text: &str) -> Result<Option<Oid>, GitError> {
    if text == NO_OBJECT {
        return Ok(None);
    }
    let lower = !text.contains(|c: char| c.is_ascii_uppercase());
    text.parse().ok().filter(|_| lower).map(Some).ok_or(GitError::Protocol("a bad object id"))
}

fn parse_capabilities(text: &str) -> Result<Capabilities, GitError> {
    let mut found = Capabilities::default();
    for word in text.split(' ') {
        match word {
            "report-status" | "report-status-v2" => found.report = true,
            "side-band-64k" => found.side_band = true,
            "atomic" => found.atomic = true,
            "quiet" => found.quiet = true,
            "push-options" => return Err(GitError::Protocol("push options were not offered")),
            _ if word.starts_with("push-cert") => {
                return Err(GitError::Protocol("signed pushes were not offered"));
            }
            _ if word.strip_prefix("object-format=").is_some_and(|format| format != "sha1") => {
                return Err(GitError::Protocol("repositories here have SHA-1 ids"));
            }
            _ => {}
        }
    }
    Ok(found)
}

/// The refs of a repository, for those who want to push.
pub fn advertise<'a>(refs: impl IntoIterator<Item = (&'a str, Oid)>) -> Vec<u8> {
    let mut out = Vec::new();
    push_line(&mut out, SERVICE);
    out.extend_from_slice(FLUSH);
    let mut first = true;
    for (name, target) in refs {
        let words = if first { format!("\0{CAPABILITIES}") } else { String::new() };
        push_line(&mut out, format!("{target} {name}{words}\n").as_bytes());
        first = false;
    }
    if first {
        push_line(&mut out, format!("{NO_OBJECT} capabilities^{{}}\0{CAPABILITIES}\n").as_bytes());
    }
    out.extend_from_slice(FLUSH);
    out
}

/// What became of a push: of its pack, and of each ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Why the pack could not be taken.
    pub unpack: Result<(), String>,
    pub refs: Vec<(String, Result<(), String>)>,
}

impl Report {
    /// As the client wants to have it; the end of the answer.
    pub fn render(&self, capabilities: Capabilities) -> Vec<u8> {
        let mut lines = Vec::new();
        if capabilities.report {
            let unpack = self.unpack.as_ref().err().map_or("ok".to_owned(), |why| plain(why));
            push_line(&mut lines, format!("unpack {unpack}\n").as_bytes());
            for (name, result) in &self.refs {
                let line = match result {
                    Ok(()) => format!("ok {name}\n"),
                    Err(why) => format!("ng {name} {}\n", plain(why)),
                };
                push_line(&mut lines, line.as_bytes());
            }
            lines.extend_from_slice(FLUSH);
        }
        if !capabilities.side_band {
            return lines;
        }
        let mut out = Vec::new();
        push_band(&mut out, 1, &lines);
        out.extend_from_slice(FLUSH);
        out
    }
}

/// Longest reason in a report.
const MAX_REASON_CHARS: usize = 500;

/// Text on one line, that does nothing to a terminal.
fn plain(text: &str) -> String {
    text.lines().next().map(visible).unwrap_or_default().chars().take(MAX_REASON_CHARS).collect()
}

/// Text that may hold what somebody else wrote, for a terminal: nothing in it is obeyed or turned around.
pub fn visible(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if hidden(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// Lines for the person who pushes, where the client can show them.
pub fn remark(capabilities: Capabilities, text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    if capabilities.side_band {
        for line in text.lines() {
            push_band(&mut out, 2, format!("{}\n", visible(line)).as_bytes());
        }
    }
    out
}

/// Nothing for anybody to see: the connection is kept alive.
pub fn keep_alive(capabilities: Capabilities) -> Vec<u8> {
    if capabilities.side_band { b"0005\x02".to_vec() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONE: &str = "1111111111111111111111111111111111111111";

    fn read(lines: &[&str]) -> Result<Commands, GitError> {
        let mut bytes = Vec::new();
        lines.iter().for_each(|line| push_line(&mut bytes, line.as_bytes()));
        bytes.extend_from_slice(b"0000PACK");
        let (commands, rest) = CommandReader::default().feed(&bytes)?.expect("an end");
        assert_eq!(&rest[..], b"PACK");
        Ok(commands)
    }

    #[test]
    fn commands_and_capabilities_are_read() {
        let found = read(&[
            &format!("shallow {ONE}\n"),
            &format!("{NO_OBJECT} {ONE} refs/heads/a\0 report-status-v2 side-band-64k agent=git/2\n"),
            &format!("{ONE} {NO_OBJECT} refs/heads/b"),
        ]);
        let found = found.unwrap();
        assert!(found.capabilities.report && found.capabilities.side_band && !found.capabilities.atomic);
        let ids: Vec<_> =
            found.list.iter().map(|command| (command.old.is_some(), command.new.is_some())).collect();
        assert_eq!(ids, [(false, true), (true, false)]);
        assert!(found.has_pack());
        let none = read(&[]).unwrap();
        assert!(none.list.is_empty() && !none.has_pack());
    }

    #[test]
    fn hostile_lines_are_refused() {
        for bad in [
            "".to_owned(),
            "x".repeat(MAX_LINE_BYTES),
            format!("{ONE} {ONE}"),
            format!("{ONE} {ONE} "),
            format!("{ONE} {ONE} refs/heads/a b"),
            format!("{ONE} {ONE} refs/heads/a\x1b[2J"),
            format!("{ONE} {ONE} refs/heads/a\nok refs/heads/main"),
            format!("{ONE} {} refs/heads/a", "A".repeat(40)),
            format!("{ONE} {ONE}1 refs/heads/a"),
            format!("{ONE} {ONE} {}", "a".repeat(MAX_NAME_BYTES + 1)),
            "shallow x".to_owned(),
            format!("push-cert\0{ONE}"),
            format!("{ONE} {ONE} refs/heads/a\0push-options"),
            format!("{ONE} {ONE} refs/heads/a\0push-cert=x"),
            format!("{ONE} {ONE} refs/heads/a\0object-format=sha256"),
        ] {
            assert!(read(&[&bad]).is_err(), "{bad:?}");
        }
        let second = format!("{ONE} {ONE} refs/heads/b\0atomic");
        assert!(read(&[&format!("{ONE} {ONE} refs/heads/a\0quiet"), &second]).is_err());
    }

    #[test]
    fn a_push_has_so_many_commands_and_no_more() {
        let lines: Vec<String> =
            (0..=MAX_PUSH_COMMANDS).map(|n| format!("{NO_OBJECT} {ONE} refs/heads/{n}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert!(!read(&lines[1..]).unwrap().too_many);
        let found = read(&lines).unwrap();
        assert!(found.too_many && found.list.len() == MAX_PUSH_COMMANDS);
    }

    #[test]
    fn nothing_that_is_shown_does_anything() {
        assert_eq!(visible("a\x1b[2J\u{202e}ü"), "a\\u{1b}[2J\\u{202e}ü");
        let all = Capabilities { report: true, side_band: false, atomic: false, quiet: false };
        let report =
            Report { unpack: Ok(()), refs: vec![("refs/heads/a".into(), Err("no\nok refs/heads/b".into()))] };
        assert_eq!(report.render(all), b"000eunpack ok\n0017ng refs/heads/a no\n0000");
    }

    #[test]
    fn an_empty_repository_says_what_it_can_do() {
        let text = String::from_utf8(advertise([])).unwrap();
        assert!(text.starts_with("001f# service=git-receive-pack\n0000"), "{text}");
        assert!(text.contains(&format!("{NO_OBJECT} capabilities^{{}}\0report-status ")), "{text}");
        let one: Oid = ONE.parse().unwrap();
        let text = String::from_utf8(advertise([("refs/heads/a", one), ("refs/tags/b", one)])).unwrap();
        assert!(
            text.ends_with(&format!("{ONE} refs/tags/b\n0000")) && text.matches('\0').count() == 1,
            "{text}"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..5)) {
            let mut reader = CommandReader::default();
            for part in parts {
                if reader.feed(&part).is_err() {
                    break;
                }
            }
        }

        #[test]
        fn a_list_is_the_same_however_it_comes(cut in 1usize..300, names in proptest::collection::vec("[a-z]{1,9}", 1..20)) {
            let mut bytes = Vec::new();
            for name in &names {
                push_line(&mut bytes, format!("{NO_OBJECT} {ONE} refs/heads/{name}").as_bytes());
            }
            bytes.extend_from_slice(b"0000rest");
            let mut reader = CommandReader::default();
            let mut parts = bytes.chunks(cut);
            let found = loop {
                if let Some(found) = reader.feed(parts.next().unwrap()).unwrap() { break found; }
            };
            prop_assert_eq!(found.0.list.len(), names.len());
        }
    }
}
