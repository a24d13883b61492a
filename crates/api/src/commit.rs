//! Uploading: what to do with each file, and the commit itself.

use std::marker::PhantomData;

use axum::Json;
use axum::extract::{Request, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bastide_core::limits::{MAX_COMMIT_BYTES, MAX_COMMIT_OPERATIONS, MAX_REGULAR_FILE_BYTES};
use bastide_core::{EntryPath, Oid, RefName, Revision};
use bastide_hub::commits::{CommitBuilder, CommitHeader, Operation};
use bastide_hub::preupload::{Candidate, Verdict};
use bastide_hub::uploads::{Purpose, Uploader};
use bastide_hub::{Hub, Problem};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::{Method, header};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::buffer::Room;
use crate::extract::{Caller, JsonBody, Query, RepoRoute, body_bytes, null_is_missing};
use crate::routes::Routes;

/// A line holds one file in base64, and some text.
const MAX_LINE_BYTES: usize = MAX_REGULAR_FILE_BYTES as usize / 3 * 4 + 64 * 1024;

/// A whole commit as one document: room for two files of the largest size. Longer ones come line
/// by line.
const MAX_DOCUMENT_BYTES: usize = 2 * MAX_LINE_BYTES;

pub fn routes(routes: Routes) -> Routes {
    routes.api(Method::POST, "/api/{kind}/{ns}/{name}/preupload/{*rev}", preupload).api(
        Method::POST,
        "/api/{kind}/{ns}/{name}/commit/{*rev}",
        commit,
    )
}

/// What an upload is for: a pull request that there will be, one that there is, or a branch.
pub fn purpose(query: &Query, revision: &str) -> Purpose {
    if query.flag("create_pr") {
        return Purpose::NewPull;
    }
    match Revision::parse(revision) {
        Revision::Ref(name) => name.pull_request_number().map_or(Purpose::Branch, Purpose::Pull),
        Revision::Commit(_) | Revision::Short(_) | Revision::Head => Purpose::Branch,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PreuploadBody {
    files: Vec<PreuploadFile>,
    git_attributes: Option<String>,
    git_ignore: Option<String>,
}

#[derive(Deserialize)]
struct PreuploadFile {
    path: String,
    size: u64,
    #[serde(default, deserialize_with = "null_is_missing")]
    sample: String,
}

async fn preupload(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    query: Query,
    JsonBody(body): JsonBody<PreuploadBody>,
) -> Answer<Json<Value>> {
    let revision = route.joined_tail();
    let by = caller.uploader(&hub, &route.path, purpose(&query, &revision)).await?;
    let candidates = body.files.into_iter().map(|file| Candidate {
        path: file.path,
        size: file.size,
        sample: STANDARD.decode(file.sample).unwrap_or_default(),
    });
    let (attributes, ignores) = (body.git_attributes, body.git_ignore);
    let (commit, verdicts) =
        hub.preupload(&by.reader(), &revision, candidates.collect(), attributes, ignores).await?;
    let new_bytes = verdicts.iter().map(|verdict| verdict.new_bytes).fold(0, u64::saturating_add);
    hub.check_upload_quota(&caller.context, &by, new_bytes).await?;
    let files: Vec<Value> = verdicts.iter().map(verdict_json).collect();
    Ok(Json(json!({ "files": files, "commitOid": commit })))
}

fn verdict_json(verdict: &Verdict) -> Value {
    let mode = if verdict.large { "lfs" } else { "regular" };
    let mut value = json!({ "path": verdict.path, "uploadMode": mode, "shouldIgnore": verdict.ignore });
    if let (Some(oid), Some(value)) = (&verdict.oid, value.as_object_mut()) {
        value.insert("oid".into(), json!(oid));
    }
    value
}

async fn commit(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    query: Query,
    request: Request,
) -> Answer<Json<Value>> {
    let revision = route.joined_tail();
    let purpose = purpose(&query, &revision);
    let by = caller.uploader(&hub, &route.path, purpose).await?;
    let mut reader = Reader { header: None, builder: hub.begin_commit_by(&caller.context, &by).await? };
    read_body(request, &mut reader).await?;
    let header = reader.header.ok_or_else(|| Problem::Invalid("the commit has no header line".into()))?;
    let (context, builder) = (&caller.context, reader.builder);
    let (commit, pull) = match (purpose, &by) {
        (Purpose::NewPull, _) => {
            let opened = hub.open_pull(context, &by, &revision, &header, builder).await?;
            (opened.commit, Some(opened.number))
        }
        (Purpose::Pull(number), _) => {
            (hub.commit_to_pull(context, &by, number, &header, builder).await?.id, None)
        }
        (Purpose::Branch | Purpose::Unknown, Uploader::Writer(access)) => {
            (hub.commit(context, access, &target(&revision)?, &header, builder).await?.id, None)
        }
        // Nobody else is let through for a branch.
        (Purpose::Branch | Purpose::Unknown, Uploader::Proposer(_)) => {
            return Err(Problem::Forbidden("You don't have the rights for this.".into()).into());
        }
    };
    Ok(Json(committed_json(&hub.repo_url(context, &by.repo().path), commit, pull)))
}

fn committed_json(url: &str, commit: Oid, pull: Option<u64>) -> Value {
    let page = format!("{url}/commit/{commit}");
    let mut value = json!({ "success": true, "commitOid": commit, "commitUrl": page, "hookOutput": "" });
    if let (Some(pull), Some(value)) = (pull, value.as_object_mut()) {
        value.insert("pullRequestUrl".into(), format!("{url}/discussions/{pull}").into());
    }
    value
}

/// Where a commit goes by its revision, and what squashing rewrites: a branch or a pull request; never a tag or
/// another commit.
pub fn target(revision: &str) -> Result<RefName, Problem> {
    let missing = || Problem::RevisionNotFound(revision.to_owned());
    match Revision::parse(revision) {
        Revision::Head => Ok(RefName::main()),
        Revision::Ref(name) if name.is_branch() || name.is_pull_request() => Ok(name),
        Revision::Short(name) => RefName::branch(&name).map_err(|_| missing()),
        Revision::Ref(_) | Revision::Commit(_) => Err(missing()),
    }
}

struct Reader {
    header: Option<CommitHeader>,
    builder: CommitBuilder,
}

/// NDJSON as it comes, or one JSON document from older clients.
async fn read_body(request: Request, reader: &mut Reader) -> Result<(), Problem> {
    let whole = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.to_str().is_ok_and(|value| value.starts_with("application/json")));
    if whole {
        let bytes = body_bytes(request, MAX_DOCUMENT_BYTES).await?;
        return reader.document(&bytes).await;
    }
    let mut body = request.into_body().into_data_stream();
    let mut buffer = BytesMut::new();
    let mut room = Room::default();
    let mut total = 0u64;
    // Where the search for the end of the line goes on.
    let mut searched = 0;
    while let Some(part) = body.next().await {
        let part = part.map_err(|_| Problem::Invalid("the request ended before its body did".into()))?;
        total += part.len() as u64;
        if total > MAX_COMMIT_BYTES {
            return Err(Problem::TooLarge(format!(
                "a commit request has at most {MAX_COMMIT_BYTES} bytes: split it"
            )));
        }
        room.hold(buffer.len() + part.len())?;
        buffer.extend_from_slice(&part);
        while let Some(end) = buffer.iter().skip(searched).position(|byte| *byte == b'\n') {
            let line = buffer.split_to(searched + end + 1);
            searched = 0;
            reader.line(&line).await?;
        }
        searched = buffer.len();
        if searched > MAX_LINE_BYTES {
            return Err(too_long());
        }
    }
    reader.line(&buffer).await
}

fn too_long() -> Problem {
    Problem::TooLarge(format!(
        "a file in a commit has at most {MAX_REGULAR_FILE_BYTES} bytes: upload it as a large file (LFS or Xet)"
    ))
}

#[derive(Deserialize)]
struct Line<'a> {
    key: String,
    #[serde(borrow)]
    value: &'a serde_json::value::RawValue,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct HeaderValue {
    summary: String,
    description: String,
    parent_commit: Option<String>,
}

/// A file whose content is in the request itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileValue {
    path: String,
    content: String,
    encoding: Option<String>,
    old_path: Option<String>,
}

