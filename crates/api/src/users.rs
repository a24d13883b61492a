//! Who am I: `GET /api/whoami-v2`.

use axum::Json;
use axum::extract::State;
use bastide_hub::Hub;
use bastide_hub::accounts::{Membership, WhoAmI};
use http::Method;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::avatars::avatar_url;
use crate::extract::Caller;
use crate::routes::Routes;

pub fn routes(routes: Routes) -> Routes {
    routes.add(Method::GET, "/api/whoami-v2", whoami)
}

async fn whoami(State(hub): State<Hub>, caller: Caller) -> Answer<Json<Value>> {
    let me = hub.who_am_i(&caller.context).await?;
    Ok(Json(whoami_json(&me, hub.url(&caller.context))))
}

// One of `name`, `user` and `login` only: some clients take them for the same field.
fn whoami_json(me: &WhoAmI, base: &str) -> Value {
    let WhoAmI { account, memberships, token } = me;
    let token = token
        .as_ref()
        .map(|token| json!({ "displayName": token.name, "role": token.role, "createdAt": token.created_at }));
    json!({
        "type": "user",
        "id": account.id,
        "name": account.name,
        "fullname": account.full_name,
        "email": account.email,
        "emailVerified": false,
        "canPay": false,
        "isPro": false,
        "periodEnd": null,
        "billingMode": "postpaid",
        "avatarUrl": avatar_url(base, &account.name),
        "orgs": memberships.iter().map(|membership| org_json(membership, base)).collect::<Vec<_>>(),
        "auth": { "type": "access_token", "accessToken": token },
    })
}

fn org_json(membership: &Membership, base: &str) -> Value {
    let org = &membership.org;
    json!({
        "type": "org",
        "id": org.id,
        "name": org.name,
        "fullname": org.full_name,
        "email": org.email,
        "canPay": false,
        "periodEnd": null,
        "avatarUrl": avatar_url(base, &org.name),
        "roleInOrg": membership.role,
        "isEnterprise": false,
    })
}
