//! Repositories: making, moving, settings, removing, duplicating.

use bastide_core::{Name, Oid, RefName, RepoId, RepoKind, RepoPath, Visibility};
use bastide_inspect::attributes::default_attributes;
use bastide_ledger::Context;
use bastide_ledger::{Action, NewEvent};
use bastide_store::permit::{Gated, Namespace, Repo};
use bastide_store::repos::{self, NewRepo, Settings};
use bastide_store::{StoreError, git, search, xet};

use crate::access::{Access, Admin, Read, Write};
use crate::commits::{CommitHeader, Operation};
use crate::metadata::name_words;
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
}

/// A repository that was made.
#[derive(Debug, Clone)]
pub struct CreatedRepo {
    pub id: RepoId,
    pub path: RepoPath,
    pub url: String,
}

impl Hub {
    pub fn repo_url(&self, path: &RepoPath) -> String {
        format!("{}/{}", self.config.public_url, path.url_path())
    }

    /// The caller's permit to make repositories in a namespace.
    async fn namespace_to_fill(
        &self,
        context: &Context,
        name: Option<&Name>,
    ) -> Result<Access<Write, Namespace>, Problem> {
        match name {
            Some(name) => self.access(context).namespace(name).await,
            None => self.access(context).own_namespace().await,
        }
    }

    pub async fn create_repo(&self, context: &Context, request: RepoRequest) -> Result<CreatedRepo, Problem> {
        let namespace = self.namespace_to_fill(context, request.namespace.as_ref()).await?;
        let owner = namespace.namespace();
        let path =
            RepoPath { kind: request.kind, namespace: owner.name.clone(), name: request.name.parse()? };
        let sdk = check_sdk(&request)?;
        let visibility =
            request.visibility.or(owner.default_visibility).unwrap_or(self.config.default_visibility);
        let id = RepoId::new(context.now());
        let new =
            NewRepo { id, path: &path, visibility, creator_id: context.user_id(), sdk, now: context.now() };
        let mut tx = self.write_in(context, &namespace).await?;
        repos::add(&mut tx, &namespace, &new).await.map_err(|error| self.exists(error, &path))?;
        let event = repo_event(context, Action::RepoCreate, id, &path)
            .fact("visibility", visibility.as_str())
            .fact("sdk", sdk.unwrap_or_default());
        tx.commit(event).await?;
        if let Err(problem) = self.first_commit(context, &path, sdk).await {
            // All or nothing: a repository without its first commit is of no use to anybody.
            let access = self.access(context).repo::<Admin>(&path).await?;
            self.delete_repo(context, &access).await?;
            return Err(problem);
        }
        Ok(CreatedRepo { id, url: self.repo_url(&path), path })
    }

    fn exists(&self, error: StoreError, path: &RepoPath) -> Problem {
        match error {
            StoreError::Conflict => Problem::Exists {
                message: format!("You already created this {} repo", path.kind),
                url: Some(self.repo_url(path)),
            },
            other => other.into(),
        }
    }

    /// Every repository starts with its attributes; a Space with a card and, when it is static,
    /// with a page.
    async fn first_commit(
        &self,
        context: &Context,
        path: &RepoPath,
        sdk: Option<&str>,
    ) -> Result<(), Problem> {
        let access = self.access(context).repo::<Write>(path).await?;
        let mut builder = self.begin_commit()?;
        for (name, text) in first_files(path, sdk) {
            let path = name.parse().map_err(Problem::from)?;
            builder.add(Operation::Put { path, content: text.into() }).await?;
        }
        let header = CommitHeader { title: "initial commit".into(), ..CommitHeader::default() };
        self.commit(context, &access, &RefName::main(), &header, builder).await?;
        Ok(())
    }

    pub async fn delete_repo(&self, context: &Context, access: &Access<Admin>) -> Result<(), Problem> {
        let mut tx = self.write_to(context, access).await?;
        repos::remove(&mut tx, access).await?;
        let event = repo_event(context, Action::RepoDelete, access.repo_id(), &access.repo().path);
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
        let target = self.access(context).namespace::<Write>(&to.namespace).await?;
        let to = RepoPath { namespace: target.namespace().name.clone(), ..to.clone() };
        let mut tx = self.write_to(context, access).await?;
        self.renew_in(&mut tx, context, &target).await?;
        repos::rename(&mut tx, access, &target, &to).await.map_err(|error| match error {
            StoreError::Conflict => Problem::Exists {
                message: format!("A {} repository called {} already exists", to.kind, to.id()),
                url: Some(self.repo_url(&to)),
            },
            other => other.into(),
        })?;
        let old = &access.repo().path;
        let gone: Vec<String> = name_words(&old.key()).map(ToOwned::to_owned).collect();
        search::rename(&mut tx, access, &gone, &name_words(&to.key()).collect::<Vec<_>>()).await?;
        let event = repo_event(context, Action::RepoMove, access.repo_id(), old).fact("to", to.to_string());
        Ok(tx.commit(event).await?)
    }

