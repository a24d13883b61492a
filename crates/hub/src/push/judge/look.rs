//! Looking at every new commit: one thread finds out what each brings, another holds the files against the rules.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use bastide_core::limits::MAX_REGULAR_FILE_BYTES;
use bastide_core::{EntryPath, Oid};
use bastide_git::{Commit, GitError, Inspector, Mode, NewFile, Novelties, Novelty, Pointer, Received, Repo};

use super::history::History;
use super::{Judged, MAX_PUSH_CHANGES, MAX_TIME, NewCommit, bounded};
use crate::push::{Answer, MAX_FAULTS, Pusher};
use crate::rules::{self, Fault};
use crate::{Hub, Problem};

/// Faults of one commit that are kept.
const MAX_KEPT_FAULTS: usize = 1000;
/// Commits that one thread may be ahead of the other.
const AHEAD: usize = 64;

impl Hub {
    /// Holds every new commit against the rules. Answers the faults of those that have some.
    pub(super) async fn look_at_commits(
        &self,
        pusher: &Pusher,
        (repo, came): (&Repo, Option<Arc<Received>>),
        history: &History,
        judged: &mut Judged,
        answer: &Answer,
    ) -> Result<HashMap<Oid, Vec<Fault>>, Problem> {
        let mut trees = self.trees_of_known(repo, history).await?;
        trees.extend(history.commits.iter().map(|(id, commit)| (*id, commit.tree)));
        let generations = history.generations(&judged.order);
        let mut commits: Vec<(Oid, Commit)> = judged
            .order
            .iter()
            .filter_map(|id| history.commits.get(id).map(|commit| (*id, commit.clone())))
            .collect();
        if came.as_ref().is_some_and(|came| is_newest_first(came, &commits)) {
            commits.reverse();
        }
        let (repo, sender, began) = (repo.clone(), answer.sender.clone(), Instant::now());
        let look = move || {
            let inspector = || {
                let sender = sender.clone();
                // The client has gone: nobody waits for this.
                let given_up = move || sender.is_closed() || began.elapsed() > MAX_TIME;
                Ok::<_, GitError>(Inspector::new(&repo).of(came.as_ref())?.unless(given_up))
            };
            let novelties = Novelties::new(inspector()?, MAX_PUSH_CHANGES);
            look(novelties, &trees, commits, Files { inspector: inspector()?, generations })
        };
        let Looked { commits, pointers, mut faults } = tokio::task::spawn_blocking(look).await??;
        judged.commits = commits;
        self.check_pushed_pointers(pusher, pointers, &mut faults).await?;
        Ok(faults)
    }

    /// The trees of the repository's commits that new ones have as parents.
    async fn trees_of_known(&self, repo: &Repo, history: &History) -> Result<HashMap<Oid, Oid>, Problem> {
        let parents: HashSet<Oid> = history
            .commits
            .values()
            .flat_map(|commit| &commit.parents)
            .filter(|parent| history.known.contains_key(parent))
            .copied()
            .collect();
        let repo = repo.clone();
        let read = move || {
            parents.into_iter().map(|id| Ok((id, repo.commit(id)?.tree))).collect::<Result<_, GitError>>()
        };
        Ok(tokio::task::spawn_blocking(read).await??)
    }
}

/// Are older trees deltas of newer ones, as git makes them? Then one is read after what it builds upon when the newest
/// commit comes first. What a program adds to a pack one by one is the other way round.
fn is_newest_first(came: &Received, commits: &[(Oid, Commit)]) -> bool {
    let chain = |end: Option<&(Oid, Commit)>| end.map_or(0, |(_, commit)| came.chain_length(&commit.tree));
    chain(commits.first()) > chain(commits.last())
}

/// What came of it all. Of a push with too many faults, some commits are missing.
#[derive(Default)]
struct Looked {
    commits: HashMap<Oid, NewCommit>,
    pointers: Vec<(Oid, EntryPath, Pointer)>,
    faults: HashMap<Oid, Vec<Fault>>,
}

/// What a commit brings.
struct Brought {
    id: Oid,
    commit: Commit,
    novelty: Novelty,
}

fn look(
    mut novelties: Novelties,
    trees: &HashMap<Oid, Oid>,
    commits: Vec<(Oid, Commit)>,
    mut files: Files,
) -> Result<Looked, Problem> {
    let (sender, receiver) = sync_channel(AHEAD);
    std::thread::scope(|scope| {
        let finds = scope.spawn(move || find_novelties(&mut novelties, trees, commits, &sender));
        let looked = files.look(receiver);
        finds.join().map_err(|_| Problem::internal("looking at trees ended badly"))?.map_err(bounded)?;
        looked.map_err(bounded)
    })
}

