//! `bastide ledger`: verify, export, checkpoint.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use bastide_ledger::{read_notes, write_note};
use clap::Subcommand;
use serde_json::json;

use crate::config::Location;
use crate::output::{self, Progress};

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
        /// The public key, as `ledger checkpoint` printed it, from where nobody could change it.
        #[arg(long, requires = "export")]
        key: Option<String>,
        /// A file with checkpoints that were kept elsewhere: what they were signed over has to be there still.
        #[arg(long)]
        checkpoint: Option<PathBuf>,
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

pub async fn run(location: &Location, args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Verify { export, key, checkpoint, json } => {
            let kept = kept_notes(checkpoint.as_deref())?;
            match export {
                Some(folder) => verify_export(&folder, &key.unwrap_or_default(), kept, json),
                None => verify(location, &kept, json).await,
            }
        }
        Command::Export { folder, json } => export(location, &folder, json).await,
        Command::Checkpoint { json } => checkpoint(location, json).await,
    }
}

/// One note, as `ledger checkpoint` prints it, or a whole file of an export.
fn kept_notes(path: Option<&Path>) -> anyhow::Result<Vec<String>> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let notes = read_notes(&text);
    Ok(if notes.is_empty() { vec![text] } else { notes })
}

async fn verify(location: &Location, kept: &[String], json: bool) -> anyhow::Result<ExitCode> {
    let (hub, context) = super::operator(location).await?;
    let progress = Progress::new();
    let report = hub.verify_ledger(&context, kept, |done, all| progress.show("events", done, all)).await?;
    drop(progress);
    let problems: Vec<_> =
        report.problems.iter().map(|problem| json!({ "seq": problem.seq, "what": problem.what })).collect();
    let good = problems.is_empty();
    let value = json!({ "events": report.events, "vouched": report.vouched, "checkpoints": report.checkpoints,
        "problems": problems });
    output::print(json, &value, || {
        let lines =
            report.problems.iter().map(|problem| format!("event {}: {}\n", problem.seq, problem.what));
        let verdict = if good { "the ledger holds" } else { "THE LEDGER WAS TAMPERED WITH" };
        let sizes = format!(
            "{} events, {} of them under {} checkpoints",
            report.events, report.vouched, report.checkpoints
        );
        format!("{}{sizes}: {verdict}", lines.collect::<String>())
    })?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn verify_export(folder: &Path, key: &str, kept: Vec<String>, json: bool) -> anyhow::Result<ExitCode> {
    let key = key.trim().parse().context("the public key")?;
    let events = std::fs::File::open(folder.join(EVENTS_FILE)).context(EVENTS_FILE)?;
    let notes = std::fs::read_to_string(folder.join(CHECKPOINTS_FILE)).context(CHECKPOINTS_FILE)?;
    let notes: Vec<String> = read_notes(&notes).into_iter().chain(kept).collect();
    let report = bastide_ledger::verify_export(std::io::BufReader::new(events), &notes, &key)?;
    let value = json!({ "events": report.events, "checkpoints": notes.len(), "root": report.root_hex() });
    output::print(json, &value, || {
        format!("{} events, {} checkpoints: the ledger holds", report.events, notes.len())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What the checkpoint that is signed first covers: the hub may go on writing meanwhile.
async fn export(location: &Location, folder: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let (hub, context) = super::operator(location).await?;
    let size = hub.checkpoint().await?.size;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut file = std::io::BufWriter::new(std::fs::File::create(folder.join(EVENTS_FILE))?);
    let (mut events, progress) = (0, Progress::new());
    while events < size {
        let batch = hub.export_events(&context, events..size).await?;
        anyhow::ensure!(!batch.is_empty(), "event {events} is missing: run `bastide ledger verify`");
        for line in &batch {
            file.write_all(line)?;
            file.write_all(b"\n")?;
        }
        events += i64::try_from(batch.len())?;
        progress.show("events", events, size);
    }
    drop(progress);
    file.flush()?;
    let notes = hub.checkpoints().await?.into_iter().filter(|checkpoint| checkpoint.size <= size);
    let notes: Vec<String> = notes.map(|checkpoint| write_note(&checkpoint.note)).collect();
    std::fs::write(folder.join(CHECKPOINTS_FILE), notes.concat())?;
    let key = hub.ledger_public_key();
    let value = json!({ "events": events, "checkpoints": notes.len(), "folder": folder, "publicKey": key });
    output::print(json, &value, || {
        format!(
            "{events} events are in {}\npublic key, to be given to the verifier apart from it: {key}",
            folder.display()
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn checkpoint(location: &Location, json: bool) -> anyhow::Result<ExitCode> {
    let (hub, _) = super::operator(location).await?;
    let (checkpoint, key) = (hub.checkpoint().await?, hub.ledger_public_key());
    let value = json!({ "size": checkpoint.size, "note": checkpoint.note, "publicKey": key });
    output::print(json, &value, || format!("{}\npublic key: {key}", checkpoint.note))?;
    Ok(ExitCode::SUCCESS)
}
