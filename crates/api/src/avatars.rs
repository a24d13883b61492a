//! Pictures of accounts: drawn from the name alone, so the address of one tells nobody whether there
//! is such an account, and there is nothing to upload.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bastide_core::Name;
use bastide_hub::access::{Access, Namespace, See};
use bastide_hub::{Hub, Problem};
use http::{HeaderValue, Method, header};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::extract::Caller;
use crate::routes::Routes;

pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Method::GET, "/avatars/{file}", picture)
        .add(Method::GET, "/api/users/{name}/avatar", of_user)
        .add(Method::GET, "/api/organizations/{name}/avatar", of_organization)
}

/// A day: the picture of a name changes with the program alone.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=86400");
/// Nothing in it may run or load, wherever it is shown.
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox");

pub fn avatar_url(base: &str, name: &Name) -> String {
    format!("{base}/avatars/{name}.svg")
}

async fn of_user(State(hub): State<Hub>, caller: Caller, Path(name): Path<String>) -> Answer<Json<Value>> {
    let account = hub.access(&caller.context).user(&name).await?;
    Ok(answer(&hub, &caller, &account))
}

async fn of_organization(
    State(hub): State<Hub>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer<Json<Value>> {
    let account = hub.access(&caller.context).organization(&name).await?;
    Ok(answer(&hub, &caller, &account))
}

fn answer(hub: &Hub, caller: &Caller, account: &Access<See, Namespace>) -> Json<Value> {
    let url = avatar_url(hub.url(&caller.context), &account.namespace().name);
    Json(json!({ "avatarUrl": url }))
}

async fn picture(Path(file): Path<String>) -> Answer<Response> {
    let name = file.strip_suffix(".svg").and_then(|name| name.parse::<Name>().ok());
    let name = name.ok_or_else(|| Problem::NotFound("pictures are at /avatars/NAME.svg".into()))?;
    let mut response = draw(&name).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/svg+xml"));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, CACHE);
    Ok(response)
}

/// One or two letters on a colour; a name has only letters, digits, `-` and `_`.
fn draw(name: &Name) -> String {
    let key = name.key();
    // FNV-1a: any number that depends on every letter will do.
    let mix = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hue = key.bytes().fold(0x811c_9dc5, mix) % 360;
    let words = key.split(['-', '_']).filter_map(|word| word.chars().next());
    let letters: String = words.take(2).map(|letter| letter.to_ascii_uppercase()).collect();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 64 64\" width=\"64\" height=\"64\">\
         <rect width=\"64\" height=\"64\" fill=\"hsl({hue},45%,42%)\"/>\
         <text x=\"32\" y=\"32\" dy=\".35em\" text-anchor=\"middle\" font-family=\"sans-serif\" font-size=\"28\" \
         fill=\"#fff\">{letters}</text></svg>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_the_same_for_every_spelling_and_has_letters_of_the_name() {
        let draw = |name: &str| draw(&name.parse().unwrap());
        assert_eq!(draw("Ann-Lee"), draw("ann-lee"));
        assert_ne!(draw("ann"), draw("abe"));
        assert!(draw("ann-lee").contains(">AL<") && draw("__x__").contains(">X<"));
    }
}
