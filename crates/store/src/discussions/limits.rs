//! How much somebody has written lately.

use bastide_core::{NamespaceId, Timestamp};

use crate::db::Reader;
use crate::permit::{Access, Includes, Propose};
use crate::{StoreError, values};

/// How many discussions and pull requests a user has opened since `from`, in repositories of others too.
pub async fn opened_since<L: Includes<Propose>>(
    read: &mut Reader,
    _access: &Access<L>,
    user: NamespaceId,
    from: Timestamp,
) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) FROM discussion WHERE author_id = $1 AND created_at > $2";
    read.one(sql, values![user, from]).await?.map_or(Ok(0), |row| row.get(0))
}

/// How many comments, edits and other events there are of a user in a repository since `from`.
pub async fn comments_since<L: Includes<Propose>>(
    read: &mut Reader,
    access: &Access<L>,
    user: NamespaceId,
    from: Timestamp,
) -> Result<u64, StoreError> {
    let sql = "SELECT \
        (SELECT COUNT(*) FROM discussion_event e JOIN discussion d ON d.id = e.discussion_id \
            WHERE e.author_id = $1 AND e.created_at > $2 AND d.repo_id = $3) + \
        (SELECT COUNT(*) FROM comment_version v JOIN discussion_event e ON e.id = v.event_id \
            JOIN discussion d ON d.id = e.discussion_id \
            WHERE v.author_id = $1 AND v.created_at > $2 AND v.version > 1 AND d.repo_id = $3)";
    read.one(sql, values![user, from, access.repo_id()]).await?.map_or(Ok(0), |row| row.get(0))
}
