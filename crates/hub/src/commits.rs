//! Commits: operations from a caller become git objects in one new pack, and then, in one
//! transaction, the branch moves, the rows are written and the event is recorded.

use bastide_core::limits::{MAX_COMMIT_OPERATIONS, MAX_COMMIT_TITLE};
use bastide_core::{EntryPath, Oid, RefName, Sha256, Timestamp};
use bastide_git::{
    Edit, Edited, GitError, Mode, NewCommit, Op, PackWriter, Person, Pointer, Repo, edit_tree,
};
use bastide_inspect::attributes::{self, Attributes, Steps};
use bastide_inspect::git_files;
use bastide_ledger::Context;
use bastide_ledger::{Action, NewEvent};
use bastide_store::git::{self, ChangeRow, CommitRow, Pack};
use bastide_store::refs::{self, Target};
use bastide_store::{prune, repos, xet};
use bytes::Bytes;

use crate::access::{Access, Includes, Level, Propose, Read, See, Write};
use crate::authors::author;
use crate::metadata::Metadata;
use crate::rules::{self, lines};
use crate::uploads::{ProposalRoom, Uploader, take_over};
use crate::{Hub, Problem};

const ATTRIBUTES: &str = ".gitattributes";
/// Longest `.gitattributes` that is read and written.
const MAX_ATTRIBUTES_BYTES: u64 = 1024 * 1024;

/// What a commit is called and where it starts.
#[derive(Debug, Clone, Default)]
pub struct CommitHeader {
    pub title: String,
    pub description: String,
    /// The head that the caller has seen; a branch that has moved on refuses the commit.
    pub parent: Option<String>,
}

/// One change of a commit.
#[derive(Debug, Clone)]
pub enum Operation {
    Put {
        path: EntryPath,
        content: Bytes,
    },
    /// A file that was uploaded before, by the hash of its content.
    PutLarge {
        path: EntryPath,
        sha256: Sha256,
        size: Option<u64>,
    },
    Delete {
        path: EntryPath,
    },
}

/// A commit that was made, or the head where nothing had to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    pub id: Oid,
}

/// A commit that is coming together. Contents go to the pack as they come, so that memory does
/// not grow with the commit.
pub struct CommitBuilder {
    pack: Option<PackWriter>,
    steps: Vec<Step>,
    /// The README and the attributes of this commit: they are checked and used.
    readme: Option<Bytes>,
    attributes: Option<Bytes>,
    /// Bytes of regular files that may still come, where there is a bound; and why no more may.
    room: Option<(u64, ProposalRoom)>,
    /// It names objects that it does not bring: how often the repository had been pruned before they were looked up.
    prunings: Option<i64>,
}

/// An operation that was taken. They stay in their order: a path may come up more than once.
enum Step {
    Edit(Edit),
    Large { path: EntryPath, sha256: Sha256, size: Option<u64> },
}

impl CommitBuilder {
    pub async fn add(&mut self, operation: Operation) -> Result<(), Problem> {
        if self.steps.len() >= MAX_COMMIT_OPERATIONS {
            return Err(Problem::Unprocessable(format!(
                "a commit has at most {MAX_COMMIT_OPERATIONS} operations: split it"
            )));
        }
        match operation {
            Operation::Put { path, content } => self.put(path, content).await,
            Operation::PutLarge { path, sha256, size } => self.put_large(path, sha256, size),
            Operation::Delete { path } => {
                self.steps.push(Step::Edit(Edit { path, op: Op::Remove }));
                Ok(())
            }
        }
    }

    /// Content that is copied from somewhere: named without its size.
    pub(crate) fn copies(&self) -> Vec<Sha256> {
        let copy = |step: &Step| match step {
            Step::Large { sha256, size: None, .. } => Some(*sha256),
            Step::Large { .. } | Step::Edit(_) => None,
        };
        self.steps.iter().filter_map(copy).collect()
    }

    fn put_large(&mut self, path: EntryPath, sha256: Sha256, size: Option<u64>) -> Result<(), Problem> {
        rules::may_be_large(&path)?;
        self.steps.push(Step::Large { path, sha256, size });
        Ok(())
    }

