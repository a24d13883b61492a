//! Lists of repositories: what one row shows, and finding many by words, tags and order.
//!
//! The plan: a page is filled by walking the index of the sort order and testing each row, or by
//! starting from the rarest word and sorting what it has, whichever visits fewer rows. The same
//! SQL on both engines, always consistent with the data.

use bastide_core::{NamespaceId, RepoId, RepoKind, RepoName, RepoPath, Timestamp, Visibility};

use crate::db::{Reader, Row, Value};
use crate::gate::parse;
use crate::permit::{Access, Gated, Includes, See};
use crate::search::{self, Audiences};
use crate::{StoreError, values};

/// Everything that information about a repository shows.
#[derive(Debug, Clone)]
pub struct RepoInfo {
    pub id: RepoId,
    pub path: RepoPath,
    pub visibility: Visibility,
    pub gated: Gated,
    pub disabled: bool,
    pub discussions_disabled: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub downloads: i64,
    pub downloads_all: i64,
    pub likes: i64,
    pub trending: f64,
    pub used_bytes: i64,
    pub sdk: Option<String>,
    pub pipeline_tag: Option<String>,
    pub library: Option<String>,
    /// JSON, as it was stored.
    pub tags: String,
    pub card: Option<String>,
    pub facts: String,
}

const COLUMNS: &str = "r.id, r.kind, r.namespace, r.name, r.visibility, r.gated, r.disabled, r.discussions_disabled, \
    r.created_at, r.updated_at, r.downloads, r.downloads_all, r.likes, r.trending, r.used_bytes, r.sdk, \
    r.pipeline_tag, r.library, r.tags, r.card, r.facts";

fn info(row: &Row) -> Result<RepoInfo, StoreError> {
    let kind: RepoKind = parse(row, 1)?;
    let gated: String = row.get(5)?;
    Ok(RepoInfo {
        id: row.get(0)?,
        path: RepoPath { kind, namespace: parse(row, 2)?, name: parse::<RepoName>(row, 3)? },
        visibility: parse(row, 4)?,
        gated: Gated::parse(&gated).ok_or_else(|| StoreError::Corrupt(format!("gated: {gated}")))?,
        disabled: row.get(6)?,
        discussions_disabled: row.get(7)?,
        created_at: row.get(8)?,
        updated_at: row.get(9)?,
        downloads: row.get(10)?,
        downloads_all: row.get(11)?,
        likes: row.get(12)?,
        trending: row.get(13)?,
        used_bytes: row.get(14)?,
        sdk: row.get(15)?,
        pipeline_tag: row.get(16)?,
        library: row.get(17)?,
        tags: row.get(18)?,
        card: row.get(19)?,
        facts: row.get(20)?,
    })
}

pub async fn info_of<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Option<RepoInfo>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM repo r WHERE r.id = $1");
    read.one(&sql, values![access.repo_id()]).await?.map(|row| info(&row)).transpose()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    #[default]
    Trending,
    Downloads,
    Likes,
    Created,
    Updated,
}

impl Sort {
    const fn column(self) -> &'static str {
        match self {
            Self::Trending => "trending",
            Self::Downloads => "downloads",
            Self::Likes => "likes",
            Self::Created => "created_at",
            Self::Updated => "updated_at",
        }
    }

    fn value(self, info: &RepoInfo) -> Value {
        match self {
            Self::Trending => Value::Real(info.trending),
            Self::Downloads => Value::Int(info.downloads),
            Self::Likes => Value::Int(info.likes),
            Self::Created => Value::from(info.created_at),
            Self::Updated => Value::from(info.updated_at),
        }
    }
}

/// Where a page ended: the sort value and the id of its last row.
#[derive(Debug, Clone, PartialEq)]
pub struct Cursor {
    pub value: Value,
    pub id: RepoId,
}

impl Cursor {
    pub fn after(info: &RepoInfo, sort: Sort) -> Self {
        Self { value: sort.value(info), id: info.id }
    }
}

