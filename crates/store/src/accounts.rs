//! Users, organisations, memberships and tokens.

use bastide_core::{Name, NamespaceId, Role, Timestamp, TokenId, TokenRole, Visibility};

use crate::db::{Reader, Row, WriteTx};
use crate::gate::{corrupt, parse};
use crate::permit::{Access, Admin, Includes, Namespace, Read};
use crate::{StoreError, values};

pub struct NewNamespace<'a> {
    pub id: NamespaceId,
    pub name: &'a Name,
    pub is_organization: bool,
    pub full_name: &'a str,
    pub email: Option<&'a str>,
    pub is_admin: bool,
    pub now: Timestamp,
}

/// Adds a user or an organisation. `Conflict` when the name is taken, in any case.
pub async fn add_namespace(tx: &mut WriteTx, new: &NewNamespace<'_>) -> Result<(), StoreError> {
    let sql = "INSERT INTO namespace (id, kind, name, name_key, full_name, email, is_admin, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let kind = if new.is_organization { "org" } else { "user" };
    let params = values![
        new.id,
        kind,
        new.name.as_str(),
        new.name.key(),
        new.full_name,
        new.email,
        new.is_admin,
        new.now
    ];
    tx.execute(sql, params).await?;
    Ok(())
}

#[derive(Debug, Clone)]
pub struct Account {
    pub id: NamespaceId,
    pub name: Name,
    pub is_organization: bool,
    pub full_name: String,
    pub email: Option<String>,
    pub is_admin: bool,
    pub default_visibility: Option<Visibility>,
    pub created_at: Timestamp,
    pub disabled_at: Option<Timestamp>,
}

const ACCOUNT_COLUMNS: &str = "n.id, n.name, n.kind, n.full_name, n.email, n.is_admin, n.default_visibility, \
    n.created_at, n.disabled_at";

fn account(row: &Row) -> Result<Account, StoreError> {
    let visibility: Option<String> = row.get(6)?;
    Ok(Account {
        id: row.get(0)?,
        name: parse(row, 1)?,
        is_organization: row.get::<String>(2)? == "org",
        full_name: row.get(3)?,
        email: row.get(4)?,
        is_admin: row.get(5)?,
        default_visibility: visibility.map(|text| corrupt(text.parse())).transpose()?,
        created_at: row.get(7)?,
        disabled_at: row.get(8)?,
    })
}

pub async fn account_of<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L, Namespace>,
) -> Result<Option<Account>, StoreError> {
    let sql = format!("SELECT {ACCOUNT_COLUMNS} FROM namespace n WHERE n.id = $1");
    read.one(&sql, values![access.namespace().id]).await?.map(|row| account(&row)).transpose()
}

/// The address of an account, for what its own credential is to prove. It is shown to nobody else.
pub async fn email_of(read: &mut Reader, user: NamespaceId) -> Result<Option<String>, StoreError> {
    let row = read.one("SELECT email FROM namespace WHERE id = $1", values![user]).await?;
    row.map_or(Ok(None), |row| row.get(0))
}

/// A membership, seen from the user's side.
#[derive(Debug, Clone)]
pub struct Membership {
    pub org: Account,
    pub role: Role,
}

/// The organisations of a user, by name.
pub async fn memberships<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L, Namespace>,
) -> Result<Vec<Membership>, StoreError> {
    let sql = format!(
        "SELECT {ACCOUNT_COLUMNS}, m.role FROM member m JOIN namespace n ON n.id = m.org_id \
         WHERE m.user_id = $1 AND n.disabled_at IS NULL ORDER BY n.name_key"
    );
    let rows = read.all(&sql, values![access.namespace().id]).await?;
    rows.iter().map(|row| Ok(Membership { org: account(row)?, role: parse(row, 9)? })).collect()
}

/// The members of an organisation with their roles, by name.
pub async fn members<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L, Namespace>,
) -> Result<Vec<(Account, Role)>, StoreError> {
    let sql = format!(
        "SELECT {ACCOUNT_COLUMNS}, m.role FROM member m JOIN namespace n ON n.id = m.user_id \
         WHERE m.org_id = $1 ORDER BY n.name_key"
    );
    let rows = read.all(&sql, values![access.namespace().id]).await?;
    rows.iter().map(|row| Ok((account(row)?, parse(row, 9)?))).collect()
}

/// All users or all organisations, for the operator.
pub async fn list(read: &mut Reader, organizations: bool) -> Result<Vec<Account>, StoreError> {
    let sql = format!("SELECT {ACCOUNT_COLUMNS} FROM namespace n WHERE n.kind = $1 ORDER BY n.name_key");
    let rows = read.all(&sql, values![if organizations { "org" } else { "user" }]).await?;
    rows.iter().map(account).collect()
}

pub async fn any_user(read: &mut Reader) -> Result<bool, StoreError> {
    Ok(read.one("SELECT 1 FROM namespace WHERE kind = 'user' LIMIT 1", &[]).await?.is_some())
}