impl FileValue {
    /// Its path, and its content as bytes.
    pub fn decode(self) -> Result<(EntryPath, Bytes), Problem> {
        let content = match self.encoding.as_deref() {
            Some("base64") => {
                let bytes = STANDARD.decode(self.content.as_bytes());
                bytes.map_err(|_| Problem::Invalid(format!("the content of {} is not base64", self.path)))?
            }
            None | Some("utf-8") => self.content.into_bytes(),
            Some(other) => {
                return Err(Problem::Invalid(format!("'{other}' is not an encoding: use base64 or utf-8")));
            }
        };
        Ok((path(&self.path)?, Bytes::from(content)))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LargeValue {
    path: String,
    algo: Option<String>,
    oid: String,
    size: Option<u64>,
    old_path: Option<String>,
}

#[derive(Deserialize)]
struct PathValue {
    path: String,
}

/// The whole commit as one document. Its fields are spelled out: a flattened header would keep a
/// copy of whatever else somebody puts there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    summary: String,
    #[serde(default)]
    description: String,
    parent_commit: Option<String>,
    #[serde(default)]
    files: Few<FileValue>,
    #[serde(default)]
    lfs_files: Few<LargeValue>,
    #[serde(default)]
    deleted_entries: Few<PathValue>,
}

/// A list that ends the reading when it is longer than a commit can be.
struct Few<T>(Vec<T>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = Few<T>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "a list of at most {MAX_COMMIT_OPERATIONS} operations")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Few<T>, A::Error> {
                let mut few = Vec::new();
                while let Some(item) = items.next_element()? {
                    if few.len() >= MAX_COMMIT_OPERATIONS {
                        return Err(A::Error::invalid_length(few.len() + 1, &self));
                    }
                    few.push(item);
                }
                Ok(Few(few))
            }
        }
        deserializer.deserialize_seq(Items(PhantomData))
    }
}

