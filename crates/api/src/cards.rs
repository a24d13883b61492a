//! Checking a card before it is committed.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bastide_core::RepoKind;
use bastide_hub::Hub;
use http::{HeaderMap, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::extract::JsonBody;
use crate::routes::Routes;

pub fn routes(routes: Routes) -> Routes {
    routes.add(Method::POST, "/api/validate-yaml", validate)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    content: String,
    repo_type: Option<String>,
}

async fn validate(
    State(hub): State<Hub>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Body>,
) -> Answer<Response> {
    let kind = body.repo_type.as_deref().map_or(Ok(RepoKind::Model), str::parse)?;
    let card = hub.read_card(&body.content, kind)?;
    let status = if card.errors.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let plain = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if plain.is_some_and(|accept| accept.contains("text/plain")) && !card.errors.is_empty() {
        let lines: String = card.errors.iter().map(|error| format!("- Error: {error}\n")).collect();
        return Ok((status, lines).into_response());
    }
    let messages =
        |texts: &[String]| -> Value { texts.iter().map(|text| json!({ "message": text })).collect() };
    let body = json!({ "errors": messages(&card.errors), "warnings": messages(&card.warnings) });
    Ok((status, Json(body)).into_response())
}
