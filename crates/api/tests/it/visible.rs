//! A list shows exactly what the access rule lets its reader see: small random worlds, every
//! reader, every repository.

use std::collections::BTreeSet;

use bastide_core::{Role, TokenRole};
use bastide_testkit::{Client, TestHub};
use serde_json::{Value, json};

use crate::{commit_to, put};

const WORLDS: u64 = 3;
const USERS: [&str; 4] = ["ann", "bob", "cem", "dan"];
const ORGS: [&str; 2] = ["lab", "club"];
const KINDS: [&str; 3] = ["model", "dataset", "space"];
const TAGS: [&str; 3] = ["red", "green", "blue"];
const REPOS: u64 = 14;

/// xorshift64: every run sees the same worlds.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }
}

/// A repository as the world made it; who may see it is asked, not known.
struct Made {
    kind: &'static str,
    id: String,
    tag: &'static str,
}

struct World {
    hub: TestHub,
    users: Vec<Client>,
    /// Everybody who may ask, with a name for messages.
    readers: Vec<(String, Client)>,
    repos: Vec<Made>,
}

impl World {
    async fn new(random: &mut Random) -> Self {
        let hub = TestHub::open().await;
        let mut users = Vec::new();
        for user in USERS {
            users.push(hub.user(user).await);
        }
        for org in ORGS {
            hub.org(org, USERS[0], &[]).await;
        }
        let mut readers = vec![("anonymous".to_owned(), hub.anonymous())];
        for (user, client) in USERS.iter().zip(&users) {
            readers.push(((*user).to_owned(), client.clone()));
            readers.push((format!("{user} to read"), hub.token(user, TokenRole::Read).await));
        }
        let mut world = Self { hub, users, readers, repos: Vec::new() };
        world.change_roles(random).await;
        for number in 0..REPOS {
            world.add_repo(random, number).await;
        }
        world
    }

    /// Gives everybody but the owner some role in each organisation, or none.
    async fn change_roles(&self, random: &mut Random) {
        let context = self.hub.operator();
        for org in ORGS {
            let access = self.hub.hub.access(&context).namespace(&org.parse().unwrap()).await.unwrap();
            for user in &USERS[1..] {
                let roles = [Role::NoAccess, Role::Read, Role::Contributor, Role::Write, Role::Admin];
                let role = random.pick(&roles.map(Some).into_iter().chain([None, None]).collect::<Vec<_>>());
                let user = user.parse().unwrap();
                // Taking away what somebody does not have is an error, and as good.
                let _ = self.hub.hub.set_member(&context, &access, &user, role).await;
            }
        }
    }

    async fn add_repo(&mut self, random: &mut Random, number: u64) {
        let (kind, tag) = (random.pick(&KINDS), random.pick(&TAGS));
        let maker = random.below(USERS.len() as u64) as usize;
        let name = format!("thing-{number}-{}", random.pick(&TAGS));
        let mut body = json!({ "name": name, "type": kind,
            "visibility": random.pick(&["public", "internal", "private"]) });
        if kind == "space" {
            body["sdk"] = json!("static");
        }
        let mut maker = &self.users[maker];
        if random.below(2) == 0 {
            body["organization"] = json!(random.pick(&ORGS));
            // Whoever may not is stood in for by the owner.
            if maker.post("/api/repos/create", body.clone()).await.status != 200 {
                maker = &self.users[0];
                maker.post("/api/repos/create", body).await.expect(200);
            }
        } else {
            maker.post("/api/repos/create", body).await.expect(200);
        }
        let id = self.id_of(maker, kind, &name).await;
        let readme = put("README.md", format!("---\nsdk: static\ntags: [{tag}]\n---\n"));
        commit_to(maker, &format!("{kind}s/{id}"), &[readme]).await.expect(200);
        self.repos.push(Made { kind, id, tag });
    }

    /// The full id of a repository that was just made.
    async fn id_of(&self, maker: &Client, kind: &str, name: &str) -> String {
        for namespace in USERS.iter().chain(&ORGS) {
            let id = format!("{namespace}/{name}");
            if maker.get(&format!("/api/{kind}s/{id}")).await.status == 200 {
                return id;
            }
        }
        panic!("{name} is nowhere");
    }

