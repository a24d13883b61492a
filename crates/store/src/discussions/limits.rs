//! How much somebody has written lately.

use bastide_core::{NamespaceId, Timestamp};

use crate::db::{Reader, Row};
use crate::permit::{Access, Includes, Propose};
use crate::{StoreError, values};

/// How much of something somebody has done, and when first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    pub count: u64,
    pub first: Option<Timestamp>,
}

fn spent(row: Option<Row>) -> Result<Spent, StoreError> {
    row.map_or(Ok(Spent::default()), |row| Ok(Spent { count: row.get(0)?, first: row.get(1)? }))
}

/// The discussions and pull requests that a user has opened since `from`, in any repository.
pub async fn opened_since<L: Includes<Propose>>(
    read: &mut Reader,
    _access: &Access<L>,
    user: NamespaceId,
    from: Timestamp,
) -> Result<Spent, StoreError> {
    let sql = "SELECT COUNT(*), MIN(created_at) FROM discussion WHERE author_id = $1 AND created_at > $2";
    spent(read.one(sql, values![user, from]).await?)
}

/// The comments, edits and other events of a user in a repository since `from`.
pub async fn comments_since<L: Includes<Propose>>(
    read: &mut Reader,
    access: &Access<L>,
    user: NamespaceId,
    from: Timestamp,
) -> Result<Spent, StoreError> {
    let sql = "SELECT COUNT(*), MIN(x.created_at) FROM ( \
        SELECT e.created_at FROM discussion_event e JOIN discussion d ON d.id = e.discussion_id \
            WHERE e.author_id = $1 AND e.created_at > $2 AND d.repo_id = $3 \
        UNION ALL \
        SELECT v.created_at FROM comment_version v JOIN discussion_event e ON e.id = v.event_id \
            JOIN discussion d ON d.id = e.discussion_id \
            WHERE v.author_id = $1 AND v.created_at > $2 AND v.version > 1 AND d.repo_id = $3) x";
    spent(read.one(sql, values![user, from, access.repo_id()]).await?)
}
