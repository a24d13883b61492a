//! The answer to "how do I put this file together?", in the forms of both versions. It is written
//! and its links are signed while it is sent, so that a file in many pieces costs little memory.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bastide_hub::reconstruct::Reconstruction;
use bastide_hub::{ByteRange, ChunkRange, Fetch};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};
use serde::Serialize;

/// Terms that are written at a time; an answer with no more is sent whole.
const TERMS_AT_ONCE: usize = 512;

/// Which version of the route is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    One,
    Two,
}

#[derive(Serialize)]
struct FetchOne {
    url: String,
    url_range: ByteRange,
    range: ChunkRange,
}

#[derive(Serialize)]
struct FetchTwo {
    url: String,
    ranges: [RangeTwo; 1],
}

#[derive(Serialize)]
struct RangeTwo {
    chunks: ChunkRange,
    bytes: ByteRange,
}

pub fn answer(found: Reconstruction, form: Form) -> Response {
    let small = found.terms.len() <= TERMS_AT_ONCE;
    let mut parts = parts(Arc::new(found), form);
    let body = if small {
        Body::from(parts.by_ref().flatten().collect::<Vec<u8>>())
    } else {
        Body::from_stream(stream::iter(
            parts.map(|part| Ok::<_, std::convert::Infallible>(Bytes::from(part))),
        ))
    };
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn parts(found: Arc<Reconstruction>, form: Form) -> impl Iterator<Item = Vec<u8>> + Send {
    let head = format!("{{\"offset_into_first_range\":{},\"terms\":[", found.offset_into_first_range);
    let middle = match form {
        Form::One => "],\"fetch_info\":{",
        Form::Two => "],\"xorbs\":{",
    };
    let terms = {
        let found = Arc::clone(&found);
        (0..found.terms.len().div_ceil(TERMS_AT_ONCE)).map(move |at| terms(&found, at * TERMS_AT_ONCE))
    };
    let xorbs = (0..found.fetches.len()).map(move |at| xorb(&found, form, at));
    let text = |text: &str| std::iter::once(text.as_bytes().to_vec());
    text(&head).chain(terms).chain(text(middle)).chain(xorbs).chain(text("}}"))
}

fn terms(found: &Reconstruction, from: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(TERMS_AT_ONCE * 160);
    for (at, term) in found.terms.iter().enumerate().skip(from).take(TERMS_AT_ONCE) {
        push(&mut text, at == 0, term);
    }
    text
}

/// A xorb's name and the parts of it to fetch, each with an address of its own, since each is
/// signed for its very bytes.
fn xorb(found: &Reconstruction, form: Form, at: usize) -> Vec<u8> {
    let Some((xorb, fetches)) = found.fetches.get(at) else { return Vec::new() };
    let mut text = Vec::with_capacity(fetches.len() * 400 + 80);
    push(&mut text, at == 0, &xorb.to_string());
    text.extend_from_slice(b":[");
    for (number, fetch) in fetches.iter().enumerate() {
        let url = found.url(xorb, fetch);
        let Fetch { chunks, bytes } = *fetch;
        match form {
            Form::One => push(&mut text, number == 0, &FetchOne { url, url_range: bytes, range: chunks }),
            Form::Two => {
                push(&mut text, number == 0, &FetchTwo { url, ranges: [RangeTwo { chunks, bytes }] })
            }
        }
    }
    text.push(b']');
    text
}

/// Adds a value, after a comma unless it is the first.
fn push(text: &mut Vec<u8>, first: bool, value: &impl Serialize) {
    if !first {
        text.push(b',');
    }
    // Writing numbers and text into memory cannot fail.
    let _ = serde_json::to_writer(text, value);
}