/// Sets a member's role; `None` removes the member. Says whether anything changed.
pub async fn set_member(
    tx: &mut WriteTx,
    org: &Access<Admin, Namespace>,
    user: NamespaceId,
    role: Option<Role>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let org_id = org.namespace().id;
    let changed = match role {
        Some(role) => {
            let sql = "INSERT INTO member (org_id, user_id, role, created_at) VALUES ($1, $2, $3, $4) \
                ON CONFLICT (org_id, user_id) DO UPDATE SET role = excluded.role";
            tx.execute(sql, values![org_id, user, role.as_str(), now]).await?
        }
        None => {
            let sql = "DELETE FROM member WHERE org_id = $1 AND user_id = $2";
            tx.execute(sql, values![org_id, user]).await?
        }
    };
    Ok(changed > 0)
}

pub async fn set_disabled(
    tx: &mut WriteTx,
    account: &Access<Admin, Namespace>,
    at: Option<Timestamp>,
) -> Result<(), StoreError> {
    let sql = "UPDATE namespace SET disabled_at = $1 WHERE id = $2";
    tx.execute(sql, values![at, account.namespace().id]).await?;
    Ok(())
}

pub async fn set_default_visibility(
    tx: &mut WriteTx,
    account: &Access<Admin, Namespace>,
    visibility: Option<Visibility>,
) -> Result<(), StoreError> {
    let sql = "UPDATE namespace SET default_visibility = $1 WHERE id = $2";
    tx.execute(sql, values![visibility.map(Visibility::as_str), account.namespace().id]).await?;
    Ok(())
}

pub struct NewToken<'a> {
    pub id: TokenId,
    pub name: &'a str,
    pub role: TokenRole,
    pub hash: [u8; 32],
    /// The last letters, so that people can tell their tokens apart.
    pub hint: &'a str,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

pub async fn add_token(
    tx: &mut WriteTx,
    owner: &Access<Admin, Namespace>,
    new: &NewToken<'_>,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO token (id, user_id, name, role, hash, hint, created_at, expires_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let params = values![
        new.id,
        owner.namespace().id,
        new.name,
        new.role.as_str(),
        new.hash,
        new.hint,
        new.created_at,
        new.expires_at
    ];
    tx.execute(sql, params).await?;
    Ok(())
}

/// A token as its owner sees it: never its text.
#[derive(Debug, Clone)]
pub struct TokenRow {
    pub id: TokenId,
    pub user: Name,
    pub name: String,
    pub role: TokenRole,
    pub hint: String,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
}

const TOKEN_COLUMNS: &str = "t.id, n.name, t.name, t.role, t.hint, t.created_at, t.expires_at, t.revoked_at, \
    t.last_used_at FROM token t JOIN namespace n ON n.id = t.user_id";

fn token_row(row: &Row) -> Result<TokenRow, StoreError> {
    Ok(TokenRow {
        id: row.get(0)?,
        user: parse(row, 1)?,
        name: row.get(2)?,
        role: parse(row, 3)?,
        hint: row.get(4)?,
        created_at: row.get(5)?,
        expires_at: row.get(6)?,
        revoked_at: row.get(7)?,
        last_used_at: row.get(8)?,
    })
}

pub async fn tokens_of(
    read: &mut Reader,
    owner: &Access<Admin, Namespace>,
) -> Result<Vec<TokenRow>, StoreError> {
    let sql = format!("SELECT {TOKEN_COLUMNS} WHERE t.user_id = $1 ORDER BY t.id");
    let rows = read.all(&sql, values![owner.namespace().id]).await?;
    rows.iter().map(token_row).collect()
}

pub async fn token_of<L: Includes<Read>>(
    read: &mut Reader,
    owner: &Access<L, Namespace>,
    id: TokenId,
) -> Result<Option<TokenRow>, StoreError> {
    let sql = format!("SELECT {TOKEN_COLUMNS} WHERE t.user_id = $1 AND t.id = $2");
    read.one(&sql, values![owner.namespace().id, id]).await?.map(|row| token_row(&row)).transpose()
}

/// Ends a token. False when it is not this owner's, or had ended already.
pub async fn revoke_token(
    tx: &mut WriteTx,
    owner: &Access<Admin, Namespace>,
    id: TokenId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "UPDATE token SET revoked_at = $1 WHERE id = $2 AND user_id = $3 AND revoked_at IS NULL";
    Ok(tx.execute(sql, values![now, id, owner.namespace().id]).await? > 0)
}

/// Notes the last use of tokens: bookkeeping, written in batches, no event.
pub async fn touch_tokens(db: &crate::Db, uses: &[(TokenId, Timestamp)]) -> Result<(), StoreError> {
    let mut tx = db.begin().await?;
    for (id, at) in uses {
        let sql = "UPDATE token SET last_used_at = $1 WHERE id = $2 AND COALESCE(last_used_at, 0) < $1";
        tx.execute(sql, values![*at, *id]).await?;
    }
    tx.commit_upkeep().await
}

/// Makes `owner` the first admin of an organisation that this transaction has just made.
pub async fn add_first_admin(
    tx: &mut WriteTx,
    org: NamespaceId,
    owner: &Access<Admin, Namespace>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO member (org_id, user_id, role, created_at) VALUES ($1, $2, $3, $4)";
    tx.execute(sql, values![org, owner.namespace().id, Role::Admin.as_str(), now]).await?;
    Ok(())
}