    /// Changes who may see a repository, by the owner of everything.
    async fn change_repo(&self, random: &mut Random) {
        let at = random.below(self.repos.len() as u64) as usize;
        let Made { kind, id, .. } = &self.repos[at];
        let visibility = random.pick(&["public", "internal", "private"]);
        let gated = random.pick(&[json!("auto"), json!("manual"), json!(false)]);
        let body = json!({ "visibility": visibility, "gated": gated });
        let owner = id.split('/').next().unwrap();
        let owner = USERS.iter().position(|user| *user == owner).unwrap_or(0);
        let uri = format!("/api/{kind}s/{id}/settings");
        self.users[owner].put(&uri, body).await.expect(200);
    }

    /// What every reader finds in lists is what it finds by asking for each.
    async fn check(&self, random: &mut Random, seed: u64) {
        for (name, reader) in &self.readers {
            for kind in KINDS {
                let visible = self.visible(reader, kind).await;
                let (tag, author) =
                    (random.pick(&TAGS), random.pick(&[USERS[0], USERS[1], ORGS[0], ORGS[1]]));
                let sort = random.pick(&["createdAt", "lastModified", "likes", "downloads", "trendingScore"]);
                let (limit, direction) = (1 + random.below(5), random.pick(&["1", "-1"]));
                let page = format!("limit={limit}&sort={sort}&direction={direction}");
                for (filter, keeps) in [
                    (String::new(), &(|_: &Made| true) as &dyn Fn(&Made) -> bool),
                    (format!("&filter={tag}"), &|made: &Made| made.tag == tag),
                    (format!("&author={author}"), &|made: &Made| made.id.starts_with(&format!("{author}/"))),
                    (format!("&search={tag}"), &|made: &Made| made.id.contains(tag)),
                    (format!("&search=thing&filter={tag}&full=true"), &|made: &Made| made.tag == tag),
                ] {
                    let expected: BTreeSet<_> =
                        visible.iter().filter(|made| keeps(made)).map(|made| made.id.clone()).collect();
                    let listed = listed(reader, &format!("/api/{kind}s?{page}{filter}")).await;
                    assert_eq!(listed, expected, "world {seed}, {name}, {kind}s, {page}{filter}");
                }
            }
        }
    }

    async fn visible(&self, reader: &Client, kind: &str) -> Vec<&Made> {
        let mut visible = Vec::new();
        for made in self.repos.iter().filter(|made| made.kind == kind) {
            let reply = reader.get(&format!("/api/{kind}s/{}", made.id)).await;
            match reply.status.as_u16() {
                200 => visible.push(made),
                401 | 404 => assert_eq!(reply.header("x-error-code"), "RepoNotFound"),
                other => panic!("{other}: {}", reply.text()),
            }
        }
        visible
    }
}

/// All rows of all pages; none comes twice.
async fn listed(reader: &Client, first: &str) -> BTreeSet<String> {
    let (mut ids, mut next) = (BTreeSet::new(), first.to_owned());
    while !next.is_empty() {
        let page = reader.get(&next).await.expect(200);
        let rows: Vec<Value> = serde_json::from_slice(&page.body).unwrap();
        for row in rows {
            let id = row["id"].as_str().unwrap().to_owned();
            assert!(ids.insert(id.clone()), "{id} is listed twice by {first}");
        }
        let link = page.header("link").split_once('>').map_or("", |(link, _)| link);
        next = link.trim_start_matches("<http://hub.test").to_owned();
    }
    ids
}

#[tokio::test]
async fn a_list_shows_what_its_reader_may_see_and_nothing_else() {
    for seed in 1..=WORLDS {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let world = World::new(&mut random).await;
        world.check(&mut random, seed).await;
        for _ in 0..4 {
            world.change_repo(&mut random).await;
        }
        world.change_roles(&mut random).await;
        world.check(&mut random, seed).await;
        world.hub.finish().await;
    }
}
