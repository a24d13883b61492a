//! Users and organisations.

use bastide_core::{Credential, Name, NamespaceId, Role, Visibility};
use bastide_ledger::Context;
use bastide_ledger::{Action, NewEvent};
use bastide_store::accounts::{self, NewNamespace, TokenRow};
pub use bastide_store::accounts::{Account, Membership};
use bastide_store::gate;
use bastide_store::permit::Namespace;

use crate::access::{Access, Admin, Read};
use crate::{Hub, Problem};

const MAX_FULL_NAME: usize = 100;
const MAX_EMAIL: usize = 254;

#[derive(Debug, Clone)]
pub struct NewUser {
    pub name: Name,
    pub full_name: Option<String>,
    pub email: String,
    pub is_admin: bool,
}

/// The caller, as it may see itself.
#[derive(Debug, Clone)]
pub struct WhoAmI {
    pub account: Account,
    pub memberships: Vec<Membership>,
    /// The token that was shown, if it was one.
    pub token: Option<TokenRow>,
}

/// Only the operator makes accounts for now; a request from the network is refused.
pub(crate) fn require_operator(context: &Context) -> Result<(), Problem> {
    match context.actor() {
        bastide_core::Actor::Operator => Ok(()),
        _ => Err(Problem::Forbidden("only this hub's operator can do this, on its command line".into())),
    }
}

impl Hub {
    pub async fn add_user(&self, context: &Context, new: &NewUser) -> Result<NamespaceId, Problem> {
        require_operator(context)?;
        check_email(&new.email)?;
        let full_name = new.full_name.as_deref().unwrap_or(new.name.as_str());
        check_full_name(full_name)?;
        let id = NamespaceId::new(context.now());
        let row = NewNamespace {
            id,
            name: &new.name,
            is_organization: false,
            full_name,
            email: Some(&new.email),
            is_admin: new.is_admin,
            now: context.now(),
        };
        let mut tx = self.write(context).await?;
        accounts::add_namespace(&mut tx, &row).await.map_err(|error| taken(error, &new.name))?;
        let event = NewEvent::new(context, Action::UserCreate)
            .subject("user", Some(id.as_i64()), new.name.as_str())
            .fact("admin", new.is_admin);
        tx.commit(event).await?;
        Ok(id)
    }

    /// Disables a user: every token of theirs is dead at its next use.
    pub async fn disable_user(
        &self,
        context: &Context,
        user: &Access<Admin, Namespace>,
    ) -> Result<(), Problem> {
        require_operator(context)?;
        if user.namespace().is_organization {
            return Err(Problem::Invalid(format!("{} is an organization", user.namespace().name)));
        }
        let mut tx = self.write_in(context, user).await?;
        accounts::set_disabled(&mut tx, user, Some(context.now())).await?;
        let reason = "the account of its owner is disabled";
        bastide_store::webhooks::disable_all(&mut tx, user, reason, context.now()).await?;
        let event = NewEvent::new(context, Action::UserDisable).subject(
            "user",
            Some(user.namespace().id.as_i64()),
            user.namespace().name.as_str(),
        );
        Ok(tx.commit(event).await?)
    }

    /// Makes an organisation with `owner` as its first admin.
    pub async fn add_org(
        &self,
        context: &Context,
        name: &Name,
        owner: &Access<Admin, Namespace>,
    ) -> Result<NamespaceId, Problem> {
        require_operator(context)?;
        if owner.namespace().is_organization {
            return Err(Problem::Invalid("the owner of an organization is a user".into()));
        }
        let id = NamespaceId::new(context.now());
        let row = NewNamespace {
            id,
            name,
            is_organization: true,
            full_name: name.as_str(),
            email: None,
            is_admin: false,
            now: context.now(),
        };
        let mut tx = self.write(context).await?;
        accounts::add_namespace(&mut tx, &row).await.map_err(|error| taken(error, name))?;
        accounts::add_first_admin(&mut tx, id, owner, context.now()).await?;
        let event = NewEvent::new(context, Action::OrgCreate)
            .subject("org", Some(id.as_i64()), name.as_str())
            .fact("owner", owner.namespace().name.as_str());
        tx.commit(event).await?;
        Ok(id)
    }

    /// Gives a user a role in an organisation, or takes it away. The last admin stays.
    pub async fn set_member(
        &self,
        context: &Context,
        org: &Access<Admin, Namespace>,
        user: &Name,
        role: Option<Role>,
    ) -> Result<(), Problem> {
        if !org.namespace().is_organization {
            return Err(Problem::Invalid(format!("{} is not an organization", org.namespace().name)));
        }
        let mut tx = self.write_in(context, org).await?;
        let facts = gate::namespace_by_name(&mut tx, user, None).await?;
        let member = facts.filter(|facts| !facts.namespace.is_organization);
        let member = member.ok_or_else(|| Problem::NotFound(format!("there is no user '{user}'")))?.namespace;
        if role != Some(Role::Admin) {
            let admins = accounts::members(&mut tx, org).await?;
            let mut others = admins.iter().filter(|(_, role)| *role == Role::Admin);
            if others.all(|(account, _)| account.id == member.id) {
                return Err(Problem::Invalid("an organization keeps at least one admin".into()));
            }
        }
        let before = accounts::members(&mut tx, org).await?;
        let before = before.iter().find(|(account, _)| account.id == member.id).map(|(_, role)| *role);
        if !accounts::set_member(&mut tx, org, member.id, role, context.now()).await? {
            return Err(Problem::NotFound(format!("{user} is not a member of {}", org.namespace().name)));
        }
        let action = if role.is_some() { Action::OrgMemberSet } else { Action::OrgMemberRemove };
        let event = NewEvent::new(context, action)
            .subject("org", Some(org.namespace().id.as_i64()), org.namespace().name.as_str())
            .fact("user", member.name.as_str())
            .fact("role", role.map_or("", Role::as_str))
            .fact("role_before", before.map_or("", Role::as_str));
        Ok(tx.commit(event).await?)
    }