fn bad_json(error: serde_json::Error) -> Problem {
    Problem::Invalid(format!("a line of the commit is not valid: {error}"))
}

fn path(text: &str) -> Result<EntryPath, Problem> {
    text.trim_end_matches('/').parse().map_err(|error: bastide_core::Invalid| Problem::Unprocessable(error.0))
}

impl Reader {
    async fn line(&mut self, line: &[u8]) -> Result<(), Problem> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        if line.len() > MAX_LINE_BYTES {
            return Err(too_long());
        }
        let Line { key, value } = serde_json::from_slice(line).map_err(bad_json)?;
        let value = value.get();
        match key.as_str() {
            "header" => {
                self.header = Some(header_of(serde_json::from_str(value).map_err(bad_json)?));
                Ok(())
            }
            "file" => self.file(serde_json::from_str(value).map_err(bad_json)?).await,
            "lfsFile" => self.large(serde_json::from_str(value).map_err(bad_json)?).await,
            "deletedFile" | "deletedEntry" | "deletedFolder" => {
                self.delete(serde_json::from_str(value).map_err(bad_json)?).await
            }
            other => Err(Problem::Invalid(format!("a commit has no lines of the kind '{other}'"))),
        }
    }

    async fn document(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let document: Document = serde_json::from_slice(bytes).map_err(bad_json)?;
        let Document { summary, description, parent_commit, files, lfs_files, deleted_entries } = document;
        self.header = Some(header_of(HeaderValue { summary, description, parent_commit }));
        for file in files.0 {
            self.file(file).await?;
        }
        for file in lfs_files.0 {
            self.large(file).await?;
        }
        for entry in deleted_entries.0 {
            self.delete(entry).await?;
        }
        Ok(())
    }

    async fn file(&mut self, mut file: FileValue) -> Result<(), Problem> {
        let old_path = file.old_path.take();
        let (path, content) = file.decode()?;
        self.renamed(old_path).await?;
        self.builder.add(Operation::Put { path, content }).await
    }

    async fn large(&mut self, file: LargeValue) -> Result<(), Problem> {
        if file.algo.as_deref().is_some_and(|algo| algo != "sha256") {
            return Err(Problem::Invalid("\"algo\" must be one of [sha256]".into()));
        }
        self.renamed(file.old_path).await?;
        let sha256 = file.oid.parse()?;
        self.builder.add(Operation::PutLarge { path: path(&file.path)?, sha256, size: file.size }).await
    }

    async fn delete(&mut self, entry: PathValue) -> Result<(), Problem> {
        self.builder.add(Operation::Delete { path: path(&entry.path)? }).await
    }

    async fn renamed(&mut self, old: Option<String>) -> Result<(), Problem> {
        match old {
            Some(old) => self.builder.add(Operation::Delete { path: path(&old)? }).await,
            None => Ok(()),
        }
    }
}

/// The first line of the summary is the title; what follows belongs to the description.
fn header_of(value: HeaderValue) -> CommitHeader {
    let (title, rest) = value.summary.split_once('\n').unwrap_or((&value.summary, ""));
    let description = [rest.trim(), value.description.trim()].join("\n\n").trim().to_owned();
    CommitHeader { title: title.to_owned(), description, parent: value.parent_commit }
}
