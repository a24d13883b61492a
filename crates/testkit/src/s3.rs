//! A real S3 server (s3s-fs) on a free port of this machine.

use bastide_blobs::{Blobs, S3Config};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;

const BUCKET: &str = "blobs";

pub struct Server {
    endpoint: String,
    folder: tempfile::TempDir,
}

impl Server {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("s3").join(BUCKET)).unwrap();
        let files = s3s_fs::FileSystem::new(folder.path().join("s3")).unwrap();
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single("key", "secret"));
        let service = builder.build();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let io = hyper_util::rt::TokioIo::new(socket);
                let service = service.clone();
                tokio::spawn(async move {
                    let http =
                        hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                    let _ = http.serve_connection(io, service).await;
                });
            }
        });
        Self { endpoint, folder }
    }

    pub fn blobs(&self) -> Blobs {
        self.blobs_in(BUCKET, "secret")
    }

    /// The same server, asked as somebody with another bucket or another key would.
    pub fn blobs_in(&self, bucket: &str, secret: &str) -> Blobs {
        let config = S3Config {
            bucket: bucket.to_owned(),
            prefix: "hub/one".to_owned(),
            endpoint: self.endpoint.clone(),
            region: "us-east-1".to_owned(),
            access_key: Some("key".to_owned()),
            secret_key: Some(secret.to_owned()),
        };
        Blobs::s3(&config, &self.folder.path().join("scratch")).unwrap()
    }
}
