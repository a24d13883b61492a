//! Rules for branches: what may be done to those of a name or a pattern. Ours; no other hub has this address.

use axum::Json;
use axum::extract::State;
use bastide_hub::access::{Admin, Read};
use bastide_hub::ref_rules::BranchRule;
use bastide_hub::{Hub, Problem};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::extract::{Caller, JsonBody, RepoRoute};
use crate::routes::Routes;

pub fn routes(routes: Routes) -> Routes {
    routes
        .api(Method::GET, "/api/{kind}/{ns}/{name}/branch-rules", list)
        .api(Method::GET, "/api/{kind}/{ns}/{name}/branch-rules/{*branch}", show)
        .api(Method::PUT, "/api/{kind}/{ns}/{name}/branch-rules/{*branch}", put)
        .api(Method::DELETE, "/api/{kind}/{ns}/{name}/branch-rules/{*branch}", delete)
}

fn rule_json(rule: &BranchRule) -> Value {
    json!({ "branch": rule.pattern, "allowForce": rule.allow_force, "allowDelete": rule.allow_delete })
}

async fn list(State(hub): State<Hub>, caller: Caller, route: RepoRoute) -> Answer<Json<Value>> {
    let access = caller.repo::<Read>(&hub, &route.path).await?;
    Ok(Json(hub.branch_rules(&access).await?.iter().map(rule_json).collect()))
}

async fn show(State(hub): State<Hub>, caller: Caller, route: RepoRoute) -> Answer<Json<Value>> {
    let access = caller.repo::<Read>(&hub, &route.path).await?;
    let branch = route.joined_tail();
    let rules = hub.branch_rules(&access).await?;
    let rule = rules.iter().find(|rule| rule.pattern == branch);
    let missing = || Problem::NotFound(format!("there is no rule for the branch {branch}"));
    Ok(Json(rule_json(rule.ok_or_else(missing)?)))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct RuleBody {
    allow_force: bool,
    allow_delete: bool,
}

async fn put(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    JsonBody(body): JsonBody<RuleBody>,
) -> Answer<Json<Value>> {
    let access = caller.repo::<Admin>(&hub, &route.path).await?;
    let RuleBody { allow_force, allow_delete } = body;
    let rule = BranchRule { pattern: route.joined_tail(), allow_force, allow_delete };
    hub.put_branch_rule(&caller.context, &access, &rule).await?;
    Ok(Json(rule_json(&rule)))
}

async fn delete(State(hub): State<Hub>, caller: Caller, route: RepoRoute) -> Answer<Json<Value>> {
    let access = caller.repo::<Admin>(&hub, &route.path).await?;
    hub.delete_branch_rule(&caller.context, &access, &route.joined_tail()).await?;
    Ok(Json(json!({})))
}
