//! Repositories: making, moving, settings, removing, duplicating.

use bastide_core::{EntryPath, Name, Oid, RefName, RepoId, RepoKind, RepoPath, Timestamp, Visibility};
use bastide_inspect::attributes::default_attributes;
use bastide_ledger::Context;
use bastide_ledger::{Action, NewEvent};
use bastide_store::permit::{Gated, Namespace, Repo};
use bastide_store::repos::{self, NewRepo, Settings};
use bastide_store::{WriteTx, git, large_files, search, storage, xet};
use bytes::Bytes;

use crate::access::{self, Access, Admin, Read, Write};
use crate::commits::{Draft, Operation, Prepared, commit_event};
use crate::metadata::name_words;
use crate::reads::Delivery;
use crate::{Hub, Problem};

const SDKS: &[&str] = &["gradio", "streamlit", "docker", "static"];

#[derive(Debug, Clone)]
pub struct RepoRequest {
    pub kind: RepoKind,
    /// `None` for the caller's own.
    pub namespace: Option<Name>,
    pub name: String,
    pub visibility: Option<Visibility>,
    pub sdk: Option<String>,
    /// Goes into the card.
    pub license: Option<String>,
    /// What the first commit holds besides our own files, and instead of those of the same name.
    pub files: Vec<(EntryPath, Bytes)>,
}

/// A repository that was made.
#[derive(Debug, Clone)]
pub struct CreatedRepo {
    pub id: RepoId,
    pub path: RepoPath,
    pub url: String,
}

impl Hub {
    pub fn repo_url(&self, context: &Context, path: &RepoPath) -> String {
        format!("{}/{}", self.url(context), path.url_path())
    }

    /// Makes a repository with its first commit: both are there afterwards, or nothing is.
    pub async fn create_repo(&self, context: &Context, request: RepoRequest) -> Result<CreatedRepo, Problem> {
        let namespace = self.access(context).namespace_to_fill(request.namespace.as_ref()).await?;
        let owner = namespace.namespace();
        let path =
            RepoPath { kind: request.kind, namespace: owner.name.clone(), name: request.name.parse()? };
        let sdk = check_sdk(&request)?;
        self.refuse_taken(context, &namespace, &path).await?;
        let visibility =
            request.visibility.or(owner.default_visibility).unwrap_or(self.config.default_visibility);
        let new = NewRepo {
            id: RepoId::new(context.now()),
            path: &path,
            visibility,
            gated: Gated::No,
            creator_id: context.user_id(),
            sdk,
            now: context.now(),
        };
        let files = first_files(&path, sdk, &request)?;
        if let Err(problem) = self.make_repo(context, &namespace, &new, files).await {
            self.git.forget(new.id)?;
            return Err(problem);
        }
        Ok(CreatedRepo { id: new.id, url: self.repo_url(context, &path), path })
    }

    /// Says no before anything is written; the transaction looks again.
    async fn refuse_taken(
        &self,
        context: &Context,
        namespace: &Access<Write, Namespace>,
        path: &RepoPath,
    ) -> Result<(), Problem> {
        match repos::at(&mut self.db.read().await?, namespace, path).await? {
            Some(taken) => Err(self.exists(context, &taken)),
            None => Ok(()),
        }
    }

    async fn make_repo(
        &self,
        context: &Context,
        namespace: &Access<Write, Namespace>,
        new: &NewRepo<'_>,
        files: Vec<(EntryPath, Bytes)>,
    ) -> Result<(), Problem> {
        let access = access::to_make(namespace, new);
        let mut builder = self.begin_commit()?;
        for (path, content) in files {
            builder.add(Operation::Put { path, content }).await?;
        }
        self.check_card(&access, &builder)?;
        let (title, message) = ("initial commit".to_owned(), "initial commit\n".to_owned());
        let changes = self.add_pointers(&access.lower(), &mut builder).await?;
        let draft = Draft { target: RefName::main(), head: None, title, message, builder, changes };
        let prepared = self.prepare(context, &access, draft).await?;
        let prepared = prepared.ok_or_else(|| Problem::internal("a first commit without a tree"))?;
        let published = self.publish_repo(context, namespace, new, &prepared).await;
        self.keep_if(published, &prepared.pack).await
    }

    /// The transaction of a new repository.
    async fn publish_repo(
        &self,
        context: &Context,
        namespace: &Access<Write, Namespace>,
        new: &NewRepo<'_>,
        prepared: &Prepared,
    ) -> Result<(), Problem> {
        let access = access::to_make(namespace, new);
        let mut tx = self.write_in(context, namespace).await?;
        self.add_row(&mut tx, context, namespace, new).await?;
        self.write_commit(&mut tx, context, &access, prepared).await?;
        tx.record(create_event(context, new));
        crate::crash::point("commit.before");
        tx.commit(commit_event(context, &access, prepared)).await?;
        crate::crash::point("commit.after");
        Ok(())
    }

