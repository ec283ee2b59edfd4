//! The command line: turns words into requests and answers into text. It decides nothing and knows nothing
//! that the API does not say.

mod args;
mod ask;
mod audit;
mod backup;
mod block;
mod call;
mod client;
mod download;
mod events;
mod evidence;
mod explain;
mod ext;
mod failure;
mod feed;
mod firewall;
mod guard;
mod list;
mod notify;
mod render;
mod status;
mod tenant;
mod trace;
mod transport;
mod web;

use std::{
    future::Future,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use clap::{CommandFactory, Parser};
use pbx_core::time::parse_duration;

pub use self::args::Cli;
use self::{
    args::{Command, Watch},
    client::Client,
    failure::Failure,
};
use crate::config::Config;

/// The shortest time between two looks.
const FASTEST: Duration = Duration::from_millis(100);

/// Parses the arguments and does what they say. Wrong arguments end the process with code 2.
pub fn main() -> ExitCode {
    run(Cli::parse())
}

/// Does what the arguments say.
pub fn run(cli: Cli) -> ExitCode {
    let Cli { socket, json, command } = cli;
    let serve = matches!(command, Command::Serve { .. });
    let mut builder =
        if serve { tokio::runtime::Builder::new_multi_thread() } else { tokio::runtime::Builder::new_current_thread() };
    let outcome = match builder.enable_all().build() {
        Ok(runtime) => runtime.block_on(dispatch(Session { client: Client::new(socket), json }, command)),
        Err(error) => Err(Failure::Failed(format!("cannot start: {error}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}

/// What every command has.
struct Session {
    client: Client,
    json: bool,
}

async fn dispatch(session: Session, command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve { config, detach } => serve(config.as_deref(), detach).await,
        Command::Status(watch) => session.watched(&watch, || status::status(&session)).await,
        Command::Doctor => status::doctor(&session).await,
        Command::Top { once, interval, limit } => status::top(&session, once, pause(&interval)?, limit).await,
        Command::Events { follow, since, list } => events::events(&session, follow, since.as_deref(), &list).await,
        Command::Explain { ip } => explain::explain(&session, &ip).await,
        Command::Firewall(command) => firewall::run(&session, command).await,
        Command::Block(command) => block::block(&session, command).await,
        Command::Allow(command) => block::allow(&session, command).await,
        Command::Notify(command) => notify::run(&session, command).await,
        Command::Feed(command) => feed::run(&session, command).await,
        Command::Guard(command) => guard::run(&session, command).await,
        Command::Ext(command) => ext::ext(&session, command).await,
        Command::Reg(command) => ext::reg(&session, command).await,
        Command::Transport(command) => transport::run(&session, command).await,
        Command::Backup(command) => backup::run(&session, command).await,
        Command::Audit(command) => audit::run(&session, command).await,
        Command::Web(command) => web::run(&session, command).await,
        Command::Call(command) => call::call(&session, command).await,
        Command::Cdr(command) => call::cdr(&session, command).await,
        Command::Trace { ip, dropped: true, reason, count, pcap, .. } => {
            let (sources, reasons, pcap) = (ip.as_slice(), reason.as_slice(), pcap.as_deref());
            trace::dropped::trace(&session, trace::dropped::Wanted { sources, reasons, count, pcap }).await
        }
        Command::Trace { ip, call, sip, .. } => trace::trace(&session, &ip, call.as_deref(), sip).await,
        Command::Tenant(command) => tenant::run(&session, command).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "pbx", &mut script);
            let _ = io::stdout().write_all(&script);
            Ok(())
        }
        Command::Man { folder } => man(&folder),
    }
}

impl Session {
    /// Does it once, or again and again.
    async fn watched<F: Future<Output = Result<(), Failure>>>(
        &self,
        watch: &Watch,
        look: impl Fn() -> F,
    ) -> Result<(), Failure> {
        let Some(interval) = &watch.watch else { return look().await };
        let interval = pause(interval)?;
        loop {
            if !self.json {
                render::clear();
            }
            look().await?;
            tokio::time::sleep(interval).await;
        }
    }
}

fn pause(text: &str) -> Result<Duration, Failure> {
    let span = parse_duration(text).map_err(|error| Failure::Usage(error.to_string()))?;
    if span < FASTEST {
        return Err(Failure::Usage(format!("{text} is too short: at least 100ms")));
    }
    Ok(span)
}

async fn serve(config: Option<&Path>, detach: bool) -> Result<(), Failure> {
    let config = Config::load(config).map_err(|error| Failure::Usage(error.to_string()))?;
    crate::daemon::run(config, detach).await.map_err(|error| Failure::Failed(format!("{error:#}")))
}

fn man(folder: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::Failed(format!("cannot write into {}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(failed)
}

#[cfg(test)]
mod tests;
