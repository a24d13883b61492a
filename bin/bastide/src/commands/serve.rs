//! `bastide serve`: the hub itself.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use bastide_hub::Hub;
use bastide_web::Steps;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::config::{Location, ServeArgs, Settings};
use crate::server::{self, Limits};
use crate::{open, output};

/// How long requests that are under way may go on once the hub was asked to stop. A download that
/// nobody reads would otherwise hold it for ever.
const STOP_GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    serve: ServeArgs,
    /// Log as JSON lines, one object each.
    #[arg(long, env = "BASTIDE_LOG_JSON", value_parser = clap::builder::BoolishValueParser::new())]
    log_json: bool,
    /// Print one JSON object about the start instead of text.
    #[arg(long)]
    json: bool,
}

pub async fn run(location: &Location, args: Args) -> anyhow::Result<ExitCode> {
    start_log(args.log_json)?;
    let settings = Settings::new(location, &args.serve)?;
    let lock = open::lock(&settings.hub.data)?;
    let hub = open::or_create(&settings).await?;
    let listener = listen(settings.listen).await?;
    lock.announce(&settings.hub.public_url)?;
    let signals = Signals::new()?;
    let steps = super::steps(&settings)?;
    welcome(&hub, &settings, &steps, args.json).await?;
    hub.start().await?;
    let app = bastide_api::router_with(hub.clone(), bastide_web::router(hub.clone(), steps));
    let (ask, asked) = oneshot::channel();
    let server = server::serve(listener, app, Limits::new(settings.max_connections), async {
        let _ = asked.await;
    });
    tokio::select! {
        ended = server => ended?,
        () = signals.stop(ask) => output::note("stopped with requests under way"),
    }
    hub.stop().await?;
    drop(lock);
    Ok(ExitCode::SUCCESS)
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let what = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "the port is taken: stop what listens there, or choose another with --listen"
            }
            std::io::ErrorKind::AddrNotAvailable => {
                "this machine has no such address: choose another with --listen"
            }
            std::io::ErrorKind::PermissionDenied => {
                "ports below 1024 need more rights: choose one with --listen"
            }
            _ => "cannot listen there: choose another address with --listen",
        };
        anyhow::Error::from(error).context(format!("{address}: {what}"))
    })
}

/// Says where the hub is and what to do next.
async fn welcome(hub: &Hub, settings: &Settings, steps: &Steps, json: bool) -> anyhow::Result<()> {
    let empty = hub.is_empty().await?;
    let url = &settings.hub.public_url;
    let value = json!({ "url": url, "listen": settings.listen, "data": settings.hub.data, "empty": empty });
    output::print(json, &value, || {
        let first = if empty {
            format!(
                "Nobody can sign in yet. In another terminal, make the first admin. This prints their token, once:\n\n\
                 {}\n\nThen, wherever the clients are:",
                indent(&steps.first())
            )
        } else {
            "Use it from any Hugging Face client:".to_owned()
        };
        format!(
            "Bastide is running at {url}\n{}Data: {}\n\n{first}\n\n{}\n\nStop with Ctrl-C.",
            other_names(settings),
            settings.hub.data.display(),
            indent(&steps.then(None))
        )
    })?;
    Ok(())
}

/// A hub on every address has no one name.
fn other_names(settings: &Settings) -> String {
    match settings.hub.local_port.filter(|_| settings.listen.ip().is_unspecified()) {
        Some(port) => format!(
            "It listens on every address of this machine: clients can name it by its IP address and the port {port}.\n\
             For any other name, or behind a proxy, start it with --public-url.\n"
        ),
        None => String::new(),
    }
}

pub fn indent(lines: &str) -> String {
    lines.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

fn start_log(json: bool) -> anyhow::Result<()> {
    use tracing_subscriber::EnvFilter;
    let wanted = std::env::var("BASTIDE_LOG").unwrap_or_default();
    let wanted = if wanted.is_empty() { "info" } else { &wanted };
    let filter = EnvFilter::try_new(wanted).with_context(|| {
        format!("BASTIDE_LOG is '{wanted}', but has to be like info or bastide_hub=debug")
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json {
        log.json().init();
    } else {
        log.with_ansi(std::io::stderr().is_terminal()).init();
    }
    Ok(())
}

/// What asks a server to stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
        let terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        Ok(Self { interrupt, terminate })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Passes the first signal on to the server, and ends when its requests have had their time,
    /// or at the second signal.
    async fn stop(mut self, ask: oneshot::Sender<()>) {
        self.next().await;
        output::note(&format!(
            "stopping: what is under way has {} s; the same again stops at once",
            STOP_GRACE.as_secs()
        ));
        let _ = ask.send(());
        let _ = tokio::time::timeout(STOP_GRACE, self.next()).await;
    }
}