    async fn add_row(
        &self,
        tx: &mut WriteTx,
        context: &Context,
        namespace: &Access<Write, Namespace>,
        new: &NewRepo<'_>,
    ) -> Result<(), Problem> {
        if let Some(taken) = repos::at(tx, namespace, new.path).await? {
            return Err(self.exists(context, &taken));
        }
        Ok(repos::add(tx, namespace, new).await?)
    }

    fn exists(&self, context: &Context, taken: &RepoPath) -> Problem {
        Problem::Exists {
            message: format!("You already created this {} repo", taken.kind),
            url: Some(self.repo_url(context, taken)),
        }
    }

    pub async fn delete_repo(&self, context: &Context, access: &Access<Admin>) -> Result<(), Problem> {
        let mut tx = self.write_to(context, access).await?;
        let event = delete_event(context, access.repo(), repos::settings_of(&mut tx, access).await?);
        repos::remove(&mut tx, access).await?;
        tx.commit(event).await?;
        // Only a copy: the packs themselves are left to collection.
        self.git.forget(access.repo_id())?;
        Ok(())
    }

    /// Moves a repository. Its old path leads to the new one until something else takes it.
    pub async fn move_repo(
        &self,
        context: &Context,
        access: &Access<Admin>,
        to: &RepoPath,
    ) -> Result<(), Problem> {
        let target = self.access(context).namespace_to_fill(Some(&to.namespace)).await?;
        let to = RepoPath { namespace: target.namespace().name.clone(), ..to.clone() };
        let mut tx = self.write_to(context, access).await?;
        self.renew_in(&mut tx, context, &target).await?;
        let taken = repos::at(&mut tx, &target, &to).await?;
        if let Some(taken) = taken.filter(|taken| *taken != access.repo().path) {
            return Err(Problem::Exists {
                message: format!("A {} repository called {} already exists", taken.kind, taken.id()),
                url: Some(self.repo_url(context, &taken)),
            });
        }
        repos::rename(&mut tx, access, &target, &to).await?;
        if target.namespace().id != access.repo().namespace_id {
            self.quota_in(&mut tx, access, 0).await?;
        }
        let old = &access.repo().path;
        let gone: Vec<String> = name_words(&old.key()).map(ToOwned::to_owned).collect();
        search::rename(&mut tx, access, &gone, &name_words(&to.key()).collect::<Vec<_>>()).await?;
        let event = repo_event(context, Action::RepoMove, access.repo_id(), old)
            .fact("to", to.to_string())
            .fact("owner_id", access.repo().namespace_id.as_i64())
            .fact("to_owner_id", target.namespace().id.as_i64());
        Ok(tx.commit(event).await?)
    }

    pub async fn set_repo(
        &self,
        context: &Context,
        access: &Access<Admin>,
        settings: Settings,
    ) -> Result<(), Problem> {
        let mut tx = self.write_to(context, access).await?;
        let before = repos::settings_of(&mut tx, access).await?;
        repos::set(&mut tx, access, settings).await?;
        search::reindex(&mut tx, access).await?;
        let event = repo_event(context, Action::RepoSettings, access.repo_id(), &access.repo().path);
        let event = settings_facts(event, settings, before);
        Ok(tx.commit(event).await?)
    }

    /// What the settings of a repository are.
    pub async fn repo_settings(&self, access: &Access<Admin>) -> Result<Settings, Problem> {
        Ok(repos::settings_of(&mut self.db.read().await?, access).await?)
    }