    async fn put(&mut self, path: EntryPath, content: Bytes) -> Result<(), Problem> {
        rules::check_size(&path, content.len() as u64)?;
        rules::check_content(&path, &content)?;
        // A pointer stands for a large file, whichever way it comes.
        if let Some(pointer) = Pointer::parse(&content) {
            rules::check_pointer(&path, pointer)?;
            return self.put_large(path, pointer.sha256, Some(pointer.size));
        }
        self.take_room(content.len() as u64)?;
        match path.as_str() {
            "README.md" => self.readme = Some(content.clone()),
            ATTRIBUTES => self.attributes = Some(content.clone()),
            _ => {}
        }
        let oid = self.blob(content).await?;
        self.steps.push(Step::Edit(Edit { path, op: Op::Put { oid, mode: Mode::File } }));
        Ok(())
    }

    /// What it names from here on without bringing it was looked up when the repository had been pruned so often.
    pub(crate) fn builds_upon(&mut self, prunings: i64) {
        self.prunings = Some(prunings);
    }

    /// Puts something back that the repository has had: a program, a link.
    pub(crate) fn restore(&mut self, path: EntryPath, oid: Oid, mode: Mode) -> Result<(), Problem> {
        self.take_room(0)?;
        self.steps.push(Step::Edit(Edit { path, op: Op::Put { oid, mode } }));
        Ok(())
    }

    fn take_room(&mut self, bytes: u64) -> Result<(), Problem> {
        let Some((room, why)) = &mut self.room else { return Ok(()) };
        match room.checked_sub(bytes) {
            Some(left) => *room = left,
            None => return Err(why.refused()),
        }
        Ok(())
    }

    async fn blob(&mut self, content: Bytes) -> Result<Oid, Problem> {
        /// Up to here compressing in place is cheaper than another thread.
        const INLINE_BYTES: usize = 16 * 1024;
        let mut pack = self.pack.take().ok_or_else(|| Problem::internal("the commit failed before"))?;
        if content.len() <= INLINE_BYTES {
            let oid = pack.blob(&content);
            self.pack = Some(pack);
            return Ok(oid?);
        }
        let (pack, oid) = tokio::task::spawn_blocking(move || {
            let oid = pack.blob(&content);
            (pack, oid)
        })
        .await?;
        self.pack = Some(pack);
        Ok(oid?)
    }
}

/// A commit that is to be: where, what it is called, what is in it.
pub(crate) struct Draft {
    pub target: RefName,
    /// Where the ref is, as far as is known.
    pub head: Option<Oid>,
    pub title: String,
    pub message: String,
    pub builder: CommitBuilder,
    pub changes: Changes,
}

/// A tree and a commit in a pack that is stored, ready for the transaction.
pub(crate) struct Prepared {
    target: RefName,
    /// Where the ref has to be for the commit to be its successor.
    pub head: Option<Oid>,
    pub commit: Oid,
    tree: Oid,
    pub pack: Pack,
    pub changes: Vec<(String, Option<Oid>)>,
    /// Content that the commit points at.
    pub large: Vec<Sha256>,
    /// The paths that it was told to change, where others may have locked them.
    touched: Vec<EntryPath>,
    /// It brings something: what only removes is never refused for want of room.
    pub brings: bool,
    pub title: String,
    message: String,
    author: Person,
    /// What the repository is found by from then on, if the commit decides about that.
    metadata: Option<Metadata>,
    prunings: Option<i64>,
}

impl Hub {
    pub fn begin_commit(&self) -> Result<CommitBuilder, Problem> {
        Ok(CommitBuilder {
            pack: Some(PackWriter::new(&self.scratch()?)?),
            steps: Vec::new(),
            readme: None,
            attributes: None,
            room: None,
            prunings: None,
        })
    }

    /// The same for somebody who may bring only so much.
    pub async fn begin_commit_by(&self, context: &Context, by: &Uploader) -> Result<CommitBuilder, Problem> {
        let room = self.upload_room(context, by, 0).await?;
        let mut builder = self.begin_commit()?;
        builder.room = room.map(|room| (room.left(), room));
        Ok(builder)
    }

