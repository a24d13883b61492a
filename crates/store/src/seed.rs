//! Many repositories at once, for measuring what size does to lists and look-ups.

use bastide_core::{NamespaceId, RepoId, Timestamp};

use crate::db::WriteTx;
use crate::permit::{Access, Admin, Namespace};
use crate::{StoreError, values};

/// Words of names and tags; the commoner the smaller their number, as in real life.
const WORDS: u64 = 40_000;
const TAGS: u64 = 5_000;

/// Adds public model repositories `from..to` to a namespace, with words and tags, without commits.
pub async fn seed(
    tx: &mut WriteTx,
    namespace: &Access<Admin, Namespace>,
    numbers: std::ops::Range<u64>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let owner = namespace.namespace();
    let added = i64::try_from(numbers.end.saturating_sub(numbers.start)).unwrap_or(0);
    crate::counts::add(tx, owner.id, ("model", "public"), added).await?;
    for number in numbers {
        let mut random = Random(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let words: Vec<String> = (0..2).map(|_| format!("w{}", random.skewed(WORDS))).collect();
        let name = format!("{}-{number}", words.join("-"));
        let tags: Vec<String> = (0..5).map(|_| format!("tag{}", random.skewed(TAGS))).collect();
        let id = RepoId::new(Timestamp::from_millis(now.as_millis() + i64::try_from(number).unwrap_or(0)));
        let json = serde_json::json!(tags).to_string();
        add_row(tx, owner, id, &name, (random.next() % 100_000, &json)).await?;
        let number = number.to_string();
        let names = words.iter().map(|word| ("name", word.as_str())).chain([("name", number.as_str())]);
        let tags = tags.iter().map(|tag| ("tag", tag.as_str()));
        for term in names.chain(tags).chain([("kind", "model")]) {
            crate::search::add_term(tx, id, crate::search::Audience::EVERYBODY, term).await?;
        }
    }
    Ok(())
}

async fn add_row(
    tx: &mut WriteTx,
    owner: &Namespace,
    id: RepoId,
    name: &str,
    (downloads, tags): (u64, &str),
) -> Result<(), StoreError> {
    let key = format!("{}/{name}", owner.name.key());
    let owner_id: NamespaceId = owner.id;
    let sql = "INSERT INTO repo (id, kind, namespace_id, namespace, name, path_key, visibility, created_at, updated_at, \
        downloads, trending, tags) VALUES ($1, 'model', $2, $3, $4, $5, 'public', $6, $6, $7, $8, $9)";
    #[expect(clippy::cast_precision_loss, reason = "any number will do")]
    let trending = downloads as f64;
    let params =
        values![id, owner_id, owner.name.as_str(), name, key, id.as_i64(), downloads, trending, tags];
    tx.execute(sql, params).await?;
    Ok(())
}

/// xorshift64: the same every time, so that runs compare.
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Small numbers far more often than large ones.
    const fn skewed(&mut self, below: u64) -> u64 {
        let first = self.next() % below;
        let second = self.next() % (first + 1);
        self.next() % (second + 1)
    }
}