/// Ends early when nobody wants more.
fn find_novelties(
    novelties: &mut Novelties,
    trees: &HashMap<Oid, Oid>,
    commits: Vec<(Oid, Commit)>,
    sender: &SyncSender<Brought>,
) -> Result<(), GitError> {
    for (id, commit) in commits {
        let tree = |parent: &Oid| trees.get(parent).copied().ok_or(GitError::Missing(*parent));
        let parents: Vec<Oid> = commit.parents.iter().map(tree).collect::<Result<_, _>>()?;
        let novelty = novelties.of(&parents, commit.tree)?;
        if sender.send(Brought { id, commit, novelty }).is_err() {
            break;
        }
    }
    Ok(())
}

/// Judges files.
struct Files {
    inspector: Inspector,
    generations: HashMap<Oid, i64>,
}

impl Files {
    fn look(&mut self, brought: Receiver<Brought>) -> Result<Looked, GitError> {
        let mut looked = Looked::default();
        let mut count = 0;
        for brought in brought {
            let id = brought.id;
            let (new, pointers, faults) = self.commit(brought)?;
            looked.commits.insert(id, new);
            looked.pointers.extend(pointers.into_iter().map(|(path, pointer)| (id, path, pointer)));
            count += faults.len();
            if !faults.is_empty() {
                looked.faults.insert(id, faults);
            }
            if count > MAX_FAULTS {
                break;
            }
        }
        Ok(looked)
    }

    fn commit(&mut self, brought: Brought) -> Result<(NewCommit, Pointers, Vec<Fault>), GitError> {
        let Brought { id, commit, mut novelty } = brought;
        let mut faults = Vec::new();
        faults.extend(rules::check_commit(&commit).err());
        faults.extend(novelty.flaws.drain(..).take(MAX_KEPT_FAULTS).map(rules::flaw));
        let (mut pointers, mut pointing) = (Vec::new(), HashSet::new());
        for file in &novelty.files {
            match self.file(file)? {
                Ok(Some(pointer)) => {
                    pointers.push(pointer);
                    pointing.insert(file.oid);
                }
                Ok(None) => {}
                Err(fault) => faults.push(fault.brief()),
            }
            if faults.len() > MAX_KEPT_FAULTS {
                break;
            }
        }
        // Folders as well: those above a file were judged with it, but an empty one has none below.
        for change in novelty.changes.iter().filter(|change| change.is_tree && change.new.is_some()) {
            if let Err(error) = change.path.parse::<EntryPath>() {
                faults.push(Fault::Content(error.to_string()).brief());
            }
            if faults.len() > MAX_KEPT_FAULTS {
                break;
            }
        }
        let generation = self.generations.get(&id).copied().unwrap_or_default();
        let large = pointers.iter().map(|(_, pointer)| pointer.sha256).collect();
        let Novelty { changes, objects, .. } = novelty;
        let new = NewCommit { commit, generation, changes, large, pointers: pointing, objects };
        Ok((new, pointers, faults))
    }

    /// A file against the rules; the pointer that it is, if it is one.
    fn file(&mut self, file: &NewFile) -> Result<Result<Option<(EntryPath, Pointer)>, Fault>, GitError> {
        let path = match file.path.parse::<EntryPath>() {
            Ok(path) => path,
            Err(error) => return Ok(Err(Fault::Content(error.to_string()))),
        };
        if file.mode == Mode::Submodule {
            let text =
                format!("{path} is a submodule, which this hub does not have: add the files themselves");
            return Ok(Err(Fault::Content(text)));
        }
        let size = self.inspector.file_size(file.oid)?;
        if file.mode == Mode::Symlink {
            if size > rules::MAX_LINK_BYTES {
                return Ok(Err(Fault::Content(format!("{path} is a symbolic link with too long a target"))));
            }
            return Ok(rules::check_link(&path, &self.inspector.file(file.oid, size)?).map(|()| None));
        }
        if let Err(fault) = rules::check_size(&path, size) {
            return Ok(Err(fault));
        }
        if !rules::is_git_file(&path) && !self.may_be_pointer(file.oid, size)? {
            return Ok(Ok(None));
        }
        let content = self.inspector.file(file.oid, MAX_REGULAR_FILE_BYTES)?;
        Ok(judge_content(path, &content))
    }
}

impl Files {
    /// Of most files little has to be read to see that they are none.
    fn may_be_pointer(&mut self, oid: Oid, size: u64) -> Result<bool, GitError> {
        if size > Pointer::MAX_BYTES {
            return Ok(false);
        }
        let start = self.inspector.start_of_file(oid, Pointer::START_BYTES, Pointer::MAX_BYTES)?;
        Ok(Pointer::may_begin(&start))
    }
}

type Pointers = Vec<(EntryPath, Pointer)>;

fn judge_content(path: EntryPath, content: &[u8]) -> Result<Option<(EntryPath, Pointer)>, Fault> {
    rules::check_content(&path, content)?;
    let Some(pointer) = Pointer::parse(content) else { return Ok(None) };
    rules::check_pointer(&path, pointer)?;
    Ok(Some((path, pointer)))
}