    /// Commits to a branch or another ref of the repository.
    pub async fn commit(
        &self,
        context: &Context,
        access: &Access<Write>,
        target: &RefName,
        header: &CommitHeader,
        mut builder: CommitBuilder,
    ) -> Result<Committed, Problem> {
        check_header(header)?;
        self.check_card(access, &builder)?;
        self.bring_copies(context, access, &builder.copies()).await?;
        let changes = self.add_pointers(&access.lower(), &mut builder).await?;
        let _turn = self.locks.lock(access.repo_id()).await;
        let head = refs::get(&mut self.db.read().await?, access, target).await?.map(|found| found.commit);
        self.check_base(access, target, head, header).await?;
        let title = header.title.trim().to_owned();
        let draft = Draft { target: target.clone(), head, title, message: message(header), builder, changes };
        let Some(prepared) = self.prepare(context, access, draft).await? else {
            // Nothing differs from the head: there is nothing to commit.
            let id = head.ok_or_else(|| Problem::Invalid("the commit changes nothing".into()))?;
            return Ok(Committed { id });
        };
        let published = self.publish(context, access, &prepared).await;
        self.keep_if(published, &prepared.pack).await?;
        Ok(Committed { id: prepared.commit })
    }

    /// The transaction of a commit.
    async fn publish(
        &self,
        context: &Context,
        access: &Access<Write>,
        prepared: &Prepared,
    ) -> Result<(), Problem> {
        let mut tx = self.write_to(context, access).await?;
        self.write_commit(&mut tx, context, access, prepared).await?;
        crate::crash::point("commit.before");
        tx.commit(commit_event(context, access, prepared)).await?;
        crate::crash::point("commit.after");
        Ok(())
    }

    /// Everything of a commit that comes before its transaction: objects, a pack of them that is stored, and
    /// what the repository will be found by. `None` when the tree stays as it is.
    pub(crate) async fn prepare(
        &self,
        context: &Context,
        access: &Access<Write>,
        draft: Draft,
    ) -> Result<Option<Prepared>, Problem> {
        let Some(mut prepared) = self.prepare_objects(context, access, draft).await? else { return Ok(None) };
        if prepared.target == RefName::main() {
            let read = self.read_metadata(access, prepared.commit).await;
            prepared.metadata = Some(self.keep_if(read, &prepared.pack).await?);
        }
        Ok(Some(prepared))
    }

    /// The objects of a commit in a pack that is stored.
    pub(crate) async fn prepare_objects<L: Includes<See>>(
        &self,
        context: &Context,
        access: &Access<L>,
        draft: Draft,
    ) -> Result<Option<Prepared>, Problem> {
        let repo = self.materialise(access).await?;
        let Draft { target, head, title, message, builder, changes } = draft;
        let (author, now, scratch) = (author(context), context.now(), self.scratch()?);
        let large = changes.large.iter().map(|(_, sha256)| *sha256).collect();
        let touched = changes.edits.iter().map(|edit| edit.path.clone()).collect();
        let prunings = builder.prunings;
        let brings = changes.edits.iter().any(|edit| matches!(edit.op, Op::Put { .. }));
        let work = {
            let repo = repo.clone();
            let (message, author) = (message.clone(), author.clone());
            let text = NewText { message, author, now };
            move || write_objects(&repo, head, (builder, changes), &text, &scratch)
        };
        let Some(written) = tokio::task::spawn_blocking(work).await?? else { return Ok(None) };
        let Written { commit, tree, pack, changes } = written;
        let pack = self.store_pack(&repo, &pack).await?;
        crate::crash::point("commit.stored");
        Ok(Some(Prepared {
            target,
            head,
            commit,
            tree,
            pack,
            changes,
            large,
            touched,
            brings,
            title,
            message,
            author,
            metadata: None,
            prunings,
        }))
    }

    /// The part of a transaction that makes a commit.
    pub(crate) async fn write_commit(
        &self,
        tx: &mut bastide_store::WriteTx,
        context: &Context,
        access: &Access<Write>,
        prepared: &Prepared,
    ) -> Result<(), Problem> {
        let (head, now) = (prepared.head, context.now());
        let new = Target::commit(prepared.commit);
        if !refs::swap(tx, access, &prepared.target, head, Some(new), now).await? {
            return Err(Problem::Stale);
        }
        for sha256 in &prepared.large {
            if !xet::touch_file(tx, access, *sha256, now).await? {
                return Err(Problem::Invalid(format!("the content {sha256} was collected: upload it again")));
            }
        }
        if prepared.target.is_branch() {
            let touched = prepared.touched.iter().map(EntryPath::as_str);
            self.refuse_locked(tx, context, access, touched).await?;
        }
        take_over(tx, access, prepared.large.iter().copied()).await?;
        self.write_commit_rows(tx, context, access, prepared).await?;
        if prepared.brings {
            self.quota_in(tx, access, 0).await?;
        }
        repos::touch(tx, access, now).await?;
        if let Some(metadata) = &prepared.metadata {
            self.store_metadata(tx, access, metadata).await?;
        }
        Ok(())
    }

