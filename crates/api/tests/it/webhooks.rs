//! Webhooks: the routes, what is told to whom, how it is sent, and what attackers try.

mod receiver;
mod sending;
mod settings;
mod telling;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use bastide_hub::{Allowed, Resolver};
use bastide_testkit::{Client, TestHub};
use serde_json::{Value, json};

pub use receiver::{Answer, Receiver};

const HOOKS: &str = "/api/settings/webhooks";

/// A hub that sends to receivers of this test, where new repositories are public.
async fn hub() -> TestHub {
    TestHub::with(|config| {
        config.default_visibility = bastide_core::Visibility::Public;
        config.webhook_allow = vec![Allowed::parse("127.0.0.1").unwrap()];
    })
    .await
}

/// Makes a webhook; its address in the API.
async fn watch(client: &Client, url: &str, watched: &[(&str, &str)]) -> String {
    let watched: Vec<Value> =
        watched.iter().map(|(kind, name)| json!({ "type": kind, "name": name })).collect();
    let body = json!({ "url": url, "watched": watched, "domains": ["repo", "discussion"] });
    let made = client.post(HOOKS, body).await.expect(200).json();
    format!("{HOOKS}/{}", made["webhook"]["id"].as_str().unwrap())
}

/// The log of a webhook, oldest first.
async fn log(client: &Client, hook: &str) -> Vec<Value> {
    let rows = client.get(&format!("{hook}/deliveries?limit=100")).await.expect(200).json();
    rows.as_array().unwrap().iter().rev().cloned().collect()
}

/// A line of the log with all that is known of it.
async fn line(client: &Client, hook: &str, line: &Value) -> Value {
    client.get(&format!("{hook}/deliveries/{}", line["id"].as_str().unwrap())).await.expect(200).json()
}

async fn make(client: &Client, name: &str, visibility: &str) {
    let (organization, name) = name.split_once('/').map_or((None, name), |(org, name)| (Some(org), name));
    let mut body = json!({ "name": name, "visibility": visibility });
    if let Some(organization) = organization {
        body["organization"] = organization.into();
    }
    client.post("/api/repos/create", body).await.expect(200);
}

async fn branch(client: &Client, id: &str, name: &str) {
    client.post(&format!("/api/models/{id}/branch/{name}"), json!({})).await.expect(200);
}

/// `action scope` of every payload.
fn stories(payloads: &[Value]) -> Vec<String> {
    let words = |payload: &Value| {
        let event = &payload["event"];
        format!("{} {}", event["action"].as_str().unwrap(), event["scope"].as_str().unwrap())
    };
    payloads.iter().map(words).collect()
}

/// Names that have addresses as the test says: what was asked for, and what is answered.
fn resolver(answers: impl Fn(&str, usize) -> Vec<IpAddr> + Send + Sync + 'static) -> (Resolver, Asked) {
    let asked = Asked::default();
    let kept = asked.clone();
    let lookup = move |name: &str| {
        let mut asked = kept.0.lock().unwrap();
        asked.push(name.to_owned());
        answers(name, asked.len())
    };
    (Resolver::Fixed(Arc::new(lookup)), asked)
}

#[derive(Default, Clone)]
struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}
