//! One connection for one request: opened to an address that was judged, and closed afterwards.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{CONNECT, Failure, Reach, Reply, Request, Target};

/// Addresses of one name that are tried.
pub const MOST_ADDRESSES: usize = 3;
/// What of an answer's body is read at most, and for how long: the status says all that counts.
const EXCERPT_BYTES: usize = 1024;
const EXCERPT_TIME: Duration = Duration::from_secs(2);
/// Headers of an answer: more is no answer.
const MOST_HEADERS: usize = 64;
const HEAD_BYTES: usize = 16 * 1024;

/// Connects to the first address that answers.
pub async fn open(addresses: &[(SocketAddr, Reach)]) -> Result<(TcpStream, Reach), Failure> {
    let mut failure = Failure::NoAddress;
    for (address, reach) in addresses {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok((stream, *reach)),
            Ok(Err(_)) => failure = Failure::Connect,
            Err(_) => failure = Failure::TimeOut,
        }
    }
    Err(failure)
}

/// The system's certificates, read at the first use.
#[derive(Default)]
pub struct Tls(OnceLock<Option<Arc<ClientConfig>>>);

impl Tls {
    pub async fn wrap(&self, target: &Target, stream: TcpStream) -> Result<TlsStream<TcpStream>, Failure> {
        let config = self.0.get_or_init(config).clone().ok_or(Failure::NoRoots)?;
        let host = target.host().trim_end_matches('.').trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Failure::Tls)?;
        let connected = timeout(CONNECT, TlsConnector::from(config).connect(name, stream)).await;
        connected.map_err(|_| Failure::TimeOut)?.map_err(|_| Failure::Tls)
    }
}

fn config() -> Option<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let mut config = builder.with_platform_verifier().ok()?.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Some(Arc::new(config))
}

/// Sends a request and reads the answer's head, and how its body begins.
pub async fn send<S>(stream: S, request: Request<'_>) -> Result<Reply, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(MOST_HEADERS)
        .max_buf_size(HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| Failure::Protocol)?;
    // Dropped with this future, so that a time-out ends the connection too.
    let mut running = tokio::task::JoinSet::new();
    running.spawn(connection);
    let answer = sender.send_request(message(request)?).await.map_err(|_| Failure::Protocol)?;
    let status = answer.status().as_u16();
    Ok(Reply { status, excerpt: excerpt(answer.into_body()).await })
}

fn message(request: Request<'_>) -> Result<http::Request<Full<Bytes>>, Failure> {
    let target = request.target;
    let mut message = http::Request::builder()
        .method(Method::POST)
        .uri(target.path_and_query())
        .header(header::HOST, target.authority())
        .header(header::CONNECTION, "close");
    for (name, value) in request.headers {
        message = message.header(name, value);
    }
    message.body(Full::new(request.body)).map_err(|_| Failure::Protocol)
}

/// Whatever goes wrong in here, there was an answer.
async fn excerpt(mut body: Incoming) -> Bytes {
    let mut found = BytesMut::new();
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else { continue };
            let room = EXCERPT_BYTES - found.len();
            found.extend_from_slice(data.get(..room).unwrap_or(&data));
            if found.len() == EXCERPT_BYTES {
                break;
            }
        }
    };
    // Late or not, what has come is kept.
    let _ = timeout(EXCERPT_TIME, read).await;
    found.freeze()
}
