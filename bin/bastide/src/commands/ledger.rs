//! `bastide ledger`: verify, export, checkpoint.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::json;

use crate::config::Location;
use crate::output;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check that every event is there, unchanged, and agrees with every signed checkpoint. With --export,
    /// check an exported folder instead: needs no hub, only the public key.
    Verify {
        /// A folder that `ledger export` made.
        #[arg(long, requires = "key")]
        export: Option<PathBuf>,
        /// The public key, as `ledger checkpoint` prints it.
        #[arg(long)]
        key: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// Write all events and checkpoints to a folder, to be verified elsewhere.
    Export {
        folder: PathBuf,
        #[arg(long)]
        json: bool,
    },
    /// Sign the ledger as it is now; prints the checkpoint and the public key.
    Checkpoint {
        #[arg(long)]
        json: bool,
    },
}

const EVENTS_FILE: &str = "events.jsonl";
const CHECKPOINTS_FILE: &str = "checkpoints.txt";
const KEY_FILE: &str = "key.txt";
/// Between the notes of the checkpoints file: no line of a note is like it.
const SEPARATOR: &str = "---\n";

pub async fn run(location: &Location, args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Verify { export: Some(folder), key, json } => {
            verify_export(&folder, &key.unwrap_or_default(), json)
        }
        Command::Verify { json, .. } => verify(location, json).await,
        Command::Export { folder, json } => export(location, &folder, json).await,
        Command::Checkpoint { json } => checkpoint(location, json).await,
    }
}

async fn verify(location: &Location, json: bool) -> anyhow::Result<ExitCode> {
    let (hub, _) = super::operator(location).await?;
    let report = hub.verify_ledger().await?;
    let problems: Vec<_> =
        report.problems.iter().map(|problem| json!({ "seq": problem.seq, "what": problem.what })).collect();
    let good = problems.is_empty();
    let value = json!({ "events": report.events, "checkpoints": report.checkpoints, "problems": problems });
    output::print(json, &value, || {
        let lines =
            report.problems.iter().map(|problem| format!("event {}: {}\n", problem.seq, problem.what));
        let verdict = if good { "the ledger holds" } else { "THE LEDGER WAS TAMPERED WITH" };
        let sizes = format!("{} events, {} checkpoints", report.events, report.checkpoints);
        format!("{}{sizes}: {verdict}", lines.collect::<String>())
    });
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn verify_export(folder: &std::path::Path, key: &str, json: bool) -> anyhow::Result<ExitCode> {
    let key = key.trim().parse().context("the public key")?;
    let events = std::fs::File::open(folder.join(EVENTS_FILE)).context(EVENTS_FILE)?;
    let notes = std::fs::read_to_string(folder.join(CHECKPOINTS_FILE)).context(CHECKPOINTS_FILE)?;
    let notes: Vec<String> =
        notes.split(SEPARATOR).filter(|note| !note.is_empty()).map(ToOwned::to_owned).collect();
    let report = bastide_ledger::verify_export(std::io::BufReader::new(events), &notes, &key)?;
    let value = json!({ "events": report.events, "checkpoints": notes.len(), "root": report.root_hex() });
    output::print(json, &value, || {
        format!("{} events, {} checkpoints: the ledger holds", report.events, notes.len())
    });
    Ok(ExitCode::SUCCESS)
}

async fn export(location: &Location, folder: &std::path::Path, json: bool) -> anyhow::Result<ExitCode> {
    let (hub, context) = super::operator(location).await?;
    hub.checkpoint().await?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut file = std::io::BufWriter::new(std::fs::File::create(folder.join(EVENTS_FILE))?);
    let mut events = 0;
    loop {
        let batch = hub.export_events(&context, events).await?;
        if batch.is_empty() {
            break;
        }
        for line in &batch {
            file.write_all(line)?;
            file.write_all(b"\n")?;
        }
        events += i64::try_from(batch.len())?;
        eprint!("\r{events} events");
    }
    eprintln!();
    file.flush()?;
    let notes: Vec<String> = hub.checkpoints().await?.into_iter().map(|checkpoint| checkpoint.note).collect();
    std::fs::write(folder.join(CHECKPOINTS_FILE), notes.join(SEPARATOR))?;
    std::fs::write(folder.join(KEY_FILE), hub.ledger_public_key() + "\n")?;
    let value = json!({ "events": events, "checkpoints": notes.len(), "folder": folder });
    output::print(json, &value, || format!("{events} events are in {}", folder.display()));
    Ok(ExitCode::SUCCESS)
}

async fn checkpoint(location: &Location, json: bool) -> anyhow::Result<ExitCode> {
    let (hub, _) = super::operator(location).await?;
    let (checkpoint, key) = (hub.checkpoint().await?, hub.ledger_public_key());
    let value = json!({ "size": checkpoint.size, "note": checkpoint.note, "publicKey": key });
    output::print(json, &value, || format!("{}\npublic key: {key}", checkpoint.note));
    Ok(ExitCode::SUCCESS)
}