/// What is looked for. The caller is part of it: a list shows what its reader may see.
#[derive(Debug, Clone)]
pub struct ListQuery {
    pub kind: RepoKind,
    pub viewer: Option<NamespaceId>,
    /// Lower-case name of the owner.
    pub author: Option<String>,
    /// Lower-case pieces that the id contains, all of them.
    pub search: Vec<String>,
    /// Words that the repository has, all of them: (`tag` or `link`, word).
    pub terms: Vec<(&'static str, String)>,
    pub gated: Option<bool>,
    pub parameters: (Option<i64>, Option<i64>),
    pub sort: Sort,
    pub ascending: bool,
    pub limit: u32,
    pub cursor: Option<Cursor>,
}

/// Words of the dictionary that a piece of text may stand for; with more, matches are so dense
/// that walking the sort order fills a page at once.
const MAX_WORDS: usize = 1000;

/// Any one of these terms; `uses` says how many repositories have them, about.
struct AnyOf {
    ids: Vec<i64>,
    uses: i64,
}

impl AnyOf {
    /// `None` when there is no such word.
    fn of(words: Vec<(i64, i64)>) -> Option<Self> {
        let uses = words.iter().map(|(_, uses)| uses).sum();
        (!words.is_empty()).then(|| Self { ids: words.into_iter().map(|(id, _)| id).collect(), uses })
    }
}

pub async fn find(read: &mut Reader, query: &ListQuery) -> Result<Vec<RepoInfo>, StoreError> {
    let audiences = Audiences::of(read, query.viewer).await?;
    let Some(wanted) = wanted_terms(read, query, &audiences).await? else { return Ok(Vec::new()) };
    let kinds = AnyOf::of(search::word(read, &audiences, ("kind", query.kind.as_str())).await?);
    let total = kinds.map_or(0, |kinds| kinds.uses).max(1);
    let (sql, params) = statement(query, &wanted, total);
    read.scan(&sql, &params).await?.iter().map(info).collect()
}

/// The terms of the query; `None` when one of them does not exist, so nothing can match.
async fn wanted_terms(
    read: &mut Reader,
    query: &ListQuery,
    audiences: &Audiences,
) -> Result<Option<Vec<AnyOf>>, StoreError> {
    let mut wanted = Vec::new();
    for (kind, word) in &query.terms {
        let Some(any) = AnyOf::of(search::word(read, audiences, (kind, word)).await?) else {
            return Ok(None);
        };
        wanted.push(any);
    }
    for piece in &query.search {
        // The longest word of the piece; the whole piece is compared in the end.
        let word =
            piece.split(|c: char| !c.is_alphanumeric()).max_by_key(|word| word.len()).unwrap_or_default();
        if word.is_empty() {
            continue;
        }
        let words = search::words_with(read, audiences, word, MAX_WORDS + 1).await?;
        let few = words.len() <= MAX_WORDS;
        let Some(any) = AnyOf::of(words) else { return Ok(None) };
        if few {
            wanted.push(any);
        }
    }
    wanted.sort_by_key(|any| any.uses);
    Ok(Some(wanted))
}

/// Rows that a walk along the sort order visits before a page is full, about.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn walk_cost(wanted: &[AnyOf], total: i64, limit: u32) -> f64 {
    let share = |any: &AnyOf| (any.uses.max(1) as f64 / total as f64).min(1.0);
    f64::from(limit) / wanted.iter().map(share).product::<f64>()
}

/// Builds a statement: text and numbered values together.
#[derive(Default)]
struct Builder {
    conditions: Vec<String>,
    params: Vec<Value>,
}

impl Builder {
    fn bind(&mut self, value: impl Into<Value>) -> String {
        self.params.push(value.into());
        format!("${}", self.params.len())
    }

    fn add(&mut self, condition: String) {
        self.conditions.push(condition);
    }

    fn has_terms(&mut self, any: &AnyOf) {
        self.add(format!("EXISTS ({} AND t.repo_id = r.id)", with_terms(any)));
    }

