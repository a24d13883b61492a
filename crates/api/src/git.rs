//! git over HTTP: the smart protocol of stock clients. Who may do what is decided as everywhere;
//! answers that are refusals are plain text, which git shows its user.

mod answer;
mod body;
mod push;

use axum::extract::{FromRequestParts, Request, State};
use axum::response::Response;
use bastide_hub::access::Read;
use bastide_hub::{Hub, Problem};
use http::{HeaderMap, Method, header};

use answer::{GitAnswer, old_protocol, or_refusal};

use crate::extract::{Caller, Query, RepoRoute};
use crate::routes::Routes;

pub fn routes(routes: Routes) -> Routes {
    routes.files(Method::GET, "/{prefix}/{ns}/{name}/info/refs", info_refs).files(
        Method::POST,
        "/{prefix}/{ns}/{name}/git-receive-pack",
        push::receive_pack,
    )
}

/// Which of git's two services a client begins with.
async fn info_refs(State(hub): State<Hub>, request: Request) -> Response {
    or_refusal(begin(&hub, request).await)
}

async fn begin(hub: &Hub, request: Request) -> GitAnswer<Response> {
    let (mut parts, _) = request.into_parts();
    let query = Query::from_request_parts(&mut parts, hub).await?;
    let Some(service) = query.get("service") else { return Err(old_protocol()) };
    let caller = Caller::from_request_parts(&mut parts, hub).await?;
    let route = RepoRoute::from_request_parts(&mut parts, hub).await?;
    match service {
        "git-upload-pack" => {
            caller.repo::<Read>(hub, &route.path).await?;
            Err(Problem::NotServed("fetching with git").into())
        }
        "git-receive-pack" => push::advertise(hub, &caller, &route).await,
        other => Err(Problem::Forbidden(format!("this hub has no service '{other:.40}' for git")).into()),
    }
}

/// A page in a browser cannot send this type to another origin without being asked about first.
fn has_type(headers: &HeaderMap, wanted: &'static str) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if given == Some(wanted) { Ok(()) } else { Err(Problem::Invalid(format!("the body has to be {wanted}"))) }
}
