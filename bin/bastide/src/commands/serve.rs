//! `bastide serve`: the hub itself.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;

use bastide_hub::Hub;
use tokio::net::TcpListener;

use crate::config::{Location, ServeArgs, Settings};
use crate::open;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    serve: ServeArgs,
    /// Log as JSON lines, one object each.
    #[arg(long, env = "BASTIDE_LOG_JSON")]
    log_json: bool,
}

pub async fn run(location: &Location, args: Args) -> anyhow::Result<ExitCode> {
    start_log(args.log_json);
    let settings = Settings::new(location, Some(&args.serve))?;
    let lock = open::lock(&settings.hub.data)?;
    let hub = open::or_create(&settings).await?;
    let listener = listen(settings.listen).await?;
    welcome(&hub, &settings, location).await?;
    hub.start().await?;
    let app = bastide_api::router(hub.clone()).merge(bastide_web::router(hub.clone()));
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(stop_signal()).await?;
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
            std::io::ErrorKind::PermissionDenied => {
                "ports below 1024 need more rights: choose one with --listen"
            }
            _ => "cannot listen there",
        };
        anyhow::Error::from(error).context(format!("{address}: {what}"))
    })
}

/// Says where the hub is and what to do next.
async fn welcome(hub: &Hub, settings: &Settings, location: &Location) -> anyhow::Result<()> {
    let url = &settings.hub.public_url;
    println!("Bastide is running at {url}");
    println!("Data: {}", settings.hub.data.display());
    if hub.is_empty().await? {
        println!(
            "\nNobody can sign in yet. In another terminal, make the first admin and their token:\n\n    \
             bastide init --data {} --admin NAME --email ADDRESS\n",
            location.data.display()
        );
    }
    println!("Use it from any Hugging Face client:\n\n    export HF_ENDPOINT={url}\n");
    println!("Stop with Ctrl-C.");
    Ok(())
}

fn start_log(json: bool) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("BASTIDE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json {
        log.json().init();
    } else {
        log.with_ansi(std::io::stderr().is_terminal()).init();
    }
}

async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