    pub async fn set_repo(
        &self,
        context: &Context,
        access: &Access<Admin>,
        settings: Settings,
    ) -> Result<(), Problem> {
        let mut tx = self.write_to(context, access).await?;
        repos::set(&mut tx, access, settings).await?;
        search::reindex(&mut tx, access).await?;
        let mut event = repo_event(context, Action::RepoSettings, access.repo_id(), &access.repo().path);
        if let Some(visibility) = settings.visibility {
            event = event.fact("visibility", visibility.as_str());
        }
        if let Some(gated) = settings.gated {
            event = event.fact("gated", gated.as_str());
        }
        if let Some(disabled) = settings.discussions_disabled {
            event = event.fact("discussions_disabled", disabled);
        }
        Ok(tx.commit(event).await?)
    }

    /// Makes a copy with all branches, tags and files. No bytes move: packs and xorbs are shared.
    pub async fn duplicate_repo(
        &self,
        context: &Context,
        from: &Access<Read>,
        to: &RepoPath,
        visibility: Option<Visibility>,
    ) -> Result<CreatedRepo, Problem> {
        let source = from.repo();
        let namespace = self.access(context).namespace::<Write>(&to.namespace).await?;
        let to = RepoPath { namespace: namespace.namespace().name.clone(), ..to.clone() };
        let id = RepoId::new(context.now());
        let sdk = repos::sdk_of(&mut self.db.read().await?, from).await?;
        let new = NewRepo {
            id,
            path: &to,
            // Never shown to more people than the original.
            visibility: visibility.unwrap_or(source.visibility).min(source.visibility),
            creator_id: context.user_id(),
            sdk: sdk.as_deref(),
            now: context.now(),
        };
        let mut tx = self.write_in(context, &namespace).await?;
        repos::add(&mut tx, &namespace, &new).await.map_err(|error| self.exists(error, &to))?;
        let event =
            repo_event(context, Action::RepoCreate, id, &to).fact("visibility", new.visibility.as_str());
        tx.commit(event).await?;
        let access = self.access(context).repo::<Write>(&to).await?;
        let files = xet::all_sha256(&mut self.db.read().await?, from).await?;
        let mut tx = self.write_to(context, &access).await?;
        git::copy_history(&mut tx, from, &access).await?;
        for sha256 in files {
            xet::copy_file(&mut tx, from, &access, sha256, context.now()).await?;
        }
        let event = repo_event(context, Action::RepoDuplicate, id, &to).fact("from", source.path.to_string());
        tx.commit(event).await?;
        self.refresh_metadata(context, &access).await?;
        Ok(CreatedRepo { id, url: self.repo_url(&to), path: to })
    }

    /// Reads a repository's metadata anew.
    pub(crate) async fn refresh_metadata(
        &self,
        context: &Context,
        access: &Access<Write>,
    ) -> Result<(), Problem> {
        let Ok(head) = self.resolve_revision(access, "refs/heads/main").await else { return Ok(()) };
        let metadata = self.read_metadata(access, head).await?;
        let mut tx = self.write_to(context, access).await?;
        self.store_metadata(&mut tx, access, &metadata).await?;
        let event = repo_event(context, Action::RepoIndex, access.repo_id(), &access.repo().path)
            .fact("commit", head.to_string());
        Ok(tx.commit(event).await?)
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

fn first_files(path: &RepoPath, sdk: Option<&str>) -> Vec<(&'static str, String)> {
    let mut files = vec![(".gitattributes", default_attributes(path.kind == RepoKind::Dataset))];
    let Some(sdk) = sdk else { return files };
    let title = path.name.as_str();
    let card = format!(
        "---\ntitle: {title}\nemoji: 🚀\ncolorFrom: gray\ncolorTo: blue\nsdk: {sdk}\n---\n\n# {title}\n"
    );
    files.push(("README.md", card));
    if sdk == "static" {
        let page = format!(
            "<!doctype html>\n<html>\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
             <link rel=\"stylesheet\" href=\"style.css\">\n</head>\n<body>\n<h1>{title}</h1>\n</body>\n</html>\n"
        );
        files.push(("index.html", page));
        files.push(("style.css", "body {\n  font-family: sans-serif;\n  margin: 2rem;\n}\n".to_owned()));
    }
    files
}
