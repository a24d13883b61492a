//! Who follows whom.

use bastide_core::{NamespaceId, Timestamp};

use crate::db::{Reader, WriteTx};
use crate::permit::{Access, Includes, Namespace, See, Write};
use crate::{StoreError, values};

/// Says whether anything changed.
pub async fn follow<L: Includes<See>>(
    tx: &mut WriteTx,
    follower: &Access<Write, Namespace>,
    followed: &Access<L, Namespace>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO follow (follower_id, followed_id, created_at) VALUES ($1, $2, $3) \
        ON CONFLICT (follower_id, followed_id) DO NOTHING";
    let params = values![follower.namespace().id, followed.namespace().id, now];
    Ok(tx.execute(sql, params).await? > 0)
}

/// Says whether anything changed.
pub async fn unfollow<L: Includes<See>>(
    tx: &mut WriteTx,
    follower: &Access<Write, Namespace>,
    followed: &Access<L, Namespace>,
) -> Result<bool, StoreError> {
    let sql = "DELETE FROM follow WHERE follower_id = $1 AND followed_id = $2";
    Ok(tx.execute(sql, values![follower.namespace().id, followed.namespace().id]).await? > 0)
}

/// How many accounts somebody follows, disabled ones too: what the limit counts.
pub async fn count_of(read: &mut Reader, follower: &Access<Write, Namespace>) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) FROM follow WHERE follower_id = $1";
    let row = read.one(sql, values![follower.namespace().id]).await?;
    row.map_or(Ok(0), |row| row.get(0))
}

pub async fn is_following<L: Includes<See>>(
    read: &mut Reader,
    follower: NamespaceId,
    followed: &Access<L, Namespace>,
) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM follow WHERE follower_id = $1 AND followed_id = $2";
    Ok(read.one(sql, values![follower, followed.namespace().id]).await?.is_some())
}
