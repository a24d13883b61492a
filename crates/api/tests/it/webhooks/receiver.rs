//! Somebody who is told: a real socket, good or bad.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What it answers.
#[derive(Clone)]
pub enum Answer {
    Status(u16),
    /// These bytes, whatever they are, and the end.
    Raw(Vec<u8>),
    /// A head that never ends: a byte now and then.
    Trickle,
    /// A head, and a body that never ends.
    Endless,
    /// Nothing at all.
    Silence,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Hit {
    pub head: String,
    pub body: String,
}

impl Hit {
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = |line: &&str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
        self.head.lines().find(line).map(|line| line[name.len() + 1..].trim())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

#[derive(Clone)]
pub struct Receiver {
    address: SocketAddr,
    hits: Arc<Mutex<Vec<Hit>>>,
    answer: Arc<Mutex<Answer>>,
    connections: Arc<Mutex<usize>>,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let this = Self {
            address: listener.local_addr().unwrap(),
            hits: Arc::default(),
            answer: Arc::new(Mutex::new(Answer::Status(200))),
            connections: Arc::default(),
        };
        let receiver = this.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *receiver.connections.lock().unwrap() += 1;
                let receiver = receiver.clone();
                tokio::spawn(async move { receiver.serve(stream).await });
            }
        });
        this
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook?x=1", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    /// What came since the last look.
    pub fn hits(&self) -> Vec<Hit> {
        std::mem::take(&mut self.hits.lock().unwrap())
    }

    pub fn payloads(&self) -> Vec<Value> {
        self.hits().iter().map(Hit::json).collect()
    }

    /// Waits until somebody has sent something.
    pub async fn hit(&self) -> Hit {
        loop {
            if let Some(hit) = self.hits().pop() {
                return hit;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn serve(&self, mut stream: TcpStream) {
        let Some(hit) = read(&mut stream).await else { return };
        self.hits.lock().unwrap().push(hit);
        let answer = self.answer.lock().unwrap().clone();
        match answer {
            Answer::Status(status) => {
                let text = format!("HTTP/1.1 {status} Said\r\ncontent-length: 6\r\n\r\nreply\n");
                let _ = stream.write_all(text.as_bytes()).await;
            }
            Answer::Raw(bytes) => {
                let _ = stream.write_all(&bytes).await;
            }
            Answer::Trickle => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
                while stream.write_all(b"x-a: b\r\n").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(400)).await;
                }
            }
            Answer::Endless => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n").await;
                while stream.write_all(&[b'x'; 65_536]).await.is_ok() {}
            }
            Answer::Silence => tokio::time::sleep(Duration::from_secs(600)).await,
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Hit> {
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let hit = Hit { head: head.to_owned(), body: body.to_owned() };
        let length = hit.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        if body.len() >= length {
            return Some(hit);
        }
    }
}
