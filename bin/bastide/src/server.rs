//! The connections: how many there may be, and how long one may take over its next header. What a
//! request may take is decided further in; here nobody can hold a place by doing nothing.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;

/// Connections at the same time, where nobody says otherwise.
pub const MAX_CONNECTIONS: usize = 4096;
/// How long a client may take for the header of a request, and a connection may wait for one.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long bytes may stay with a client that takes none of them.
const STALLED: Duration = Duration::from_secs(60);
/// Bytes that are read ahead on a connection, where a header has to fit, and that are put together
/// for one write: the less there is room for, the more calls a download takes.
const BUFFER: usize = 256 * 1024;
/// After an error like "too many open files", before the next attempt.
const PAUSE: Duration = Duration::from_millis(200);

/// What connections are held to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub connections: usize,
    pub header: Duration,
}

impl Limits {
    /// Takes the files that each connection needs into account: a connection, and what it reads.
    pub fn new(connections: usize) -> Self {
        let files = raise_file_limit();
        Self { connections: connections.min(files / 2).max(1), header: HEADER_TIMEOUT }
    }
}

/// Open files that this process may have: the hard limit, since the soft one is for programs that
/// still use `select`.
fn raise_file_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    now.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX)
}

/// Serves until `stop`, and then until the requests that are under way have ended.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    limits: Limits,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let connections = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let next = async {
            // First a place, then a connection: whoever is too many waits outside.
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            next = next => next,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection((stream, peer), app.clone(), limits, connections.watcher());
                tokio::spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection could be taken");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
    Ok(())
}

fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::ConnectionRefused | Kind::ConnectionAborted | Kind::ConnectionReset)
}

async fn connection((stream, peer): (TcpStream, SocketAddr), app: Router, limits: Limits, watcher: Watcher) {
    let stalled = u32::try_from(STALLED.as_millis()).unwrap_or(u32::MAX);
    // Without these it works as well, only not as well.
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, stalled);
    let service = service_fn(move |request| answer(app.clone(), peer, request));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(served).await {
        tracing::debug!(%error, %peer, "a connection ended early");
    }
}

async fn answer(app: Router, peer: SocketAddr, request: Request<Incoming>) -> Result<Response, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    app.oneshot(request).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    async fn start(limits: Limits) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<io::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let app =
            Router::new().route("/", get(|info: ConnectInfo<SocketAddr>| async move { info.0.to_string() }));
        let server = tokio::spawn(serve(listener, app, limits, async {
            let _ = stopped.await;
        }));
        (address, stop, server)
    }

    /// What comes back until the other side closes.
    async fn talk(address: SocketAddr, text: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn a_header_that_does_not_end_ends_the_connection() {
        let limits = Limits { connections: 10, header: Duration::from_millis(100) };
        let (address, stop, server) = start(limits).await;
        let answer = talk(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("127.0.0.1:"), "{answer}");
        // None of these would end otherwise: the test would not either.
        for slow in ["GET / HTTP/1.1\r\nHost: x\r\nX-a: ", "G", "", "PRI * HTTP/2.0\r\n"] {
            assert!(!talk(address, slow).await.contains("200 OK"), "{slow:?}");
        }
        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_is_too_many_waits_until_somebody_leaves() {
        let limits = Limits { connections: 1, header: Duration::from_secs(60) };
        let (address, stop, server) = start(limits).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut some = [0; 12];
        first.read_exact(&mut some).await.unwrap();
        assert_eq!(&some, b"HTTP/1.1 200");
        let mut second = tokio::spawn(async move {
            talk(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await
        });
        let early = tokio::time::timeout(Duration::from_millis(200), &mut second).await;
        assert!(early.is_err(), "the second connection was served beside the first");
        drop(first);
        assert!(second.await.unwrap().starts_with("HTTP/1.1 200"));
        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
    }
}