    /// Starts from the repositories that have all of these terms: their ids alone are compared,
    /// and only the rows that are left are read. Lists of ids are sorted, so comparing two costs as
    /// much as reading both; a list that is far longer is asked for each id instead.
    fn is_among(&mut self, first: &AnyOf, rest: &[AnyOf]) {
        let (near, far): (Vec<_>, Vec<_>) = rest.iter().partition(|any| any.uses / LONGER_LIST <= first.uses);
        let ids: Vec<String> = std::iter::once(first).chain(near).map(with_terms).collect();
        self.add(format!("r.id IN ({})", ids.join(" INTERSECT ")));
        far.into_iter().for_each(|any| self.has_terms(any));
    }
}

/// How much longer a list may be to be read whole.
const LONGER_LIST: i64 = 16;

fn with_terms(any: &AnyOf) -> String {
    let ids = any.ids.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    format!("SELECT t.repo_id FROM repo_term t WHERE t.term_id IN ({ids})")
}

fn statement(query: &ListQuery, wanted: &[AnyOf], total: i64) -> (String, Vec<Value>) {
    let mut build = Builder::default();
    let kind = build.bind(query.kind.as_str());
    let column = query.sort.column();
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let rarest =
        wanted.split_first().filter(|(any, _)| (any.uses as f64) < walk_cost(wanted, total, query.limit));
    // A plus sign or an empty text keeps an engine from walking the index all the same.
    let order = if let Some((first, rest)) = rarest {
        build.is_among(first, rest);
        build.add(format!("(r.kind || '') = {kind}"));
        format!("+r.{column}")
    } else {
        wanted.iter().for_each(|any| build.has_terms(any));
        build.add(format!("r.kind = {kind}"));
        format!("r.{column}")
    };
    plain_conditions(query, &mut build);
    let direction = if query.ascending { "ASC" } else { "DESC" };
    if let Some(cursor) = &query.cursor {
        let (value, id) = (build.bind(cursor.value.clone()), build.bind(cursor.id));
        let past = if query.ascending { ">" } else { "<" };
        build.add(format!("r.{column} {past}= {value} AND (r.{column} {past} {value} OR r.id {past} {id})"));
    }
    let limit = build.bind(query.limit);
    let conditions = build.conditions.join(" AND ");
    let sql = format!(
        "SELECT {COLUMNS} FROM repo r WHERE {conditions} ORDER BY {order} {direction}, r.id {direction} LIMIT {limit}"
    );
    (sql, build.params)
}

/// The condition on `r` that a reader may see it; `viewer` is where its id is bound.
pub(crate) fn visible(viewer: Option<&str>) -> String {
    let Some(viewer) = viewer else { return "r.visibility = 'public'".to_owned() };
    format!(
        "(r.visibility <> 'private' OR r.namespace_id = {viewer} OR EXISTS (SELECT 1 FROM member m \
         WHERE m.org_id = r.namespace_id AND m.user_id = {viewer} AND m.role <> 'no_access'))"
    )
}

fn plain_conditions(query: &ListQuery, build: &mut Builder) {
    let viewer = query.viewer.map(|viewer| build.bind(viewer));
    build.add(visible(viewer.as_deref()));
    if let Some(author) = &query.author {
        let author = build.bind(author.as_str());
        build.add(format!("r.namespace_id = (SELECT n.id FROM namespace n WHERE n.name_key = {author})"));
    }
    for piece in &query.search {
        let pattern = build.bind(like(piece));
        build.add(format!("r.path_key LIKE {pattern} ESCAPE '\\'"));
    }
    if let Some(gated) = query.gated {
        build.add(format!("r.gated {} 'false'", if gated { "<>" } else { "=" }));
    }
    let (min, max) = query.parameters;
    if let Some(min) = min {
        let min = build.bind(min);
        build.add(format!("r.parameters >= {min}"));
    }
    if let Some(max) = max {
        let max = build.bind(max);
        build.add(format!("r.parameters <= {max}"));
    }
}

/// A piece of text as a pattern that contains it, letter by letter.
pub(crate) fn like(piece: &str) -> String {
    let escaped =
        piece.chars().flat_map(|c| matches!(c, '\\' | '%' | '_').then_some('\\').into_iter().chain([c]));
    format!("%{}%", escaped.collect::<String>())
}