    /// Makes a copy with all branches, tags and files, in one transaction. No bytes move: packs
    /// and xorbs are shared. Counts as a delivery of all that the original holds.
    pub async fn duplicate_repo(
        &self,
        context: &Context,
        from: &Access<Read>,
        to: &RepoPath,
        visibility: Option<Visibility>,
    ) -> Result<CreatedRepo, Problem> {
        let namespace = self.access(context).namespace_to_fill(Some(&to.namespace)).await?;
        let to = RepoPath { namespace: namespace.namespace().name.clone(), ..to.clone() };
        self.refuse_taken(context, &namespace, &to).await?;
        self.record_copy(context, from).await?;
        let mut tx = self.write_in(context, &namespace).await?;
        self.renew(&mut tx, context, from).await?;
        // As it is shown now, not as it was when the permit was made.
        let source = repos::settings_of(&mut tx, from).await?;
        let metadata = repos::metadata_of(&mut tx, from).await?;
        let new = NewRepo {
            id: RepoId::new(context.now()),
            path: &to,
            visibility: copy_visibility(&source, namespace.namespace(), visibility)?,
            // Whoever may read is not therefore allowed to open it for all.
            gated: source.gated.unwrap_or(from.repo().gated),
            creator_id: context.user_id(),
            sdk: metadata.sdk.as_deref(),
            now: context.now(),
        };
        self.add_row(&mut tx, context, &namespace, &new).await?;
        let access = access::to_make(&namespace, &new);
        git::copy_history(&mut tx, from, &access).await?;
        copy_files(&mut tx, from, &access, context.now()).await?;
        large_files::copy_deleted(&mut tx, from, &access).await?;
        self.quota_in(&mut tx, &access, 0).await?;
        repos::set_metadata(&mut tx, &access, &metadata).await?;
        copy_terms(&mut tx, from, &access).await?;
        let (copy, original) = copy_events(context, from.repo(), &new);
        tx.record(create_event(context, &new));
        tx.record(original);
        tx.commit(copy).await?;
        Ok(CreatedRepo { id: new.id, url: self.repo_url(context, &to), path: to })
    }

    async fn record_copy(&self, context: &Context, from: &Access<Read>) -> Result<(), Problem> {
        let commit = self.head(from).await?;
        let bytes = storage::usage(&mut self.db.read().await?, from).await?.repo.all;
        let object = commit.map(|commit| commit.to_string()).unwrap_or_default();
        self.record_read(context, from, Delivery { via: "duplicate", commit, path: None, object, bytes })
    }

    /// Which commit the main branch is at, if there is one.
    pub async fn head<L>(&self, access: &Access<L>) -> Result<Option<Oid>, Problem>
    where
        L: crate::access::Includes<crate::access::See>,
    {
        let found = bastide_store::refs::get(&mut self.db.read().await?, access, &RefName::main()).await?;
        Ok(found.map(|found| found.commit))
    }
}

pub(crate) fn repo_event(context: &Context, action: Action, id: RepoId, path: &RepoPath) -> NewEvent {
    NewEvent::new(context, action).subject("repo", Some(id.as_i64()), &path.to_string())
}

/// Parses the setting `gated`, which is `false` or a word.
pub fn parse_gated(value: &serde_json::Value) -> Result<Gated, Problem> {
    let text = value.as_str().unwrap_or(if *value == serde_json::Value::Bool(false) { "false" } else { "" });
    Gated::parse(text)
        .ok_or_else(|| Problem::Invalid("\"gated\" must be one of [auto, manual, false]".into()))
}

/// True when strangers may see nothing of it.
pub fn is_private(repo: &Repo) -> bool {
    repo.visibility != Visibility::Public
}

fn check_sdk(request: &RepoRequest) -> Result<Option<&str>, Problem> {
    match (request.kind, request.sdk.as_deref()) {
        (RepoKind::Space, Some(sdk)) if SDKS.contains(&sdk) => Ok(Some(sdk)),
        (RepoKind::Space, _) => {
            Err(Problem::Invalid(format!("\"sdk\" must be one of [{}]", SDKS.join(", "))))
        }
        (_, None) => Ok(None),
        (_, Some(_)) => Err(Problem::Invalid("\"sdk\" is for Spaces only".into())),
    }
}

/// Our own files, and then the caller's.
fn first_files(
    path: &RepoPath,
    sdk: Option<&str>,
    request: &RepoRequest,
) -> Result<Vec<(EntryPath, Bytes)>, Problem> {
    let mut texts = vec![(".gitattributes", default_attributes(path.kind == RepoKind::Dataset))];
    let own_card = request.files.iter().any(|(path, _)| path.as_str() == "README.md");
    if own_card && request.license.is_some() {
        let text = "put the license into the README.md that you send, or send no README.md";
        return Err(Problem::Invalid(text.into()));
    }
    texts.extend(card(path, sdk, request.license.as_deref()).map(|card| ("README.md", card)));
    if sdk == Some("static") {
        let title = path.name.as_str();
        let page = format!(
            "<!doctype html>\n<html>\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
             <link rel=\"stylesheet\" href=\"style.css\">\n</head>\n<body>\n<h1>{title}</h1>\n</body>\n</html>\n"
        );
        texts.push(("index.html", page));
        texts.push(("style.css", "body {\n  font-family: sans-serif;\n  margin: 2rem;\n}\n".to_owned()));
    }
    let ours = texts.into_iter().map(|(name, text)| Ok((name.parse::<EntryPath>()?, Bytes::from(text))));
    ours.chain(request.files.iter().cloned().map(Ok)).collect()
}

