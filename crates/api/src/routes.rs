//! The table of routes: what the router serves and what `docs/wire.md` tells of.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};
use bastide_core::RepoKind;
use bastide_hub::Hub;
use http::Method;

use crate::{
    avatars, branch_rules, cards, cas, collections, commit, discussions, git, history, info, lfs, lfs_files,
    likes, list, locks, middleware, profiles, refs, repos, resolve, tasks, tree, users, webhooks, xet_tokens,
};

/// A route of the wire. `pattern` has `{kind}` where it stands for models, datasets and spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub method: Method,
    pub pattern: &'static str,
}

/// Collects routes: each is registered and listed by the same call.
#[derive(Default)]
pub struct Routes {
    table: Vec<Route>,
    router: Router<Hub>,
}

impl Routes {
    /// A route as it stands.
    pub fn add<H, T>(mut self, method: Method, pattern: &'static str, handler: H) -> Self
    where
        H: Handler<T, Hub>,
        T: 'static,
    {
        self.router = self.router.route(pattern, serve(&method, handler));
        self.table.push(Route { method, pattern });
        self
    }

    /// `/api/{kind}` + pattern, for the three kinds of repository.
    pub fn api<H, T>(mut self, method: Method, pattern: &'static str, handler: H) -> Self
    where
        H: Handler<T, Hub>,
        T: 'static,
    {
        let rest = pattern.trim_start_matches("/api/{kind}");
        for kind in RepoKind::ALL {
            let path = format!("/api/{}{rest}", kind.plural());
            self.router = self.router.route(&path, serve(&method, handler.clone()));
        }
        self.table.push(Route { method, pattern });
        self
    }

    /// `/{prefix}` + pattern: files and git, where models have no prefix.
    pub fn files<H, T>(mut self, method: Method, pattern: &'static str, handler: H) -> Self
    where
        H: Handler<T, Hub>,
        T: 'static,
    {
        let rest = pattern.trim_start_matches("/{prefix}");
        for kind in RepoKind::ALL {
            let path = format!("/{}{}", kind.url_prefix(), rest.trim_start_matches('/'));
            self.router = self.router.route(&path, serve(&method, handler.clone()));
        }
        self.table.push(Route { method, pattern });
        self
    }
}

/// HEAD is served by GET's handler only where a route says so: axum would run the whole GET.
fn serve<H, T>(method: &Method, handler: H) -> MethodRouter<Hub>
where
    H: Handler<T, Hub>,
    T: 'static,
{
    let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
    on(filter, handler)
}

fn all() -> Routes {
    let parts: &[fn(Routes) -> Routes] = &[
        users::routes,
        profiles::routes,
        avatars::routes,
        likes::routes,
        collections::routes,
        repos::routes,
        info::routes,
        list::routes,
        tree::routes,
        commit::routes,
        refs::routes,
        branch_rules::routes,
        discussions::routes,
        history::routes,
        resolve::routes,
        cards::routes,
        tasks::routes,
        xet_tokens::routes,
        cas::routes,
        lfs::routes,
        git::routes,
        locks::routes,
        lfs_files::routes,
        webhooks::routes,
    ];
    parts.iter().fold(Routes::default(), |routes, part| part(routes))
}

/// What has no route, and what has one for another method only, is answered honestly.
fn served() -> Router<Hub> {
    let router = all().router.fallback(crate::answer::no_such_route);
    router.method_not_allowed_fallback(crate::answer::no_such_route)
}

/// Every route that is served.
pub fn routes() -> Vec<Route> {
    all().table
}

/// The wire, ready to serve.
pub fn router(hub: Hub) -> Router {
    router_with(hub, Router::new())
}

/// The wire and pages beside it.
pub fn router_with(hub: Hub, pages: Router) -> Router {
    middleware::wrap_all(middleware::wrap(served(), &hub).with_state(hub).merge(pages))
}
