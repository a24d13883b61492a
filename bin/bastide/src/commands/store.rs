//! `bastide gc` and `bastide fsck`: the operator's walks over everything that is stored.

use std::process::ExitCode;

use serde_json::json;

use crate::config::Location;
use crate::output::{self, Progress};

#[derive(Debug, clap::Args)]
pub struct GcArgs {
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct FsckArgs {
    /// Hash every stored byte again.
    #[arg(long)]
    deep: bool,
    #[arg(long)]
    json: bool,
}

pub async fn gc(location: &Location, args: GcArgs) -> anyhow::Result<ExitCode> {
    let (hub, context) = super::operator(location).await?;
    let progress = Progress::new();
    let done = hub.collect(&context, |done, all| progress.show("repositories", done, all)).await?;
    drop(progress);
    let good = done.problems.is_empty();
    let value = json!({ "repos": done.repos, "marked": done.marked, "dropped": done.dropped,
        "uploads": done.uploads, "busy": done.busy, "condemned": done.condemned, "removedXorbs": done.removed_xorbs,
        "unpruned": done.unpruned, "removedBlobs": done.removed_blobs, "freedBytes": done.freed_bytes, "problems": done.problems });
    output::print(args.json, &value, || {
        let lines: String = done.problems.iter().map(|problem| format!("{problem}\n")).collect();
        format!(
            "{lines}{} repositories ({} too busy, left for the next time): {} things marked as unused, {} that were marked before dropped, \
             {} uploads ended, packs of {} repositories to be pruned, {} xorbs condemned, {} xorbs and {} other blobs removed, {} bytes freed",
            done.repos,
            done.busy,
            done.marked,
            done.dropped,
            done.uploads,
            done.unpruned,
            done.condemned,
            done.removed_xorbs,
            done.removed_blobs,
            done.freed_bytes
        )
    })?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

pub async fn fsck(location: &Location, args: FsckArgs) -> anyhow::Result<ExitCode> {
    let (hub, context) = super::operator(location).await?;
    let progress = Progress::new();
    let done = hub.check_all(&context, args.deep, |what, done, all| progress.show(what, done, all)).await?;
    drop(progress);
    let good = done.problems.is_empty();
    let value = json!({ "repos": done.repos, "packs": done.packs, "xorbs": done.xorbs, "files": done.files,
        "orphans": done.orphans, "orphanBytes": done.orphan_bytes, "unpruned": done.unpruned, "problems": done.problems });
    output::print(args.json, &value, || {
        let lines: String = done.problems.iter().map(|problem| format!("{problem}\n")).collect();
        let verdict = if good { "all is well" } else { "SOMETHING IS WRONG" };
        let (repos, packs, xorbs, files) = (done.repos, done.packs, done.xorbs, done.files);
        let orphans = match done.orphans {
            0 => String::new(),
            count => format!("{count} blobs ({} bytes) that no row names, for gc\n", done.orphan_bytes),
        };
        let unpruned = match done.unpruned {
            0 => String::new(),
            count => format!("the packs of {count} repositories hold what gc has dropped, to be pruned\n"),
        };
        format!(
            "{lines}{orphans}{unpruned}{repos} repositories, {packs} packs, {xorbs} xorbs, {files} large files: {verdict}"
        )
    })?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
