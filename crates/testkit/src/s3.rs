//! A real S3 server (s3s-fs) on a free port of this machine, which fails on demand. The tests of
//! `blobs` include this file too.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bastide_blobs::{Blobs, S3Config};
use http::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};

const BUCKET: &str = "blobs";

/// What the server does to the next request with a method.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// It does nothing and answers this status, with this code.
    Refuse(StatusCode, &'static str),
    /// It does what it was asked, and the answer is lost.
    LoseAnswer,
}

type Faults = Arc<Mutex<Vec<(Method, Fault)>>>;

pub struct Server {
    endpoint: String,
    folder: tempfile::TempDir,
    faults: Faults,
}

impl Server {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir_all(folder.path().join("s3").join(BUCKET)).expect("a folder for the bucket");
        let files = s3s_fs::FileSystem::new(folder.path().join("s3")).expect("a file system");
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single("key", "secret"));
        let service = builder.build();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let faults = Faults::default();
        tokio::spawn(serve(listener, service, Arc::clone(&faults)));
        Self { endpoint, folder, faults }
    }

    /// Does this to the next request with that method, once.
    pub fn fail(&self, method: Method, fault: Fault) {
        self.faults.lock().expect("no panic").push((method, fault));
    }

    /// Where the server keeps what it is told, uploads that have not ended among it.
    pub fn files(&self) -> PathBuf {
        self.folder.path().join("s3")
    }

    pub fn blobs(&self) -> Blobs {
        self.blobs_in(BUCKET, "secret")
    }

    /// The same server, asked as somebody with another bucket or another key would.
    pub fn blobs_in(&self, bucket: &str, secret: &str) -> Blobs {
        self.open(bucket, secret, &self.folder.path().join("scratch"))
    }

    /// The bucket with a folder of the caller's own for bytes on their way.
    pub fn blobs_with(&self, scratch: &Path) -> Blobs {
        self.open(BUCKET, "secret", scratch)
    }

    fn open(&self, bucket: &str, secret: &str, scratch: &Path) -> Blobs {
        let config = S3Config {
            bucket: bucket.to_owned(),
            prefix: "hub/one".to_owned(),
            endpoint: self.endpoint.clone(),
            region: "us-east-1".to_owned(),
            access_key: Some("key".to_owned()),
            secret_key: Some(secret.to_owned()),
        };
        Blobs::s3(&config, scratch).expect("an object store")
    }
}

async fn serve(listener: tokio::net::TcpListener, service: S3Service, faults: Faults) {
    loop {
        let (socket, _) = listener.accept().await.expect("a connection");
        let (service, faults) = (service.clone(), Arc::clone(&faults));
        let answer =
            hyper::service::service_fn(move |request| answer(service.clone(), Arc::clone(&faults), request));
        tokio::spawn(async move {
            let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _ = http.serve_connection(TokioIo::new(socket), answer).await;
        });
    }
}

async fn answer(
    service: S3Service,
    faults: Faults,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<s3s::Body>, s3s::HttpError> {
    let fault = {
        let mut faults = faults.lock().expect("no panic");
        let at = faults.iter().position(|(method, _)| method == request.method());
        at.map(|at| faults.remove(at).1)
    };
    match fault {
        None => service.call(request.map(s3s::Body::from)).await,
        Some(Fault::LoseAnswer) => {
            let _ = service.call(request.map(s3s::Body::from)).await;
            Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"))
        }
        Some(Fault::Refuse(status, code)) => Ok(refusal(status, code)),
    }
}

fn refusal(status: StatusCode, code: &str) -> Response<s3s::Body> {
    let text = format!("<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>");
    let mut response = Response::new(s3s::Body::from(text));
    *response.status_mut() = status;
    response
}