    /// The rows of a commit, which is part of no branch by them. Says whether its pack is new.
    pub(crate) async fn write_commit_rows<L: Includes<See> + Includes<Propose>>(
        &self,
        tx: &mut bastide_store::WriteTx,
        context: &Context,
        access: &Access<L>,
        prepared: &Prepared,
    ) -> Result<bool, Problem> {
        let now = context.now();
        // All else that it names is in its pack, or in the tree of its parent, which is here.
        if let Some(prunings) = prepared.prunings
            && prune::prunings(tx, access).await? != prunings
        {
            return Err(Problem::Stale);
        }
        let added = self.add_pack(tx, access, &prepared.pack, now).await?;
        let parents: Vec<Oid> = prepared.head.into_iter().collect();
        let row = CommitRow {
            id: prepared.commit,
            tree: prepared.tree,
            parents: &parents,
            time: now,
            author: &prepared.author.name,
            author_id: context.user_id(),
            pusher_id: None,
            title: &prepared.title,
            message: &prepared.message,
        };
        let changes: Vec<ChangeRow<'_>> =
            prepared.changes.iter().map(|(path, object)| ChangeRow { path, object: *object }).collect();
        git::add_commit(tx, access, &row, &changes).await?;
        Ok(added)
    }

    pub(crate) fn check_card<L: Level>(
        &self,
        access: &Access<L>,
        builder: &CommitBuilder,
    ) -> Result<(), Problem> {
        let Some(readme) = &builder.readme else { return Ok(()) };
        Ok(rules::check_card(access.repo().path.kind, readme)?)
    }

    /// Large files become pointers in git, each where it stands in the order of operations. Each
    /// has to be in this repository already.
    pub(crate) async fn add_pointers(
        &self,
        access: &Access<Read>,
        builder: &mut CommitBuilder,
    ) -> Result<Changes, Problem> {
        let mut changes = Changes::default();
        for step in std::mem::take(&mut builder.steps) {
            let (path, sha256, size) = match step {
                Step::Edit(edit) => {
                    changes.edits.push(edit);
                    continue;
                }
                Step::Large { path, sha256, size } => (path, sha256, size),
            };
            let known = xet::file_hash(&mut self.db.read().await?, access, sha256).await?;
            let known = rules::check_large(&path, sha256, size, known.map(|(_, known)| known))?;
            let oid = builder.blob(Pointer { sha256, size: known }.render().into()).await?;
            changes.edits.push(Edit { path: path.clone(), op: Op::Put { oid, mode: Mode::File } });
            changes.large.push((path, sha256));
        }
        Ok(changes)
    }

    async fn check_base(
        &self,
        access: &Access<Write>,
        target: &RefName,
        head: Option<Oid>,
        header: &CommitHeader,
    ) -> Result<(), Problem> {
        if head.is_none() {
            // Only the first commit of a repository may make its branch.
            let any = !refs::list(&mut self.db.read().await?, access).await?.is_empty();
            if any || *target != RefName::main() {
                return Err(Problem::RevisionNotFound(target.short().to_owned()));
            }
        }
        let Some(parent) = &header.parent else { return Ok(()) };
        let parent = self.resolve_commit_id(access, parent).await?;
        if parent.is_some() && parent == head { Ok(()) } else { Err(Problem::Stale) }
    }

    /// Writes what a job or an operation made of a commit's metadata.
    pub(crate) async fn store_metadata(
        &self,
        tx: &mut bastide_store::WriteTx,
        access: &Access<Write>,
        metadata: &Metadata,
    ) -> Result<(), Problem> {
        repos::set_metadata(tx, access, &metadata.row()).await?;
        let terms = metadata.terms(access.repo());
        let terms: Vec<_> = terms.iter().map(|(kind, word)| (*kind, word.as_str())).collect();
        bastide_store::search::index(tx, access, &terms).await?;
        Ok(())
    }
}

pub(crate) fn commit_event(context: &Context, access: &Access<Write>, prepared: &Prepared) -> NewEvent {
    NewEvent::new(context, Action::CommitCreate)
        .subject("repo", Some(access.repo_id().as_i64()), &access.repo().path.to_string())
        .fact("commit", prepared.commit.to_string())
        .fact("parent", prepared.head.map(|head| head.to_string()).unwrap_or_default())
        .fact("ref", prepared.target.as_str())
        .fact("paths", prepared.changes.len() as u64)
}

