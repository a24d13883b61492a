//! Tokens for a repository's large-file store.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bastide_hub::Hub;
use bastide_hub::access::Read;
use bastide_hub::links::{XetScope, XetToken};
use http::{HeaderName, Method};
use serde_json::json;

use crate::answer::{Answer, header_text};
use crate::commit::purpose;
use crate::extract::{Caller, Query, RepoRoute};
use crate::routes::Routes;

pub const X_XET_CAS_URL: HeaderName = HeaderName::from_static("x-xet-cas-url");
pub const X_XET_ACCESS_TOKEN: HeaderName = HeaderName::from_static("x-xet-access-token");
pub const X_XET_TOKEN_EXPIRATION: HeaderName = HeaderName::from_static("x-xet-token-expiration");

pub fn routes(routes: Routes) -> Routes {
    routes.api(Method::GET, "/api/{kind}/{ns}/{name}/xet-read-token/{*rev}", read_token).api(
        Method::GET,
        "/api/{kind}/{ns}/{name}/xet-write-token/{*rev}",
        write_token,
    )
}

async fn read_token(State(hub): State<Hub>, caller: Caller, route: RepoRoute) -> Answer<Response> {
    let access = caller.repo::<Read>(&hub, &route.path).await?;
    hub.resolve_revision(&access, &route.joined_tail()).await?;
    Ok(token_response(&hub.xet_token(&caller.context, &access, XetScope::Read)))
}

// Nothing has to be at the revision: clients ask before the branch is there, or say `None`.
async fn write_token(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    query: Query,
) -> Answer<Response> {
    let purpose = purpose(&query, &route.joined_tail());
    let by = caller.uploader(&hub, &route.path, purpose).await?;
    // How much is to come nobody knows yet: but there has to be some room.
    hub.check_upload_quota(&caller.context, &by, 1).await?;
    Ok(token_response(&hub.xet_upload_token(&caller.context, &by)))
}

/// In the body for some clients, in the headers for others.
fn token_response(token: &XetToken) -> Response {
    let body = json!({ "accessToken": token.text, "exp": token.expires, "casUrl": token.cas_url });
    let mut response = Json(body).into_response();
    let headers = response.headers_mut();
    headers.insert(X_XET_CAS_URL, header_text(&token.cas_url));
    headers.insert(X_XET_ACCESS_TOKEN, header_text(&token.text));
    headers.insert(X_XET_TOKEN_EXPIRATION, header_text(&token.expires.to_string()));
    response
}
