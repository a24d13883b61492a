//! How much is stored, and how much may be. A quota is looked at before bytes move, where their number
//! is known, and again in every transaction that takes them: so uploads at the same time cannot go
//! beyond it together. Uploads in parts that are under way count with what they may still bring.
//!
//! What only proposals use is not its owner's: it is measured by the bounds of proposers (`uploads`), and by the
//! owner's quota when a writer takes it over.

use bastide_ledger::{Action, Context, NewEvent};
use bastide_store::{Reader, storage};

pub use bastide_store::storage::{NamespaceUsage, Quota, Usage, Used};

use crate::access::{Access, Admin, Includes, Level, Namespace, Read, See, Write};
use crate::accounts::require_operator;
use crate::repos::repo_event;
use crate::uploads::Uploader;
use crate::{Hub, Problem};

impl Hub {
    pub async fn usage<L: Level>(&self, access: &Access<L>) -> Result<Usage, Problem> {
        Ok(storage::usage(&mut self.db.read().await?, access).await?)
    }

    pub async fn namespace_usage(&self, access: &Access<Read, Namespace>) -> Result<NamespaceUsage, Problem> {
        Ok(storage::usage_of(&mut self.db.read().await?, access).await?)
    }

    /// What every namespace uses, the largest first.
    pub async fn all_usage(&self, context: &Context) -> Result<Vec<NamespaceUsage>, Problem> {
        require_operator(context)?;
        Ok(storage::usage_of_all(&mut self.db.read().await?).await?)
    }

    /// The limit that holds for a namespace, whoever has set it.
    pub fn limit_of(&self, quota: Quota, is_organization: bool) -> Option<u64> {
        match quota {
            Quota::Bytes(bytes) => Some(bytes),
            Quota::Unlimited => None,
            Quota::Default if is_organization => self.config.quota_bytes_org,
            Quota::Default => self.config.quota_bytes_user,
        }
    }

    /// Refuses `more` bytes for which there is no room: of a writer in the quotas of the repository and its owner,
    /// of a proposer in the bounds of proposals. Before they move.
    pub async fn check_upload_quota(
        &self,
        context: &Context,
        by: &Uploader,
        more: u64,
    ) -> Result<(), Problem> {
        self.upload_room(context, by, more).await?;
        self.upload_quota_in(&mut self.db.read().await?, by, more).await
    }

    /// The owner's quota, for what a writer brings. What a proposer brings is not the owner's.
    pub(crate) async fn upload_quota_in(
        &self,
        read: &mut Reader,
        by: &Uploader,
        more: u64,
    ) -> Result<(), Problem> {
        match self.room_by(read, by).await? {
            Some(room) => room.refuse(more),
            None => Ok(()),
        }
    }

    pub(crate) async fn room_by(&self, read: &mut Reader, by: &Uploader) -> Result<Option<Room>, Problem> {
        match by {
            Uploader::Writer(access) => self.room_in(read, access).await,
            Uploader::Proposer(_) => Ok(None),
        }
    }

    /// The same in a transaction. What it has written counts already.
    pub(crate) async fn quota_in<L: Includes<Write>>(
        &self,
        read: &mut Reader,
        access: &Access<L>,
        more: u64,
    ) -> Result<(), Problem> {
        match self.room_in(read, access).await? {
            Some(room) => room.refuse(more),
            None => Ok(()),
        }
    }

    /// What is left until a quota is reached; `None` where there is none.
    pub(crate) async fn room_in<L: Includes<Write>>(
        &self,
        read: &mut Reader,
        access: &Access<L>,
    ) -> Result<Option<Room>, Problem> {
        let usage = storage::usage(read, access).await?;
        let of_namespace = self.limit_of(usage.namespace_quota, usage.is_organization);
        let of_repo = match usage.repo_quota {
            Quota::Bytes(bytes) => Some(bytes),
            Quota::Default | Quota::Unlimited => None,
        };
        let mut tightest: Option<Room> = None;
        if let Some(limit) = of_repo {
            tightest =
                Some(Room { what: access.repo().path.id(), used: usage.repo.owned(), reserved: 0, limit });
        }
        if let Some(limit) = of_namespace {
            let reserved = storage::reserved(read, access, self.clock.now()).await?;
            let room = Room { what: usage.namespace, used: usage.namespace_used.owned(), reserved, limit };
            if tightest.as_ref().is_none_or(|other| room.left() < other.left()) {
                tightest = Some(room);
            }
        }
        Ok(tightest)
    }

    /// A namespace's quota, when the operator sets one or takes it back.
    pub async fn set_namespace_quota(
        &self,
        context: &Context,
        access: &Access<Admin, Namespace>,
        quota: Quota,
    ) -> Result<(), Problem> {
        require_operator(context)?;
        let mut tx = self.write_in(context, access).await?;
        let before = storage::usage_of(&mut tx, access).await?.quota;
        storage::set_namespace_quota(&mut tx, access, quota).await?;
        let namespace = access.namespace();
        let event = NewEvent::new(context, Action::QuotaSet).subject(
            "namespace",
            Some(namespace.id.as_i64()),
            namespace.name.as_str(),
        );
        Ok(tx.commit(quota_facts(event, quota, before)).await?)
    }

