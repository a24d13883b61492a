//! Lists that come in pages: the cursor is two numbers of the last row, the next page is a `Link`.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bastide_core::Timestamp;
use bastide_hub::profiles::PeoplePlace;
use bastide_hub::{Hub, Problem};
use http::{Uri, header};
use serde_json::Value;

use crate::answer::{Answer, Failure};
use crate::extract::{Caller, Query};
use crate::list::next_link;

/// Which page is asked for, and how its next one is named.
pub struct Paging {
    uri: Uri,
    pub query: Query,
}

impl<S: Send + Sync> FromRequestParts<S> for Paging {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let query = Query::from_request_parts(parts, state).await?;
        Ok(Self { uri: parts.uri.clone(), query })
    }
}

impl Paging {
    /// Where the page before ended.
    pub fn after(&self) -> Result<Option<(i64, i64)>, Problem> {
        self.query.get("cursor").map(decode).transpose()
    }

    /// The same for lists that are ordered by time.
    pub fn place(&self) -> Result<Option<PeoplePlace>, Problem> {
        Ok(self.after()?.map(|(since, id)| PeoplePlace { since: Timestamp::from_millis(since), id }))
    }

    pub fn answer(
        &self,
        (hub, caller): (&Hub, &Caller),
        rows: Vec<Value>,
        next: Option<(i64, i64)>,
    ) -> Response {
        let mut response = Json(rows).into_response();
        if let Some(next) = next {
            let link = next_link(hub.url(&caller.context), &self.uri, &self.query, &encode(next));
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }
}

/// The place after which the next page starts, as a cursor has it.
pub fn after_place(place: Option<PeoplePlace>) -> Option<(i64, i64)> {
    place.map(|place| (place.since.as_millis(), place.id))
}

fn encode((first, second): (i64, i64)) -> String {
    URL_SAFE_NO_PAD.encode(format!("{first}:{second}"))
}

fn decode(text: &str) -> Result<(i64, i64), Problem> {
    let numbers = || -> Option<(i64, i64)> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (first, second) = text.split_once(':')?;
        Some((first.parse().ok()?, second.parse().ok()?))
    };
    numbers().ok_or_else(|| Problem::Invalid("the cursor is not one of this hub's".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_survive_the_wire_and_foreign_ones_are_refused() {
        for place in [(0, 0), (i64::MAX, i64::MIN), (1_795_500_000_000, 7)] {
            assert_eq!(decode(&encode(place)).unwrap(), place);
        }
        for bad in
            ["", "x", "////", &URL_SAFE_NO_PAD.encode("1"), &URL_SAFE_NO_PAD.encode("1:9223372036854775808")]
        {
            assert!(decode(bad).is_err(), "{bad}");
        }
    }
}