pub(crate) fn check_header(header: &CommitHeader) -> Result<(), Problem> {
    let title = header.title.trim();
    if title.is_empty() {
        return Err(Problem::Invalid(format!("a commit's summary has 1 to {MAX_COMMIT_TITLE} bytes")));
    }
    Ok(rules::check_message(title, &header.description)?)
}

pub(crate) fn message(header: &CommitHeader) -> String {
    let (title, description) = (header.title.trim(), lines(header.description.trim()));
    if description.is_empty() { format!("{title}\n") } else { format!("{title}\n\n{description}\n") }
}

/// What a commit does to the tree, in order, and which of its files are large.
#[derive(Default)]
pub(crate) struct Changes {
    edits: Vec<Edit>,
    large: Vec<(EntryPath, Sha256)>,
}

struct NewText {
    message: String,
    author: Person,
    now: Timestamp,
}

struct Written {
    commit: Oid,
    tree: Oid,
    pack: bastide_git::NewPack,
    changes: Vec<(String, Option<Oid>)>,
}

/// Trees, the commit and the end of the pack; `None` when the tree stays as it is.
fn write_objects(
    repo: &Repo,
    head: Option<Oid>,
    (builder, mut changes): (CommitBuilder, Changes),
    text: &NewText,
    scratch: &std::path::Path,
) -> Result<Option<Written>, Problem> {
    let CommitBuilder { pack, attributes, .. } = builder;
    let mut pack = pack.ok_or(GitError::Pack("the commit failed before"))?;
    let base = head.map(|head| repo.commit(head)).transpose()?.map(|commit| commit.tree);
    if let Some(edit) = more_attributes(repo, base, &changes.large, attributes, &mut pack)? {
        changes.edits.push(edit);
    }
    let Edited { tree, changes } = edit_tree(repo, base, &changes.edits, &mut pack)?;
    if base == Some(tree) {
        return Ok(None);
    }
    let parents: Vec<Oid> = head.into_iter().collect();
    let commit =
        NewCommit { tree, parents: &parents, author: &text.author, time: text.now, message: &text.message };
    let commit = pack.commit(&commit)?;
    let changes = changes.into_iter().map(|change| (change.path, change.new)).collect();
    Ok(Some(Written { commit, tree, pack: pack.finish(scratch)?, changes }))
}

/// Large files that no pattern covers get a line of their own, so that stock git-lfs treats them
/// as what they are.
fn more_attributes(
    repo: &Repo,
    base: Option<Oid>,
    large: &[(EntryPath, Sha256)],
    given: Option<Bytes>,
    pack: &mut PackWriter,
) -> Result<Option<Edit>, Problem> {
    if large.is_empty() {
        return Ok(None);
    }
    let Ok(path) = ATTRIBUTES.parse::<EntryPath>() else { return Ok(None) };
    let text = match (given, base) {
        (Some(given), _) => given,
        (None, Some(base)) => match repo.find(base, &path)? {
            Some(entry) => repo.blob(entry.oid, MAX_ATTRIBUTES_BYTES)?,
            None => Bytes::new(),
        },
        (None, None) => Bytes::new(),
    };
    let mut text = String::from_utf8_lossy(&text).into_owned();
    let before = text.len();
    add_lines(&mut text, large)?;
    if text.len() == before || text.len() as u64 > MAX_ATTRIBUTES_BYTES {
        return Ok(None);
    }
    let oid = pack.blob(text.as_bytes())?;
    Ok(Some(Edit { path, op: Op::Put { oid, mode: Mode::File } }))
}

fn add_lines(text: &mut String, large: &[(EntryPath, Sha256)]) -> Result<(), Problem> {
    let patterns = Attributes::parse(text);
    let mut steps = Steps::default();
    for (file, _) in large {
        let covered = patterns.is_large(file.as_str(), &mut steps);
        if covered.map_err(|error| Problem::Unprocessable(error.to_string()))? {
            continue;
        }
        let line = attributes::line(&attributes::literal(file.as_str()));
        if line.len() > git_files::MAX_ATTRIBUTE_LINE {
            return Err(Problem::Unprocessable(format!(
                "{file} is too long a name for a line of its own in .gitattributes: add a pattern for it there, or shorten it"
            )));
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&line);
    }
    Ok(())
}