    /// A repository's quota: besides that of its namespace.
    pub async fn set_repo_quota(
        &self,
        context: &Context,
        access: &Access<Admin>,
        quota: Quota,
    ) -> Result<(), Problem> {
        require_operator(context)?;
        let mut tx = self.write_to(context, access).await?;
        let before = storage::usage(&mut tx, access).await?.repo_quota;
        storage::set_repo_quota(&mut tx, access, quota).await?;
        let event = repo_event(context, Action::QuotaSet, access.repo_id(), &access.repo().path);
        Ok(tx.commit(quota_facts(event, quota, before)).await?)
    }

    /// Bytes of a repository as it is listed and shown: all that it has stored, what is proposed to it as well.
    pub async fn used_storage<L: Includes<See>>(&self, access: &Access<L>) -> Result<u64, Problem> {
        Ok(storage::usage(&mut self.db.read().await?, access).await?.repo.all)
    }
}

fn quota_facts(event: NewEvent, quota: Quota, before: Quota) -> NewEvent {
    event.fact("quota", quota_text(quota)).fact("before", quota_text(before))
}

fn quota_text(quota: Quota) -> String {
    match quota {
        Quota::Default => "default".to_owned(),
        Quota::Unlimited => "none".to_owned(),
        Quota::Bytes(bytes) => bytes.to_string(),
    }
}

const CURE: &str = "Delete large files that are not needed any more (their content for good: until then they count), \
    or ask the operator of this hub for more.";

/// What a quota leaves.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    /// Whose quota it is.
    what: String,
    used: u64,
    reserved: u64,
    limit: u64,
}

impl Room {
    fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used.saturating_add(self.reserved))
    }

    /// Takes room for what was allowed, so that the next is measured by what is left then.
    pub(crate) fn take(&mut self, bytes: u64) {
        self.reserved = self.reserved.saturating_add(bytes);
    }

    pub(crate) fn refuse(&self, more: u64) -> Result<(), Problem> {
        // With nothing to come, what is there has to fit.
        let over = self.used > self.limit || more > self.left();
        if !over {
            return Ok(());
        }
        let Self { what, used, reserved, limit } = self;
        if more == 0 {
            return Err(Problem::Quota(format!(
                "no room for this: with it, {what} would use {} of its quota of {}. {CURE}",
                size(*used),
                size(*limit)
            )));
        }
        let under_way = if *reserved > 0 {
            format!(", uploads under way may bring {}", size(*reserved))
        } else {
            String::new()
        };
        Err(Problem::Quota(format!(
            "no room for {}: {what} uses {} of its quota of {}{under_way}. {CURE}",
            size(more),
            size(*used),
            size(*limit),
        )))
    }
}

/// Bytes as people read them.
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];
    match UNITS.into_iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} bytes"),
    }
}

/// `100GB`, `1.5 TB`, `10MiB` or a plain number of bytes.
pub fn parse_size(text: &str) -> Result<u64, bastide_core::Invalid> {
    let bad =
        || bastide_core::Invalid::new(format!("'{text}' is no size: write it like 100GB, 1.5TB or 10MiB"));
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(bad()),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if part.len() > 6 || whole.is_empty() || number.ends_with('.') {
        return Err(bad());
    }
    let whole: u64 = whole.parse().map_err(|_| bad())?;
    let scale = 10u64.pow(u32::try_from(part.len()).map_err(|_| bad())?);
    let part: u64 = if part.is_empty() { 0 } else { part.parse().map_err(|_| bad())? };
    let bytes =
        (u128::from(whole) * u128::from(scale) + u128::from(part)) * u128::from(unit) / u128::from(scale);
    u64::try_from(bytes).ok().filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_go_both_ways() {
        for (text, bytes) in [
            ("0", 0),
            ("12", 12),
            ("100GB", 100_000_000_000),
            ("1.5 TB", 1_500_000_000_000),
            ("10MiB", 10 << 20),
            ("2k", 2000),
            ("0.000001MB", 1),
        ] {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        for bad in ["", "GB", "1.GB", "-1", "1 PB", "9999999999TB", "1.0000001GB", "1..2GB", "1e3"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert_eq!(size(999), "999 bytes");
        assert_eq!(size(1_550_000), "1.5 MB");
        assert_eq!(size(u64::MAX), "18446744.0 TB");
    }

    #[test]
    fn a_quota_is_met_to_the_byte() {
        let room = |used, reserved| Room { what: "ann".into(), used, reserved, limit: 100 };
        assert!(room(60, 0).refuse(40).is_ok());
        assert!(room(60, 0).refuse(41).is_err());
        assert!(room(60, 30).refuse(11).is_err());
        assert!(room(100, 0).refuse(0).is_ok());
        assert!(room(101, 0).refuse(0).is_err());
        let text = room(60, 30).refuse(11).unwrap_err().to_string();
        assert!(text.contains("ann uses 60 bytes of its quota of 100 bytes"), "{text}");
    }
}
