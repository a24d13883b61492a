//! Reconstruction: how clients put a file together themselves. The answer is made as it is sent,
//! since a fragmented file has as many terms and links as somebody wanted it to have.

use std::ops::Range;

use bastide_core::XetHash;
use bastide_ledger::Context;
use bastide_store::xet;
use bastide_xet::file::{Cut, MAX_FILE_SEGMENTS, terms_in};
use bastide_xet::plan::{self, Fetch, Outline, WireTerm};

use crate::access::{Access, Read};
use crate::large::{HeldTerms, OpenXorb};
use crate::reads::Delivery;
use crate::{Hub, Problem};

/// Terms of one answer: any file that a shard may describe fits.
pub const MAX_ANSWER_TERMS: usize = MAX_FILE_SEGMENTS;

pub struct Reconstruction {
    pub offset_into_first_range: u64,
    pub terms: Vec<WireTerm>,
    pub fetches: Vec<(XetHash, Vec<Fetch>)>,
    hub: Hub,
    context: Context,
    access: Access<Read>,
    _held: HeldTerms,
}

impl Reconstruction {
    /// Where to get a part of a xorb, for a while.
    pub fn url(&self, xorb: &XetHash, fetch: &Fetch) -> String {
        self.hub.fetch_url(&self.context, &self.access, xorb, fetch)
    }
}

impl Hub {
    /// How to put a file, or a range of it, together. Counts as its delivery.
    pub async fn reconstruction(
        &self,
        context: &Context,
        access: &Access<Read>,
        hash: XetHash,
        range: Option<Range<u64>>,
    ) -> Result<Reconstruction, Problem> {
        let file = xet::file_by_hash(&mut self.db.read().await?, access, hash).await?;
        let file = file.ok_or_else(|| Problem::NotFound("there is no such file".into()))?;
        let range = plan::clip(range, file.size)?;
        let cut = terms_in(&file.terms, &range, MAX_ANSWER_TERMS)?.ok_or_else(too_many)?;
        drop(file);
        let held = self.hold_terms(cut.terms.len())?;
        let bytes = range.end - range.start;
        let outline = self.outline(access, cut, range).await?;
        let mut fetches = Vec::with_capacity(outline.wanted.len());
        for (hash, ranges) in outline.wanted {
            let xorb = self.named_xorb(access, hash).await?;
            fetches.push((hash, plan::fetches(ranges, &xorb.index)?));
        }
        let delivery = Delivery { via: "xet", commit: None, path: None, object: hash.to_string(), bytes };
        self.record_read(context, access, delivery)?;
        Ok(Reconstruction {
            offset_into_first_range: outline.offset_into_first_range,
            terms: outline.terms,
            fetches,
            hub: self.clone(),
            context: context.clone(),
            access: access.clone(),
            _held: held,
        })
    }

    async fn outline(&self, access: &Access<Read>, cut: Cut, range: Range<u64>) -> Result<Outline, Problem> {
        let mut ends = Vec::new();
        for term in [cut.terms.first(), cut.terms.last()].into_iter().flatten() {
            ends.push((term.xorb, self.named_xorb(access, term.xorb).await?));
        }
        let range = range.start.saturating_sub(cut.start)..range.end.saturating_sub(cut.start);
        let work = move || {
            let index =
                |hash: &XetHash| ends.iter().find(|(xorb, _)| xorb == hash).map(|(_, xorb)| &*xorb.index);
            plan::outline(&cut.terms, &range, index)
        };
        Ok(tokio::task::spawn_blocking(work).await??)
    }

    /// A xorb that a file of this repository names.
    async fn named_xorb(&self, access: &Access<Read>, hash: XetHash) -> Result<OpenXorb, Problem> {
        let xorb = self.open_xorb(access, hash).await?;
        xorb.ok_or_else(|| Problem::internal(format!("xorb {hash} is missing")))
    }
}

fn too_many() -> Problem {
    Problem::Unprocessable(format!(
        "this range of the file has more than {MAX_ANSWER_TERMS} terms: ask for a shorter one"
    ))
}