    pub async fn set_default_visibility(
        &self,
        context: &Context,
        account: &Access<Admin, Namespace>,
        visibility: Option<Visibility>,
    ) -> Result<(), Problem> {
        let mut tx = self.write_in(context, account).await?;
        accounts::set_default_visibility(&mut tx, account, visibility).await?;
        let event = NewEvent::new(context, Action::OrgSettings)
            .subject("namespace", Some(account.namespace().id.as_i64()), account.namespace().name.as_str())
            .fact("default_visibility", visibility.map_or("", Visibility::as_str));
        Ok(tx.commit(event).await?)
    }

    pub async fn who_am_i(&self, context: &Context) -> Result<WhoAmI, Problem> {
        let access = self.access(context).own_namespace::<Read>().await?;
        let mut read = self.db.read().await?;
        let account = accounts::account_of(&mut read, &access).await?.ok_or(Problem::BadToken)?;
        let memberships = accounts::memberships(&mut read, &access).await?;
        let token = match context.credential() {
            Credential::Token { id, .. } => accounts::token_of(&mut read, &access, *id).await?,
            Credential::None | Credential::Local => None,
        };
        Ok(WhoAmI { account, memberships, token })
    }

    pub async fn account(&self, access: &Access<Read, Namespace>) -> Result<Account, Problem> {
        let account = accounts::account_of(&mut self.db.read().await?, access).await?;
        account.ok_or_else(|| Problem::NotFound(format!("there is no account '{}'", access.namespace().name)))
    }

    pub async fn memberships(&self, access: &Access<Read, Namespace>) -> Result<Vec<Membership>, Problem> {
        Ok(accounts::memberships(&mut self.db.read().await?, access).await?)
    }

    pub async fn members(&self, access: &Access<Read, Namespace>) -> Result<Vec<(Account, Role)>, Problem> {
        Ok(accounts::members(&mut self.db.read().await?, access).await?)
    }

    /// All users, or all organisations.
    pub async fn list_accounts(
        &self,
        context: &Context,
        organizations: bool,
    ) -> Result<Vec<Account>, Problem> {
        require_operator(context)?;
        Ok(accounts::list(&mut self.db.read().await?, organizations).await?)
    }

    /// Adds many repositories without content to a namespace, for measuring.
    pub async fn seed_repos(
        &self,
        context: &Context,
        owner: &Access<Admin, Namespace>,
        numbers: std::ops::Range<u64>,
    ) -> Result<(), Problem> {
        require_operator(context)?;
        let mut tx = self.write_in(context, owner).await?;
        bastide_store::seed::seed(&mut tx, owner, numbers.clone(), context.now()).await?;
        let event = NewEvent::new(context, Action::RepoCreate)
            .subject("namespace", Some(owner.namespace().id.as_i64()), owner.namespace().name.as_str())
            .fact("seeded", numbers.end - numbers.start);
        Ok(tx.commit(event).await?)
    }

    /// True until the first user exists.
    pub async fn is_empty(&self) -> Result<bool, Problem> {
        Ok(!accounts::any_user(&mut self.db.read().await?).await?)
    }
}

fn taken(error: bastide_store::StoreError, name: &Name) -> Problem {
    match error {
        bastide_store::StoreError::Conflict => {
            Problem::Exists { message: format!("the name '{name}' is taken"), url: None }
        }
        other => other.into(),
    }
}

/// As much as can be known without sending a mail; the rest is a mail header's safety.
fn check_email(email: &str) -> Result<(), Problem> {
    let parts = email.split_once('@');
    let plain = email.chars().all(|c| c.is_ascii_graphic() && !"<>()[],;:\\\"".contains(c));
    let good = parts
        .is_some_and(|(local, host)| !local.is_empty() && host.contains('.') | (host == "localhost"))
        && email.matches('@').count() == 1;
    if good && plain && email.len() <= MAX_EMAIL {
        return Ok(());
    }
    Err(Problem::Invalid(format!("'{}' is not an e-mail address", email.escape_debug())))
}

fn check_full_name(name: &str) -> Result<(), Problem> {
    if name.is_empty() || name.chars().count() > MAX_FULL_NAME || name.chars().any(char::is_control) {
        return Err(Problem::Invalid(format!("a full name has 1 to {MAX_FULL_NAME} printable characters")));
    }
    Ok(())
}