/// The card that a repository starts with: a Space always has one.
fn card(path: &RepoPath, sdk: Option<&str>, license: Option<&str>) -> Option<String> {
    // Quoted, since a name like `2048` or `true` is no text in YAML; JSON is YAML.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let title = path.name.as_str();
    let mut front = String::new();
    if let Some(sdk) = sdk {
        let title = quoted(title);
        front.push_str(&format!("title: {title}\nemoji: 🚀\ncolorFrom: gray\ncolorTo: blue\nsdk: {sdk}\n"));
    }
    if let Some(license) = license {
        front.push_str(&format!("license: {}\n", quoted(license)));
    }
    let body = if sdk.is_some() { format!("\n# {title}\n") } else { String::new() };
    (!front.is_empty()).then(|| format!("---\n{front}---\n{body}"))
}

fn create_event(context: &Context, new: &NewRepo<'_>) -> NewEvent {
    repo_event(context, Action::RepoCreate, new.id, new.path)
        .fact("visibility", new.visibility.as_str())
        .fact("gated", new.gated.as_str())
        .fact("sdk", new.sdk.unwrap_or_default())
}

/// Says whose it was and who could see it: afterwards nothing else does.
fn delete_event(context: &Context, repo: &Repo, last: Settings) -> NewEvent {
    let event = repo_event(context, Action::RepoDelete, repo.id, &repo.path)
        .fact("owner_id", repo.namespace_id.as_i64())
        .fact("visibility", last.visibility.unwrap_or(repo.visibility).as_str())
        .fact("gated", last.gated.unwrap_or(repo.gated).as_str())
        .fact("disabled", repo.disabled);
    match repo.creator_id {
        Some(creator) => event.fact("creator_id", creator.as_i64()),
        None => event,
    }
}

/// What a copy is told of, and what its original is: each is found by its own subject.
fn copy_events(context: &Context, source: &Repo, new: &NewRepo<'_>) -> (NewEvent, NewEvent) {
    let copy = repo_event(context, Action::RepoDuplicate, new.id, new.path)
        .fact("source", source.path.to_string())
        .fact("source_id", source.id.as_i64());
    let original = repo_event(context, Action::RepoCopyOut, source.id, &source.path)
        .fact("copy", new.path.to_string())
        .fact("copy_id", new.id.as_i64());
    (copy, original)
}

/// Who sees a copy: what was asked for, else what its new owner prefers; never more people than
/// see the original.
fn copy_visibility(
    source: &Settings,
    owner: &Namespace,
    asked: Option<Visibility>,
) -> Result<Visibility, Problem> {
    let most = source.visibility.unwrap_or(Visibility::Private);
    match asked {
        Some(asked) if asked > most => Err(Problem::Forbidden(format!(
            "The original is {most}: its copy cannot be {asked}. Ask for a copy that is {most}, or have an \
             admin of the original change who sees it."
        ))),
        Some(asked) => Ok(asked),
        None => Ok(owner.default_visibility.unwrap_or(most).min(most)),
    }
}

async fn copy_files(
    tx: &mut WriteTx,
    from: &Access<Read>,
    to: &Access<Write>,
    now: Timestamp,
) -> Result<(), Problem> {
    for sha256 in xet::all_sha256(tx, from).await? {
        if !xet::copy_file(tx, from, to, sha256, now).await? {
            return Err(Problem::internal(format!("the file {sha256} of {} is not whole", from.repo().path)));
        }
    }
    Ok(())
}

/// A copy is found by the same words, but for those of its name.
async fn copy_terms(tx: &mut WriteTx, from: &Access<Read>, to: &Access<Write>) -> Result<(), Problem> {
    let terms = search::terms_of(tx, from).await?;
    let key = to.repo().path.key();
    let kept = terms.iter().filter(|(kind, _)| kind != "name");
    let mut terms: Vec<_> = kept.map(|(kind, word)| (kind.as_str(), word.as_str())).collect();
    terms.extend(name_words(&key).map(|word| ("name", word)));
    terms.sort_unstable();
    terms.dedup();
    Ok(search::index(tx, to, &terms).await?)
}

/// What settings become, and what they were.
fn settings_facts(mut event: NewEvent, new: Settings, before: Settings) -> NewEvent {
    let texts = |settings: Settings| {
        [
            ("visibility", settings.visibility.map(|visibility| visibility.to_string())),
            ("gated", settings.gated.map(|gated| gated.as_str().to_owned())),
            ("discussions_disabled", settings.discussions_disabled.map(|yes| yes.to_string())),
        ]
    };
    for ((key, new), (_, old)) in texts(new).into_iter().zip(texts(before)) {
        if let Some(new) = new {
            event = event.fact(key, new).fact(&format!("{key}_before"), old.unwrap_or_default());
        }
    }
    event
}
