//! The registrar, for a person to try: makes what is missing in a folder, runs the real daemon on it in the foreground,
//! and says how to register a softphone. Started by `cargo xtask run`. The folder keeps extensions and registrations
//! for the next run; of the filter nothing is left, however it ends.

mod accounts;
mod filter;
mod guide;
mod network;
mod place;

use std::{
    os::fd::AsFd,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use pbx::{
    host::Snapshot,
    ops::{TransportStatusView, TransportView},
};
use pbx_tests::{
    daemon::{Daemon, Installation},
    interrupt::{Interrupt, Over},
    sandbox::Sandbox,
};

use serde::de::DeserializeOwned;

use filter::{Started, Wish};
use guide::{Facts, Listening};
use place::Place;

/// Run the registrar in the foreground, with an embedded database and two extensions.
#[derive(Debug, Parser)]
#[command(name = "pbx-run")]
struct Arguments {
    /// Where its database, socket, configuration and passwords are; made when it is not there.
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
    /// Filter on this interface instead of the one of the default route (root).
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// End after so many seconds instead of on Ctrl-C.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Begin anew: removes the extensions, passwords, registrations and rules of earlier runs.
    #[arg(long)]
    fresh: bool,
    /// Do not ask before --fresh removes.
    #[arg(long, requires = "fresh")]
    yes: bool,
    /// When it is ready, print its facts as one line of JSON, passwords included, instead of the guide.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let place = Place::open(&arguments.folder)?;
    if arguments.fresh {
        place.empty(arguments.yes)?;
    }
    let snapshot = Snapshot::read().context("cannot look at the interfaces")?;
    let wish = filter::wish(&snapshot, arguments.interface.as_deref(), nix::unistd::geteuid().is_root())?;
    // Not before: Ctrl-C ends the question of --fresh.
    let interrupt = Interrupt::install()?;
    let serve = |wish| serve(arguments, &place, &snapshot, &interrupt, wish);
    let Wish::Kernel(names) = wish else { return serve(wish) };
    // The pins lie in a bpffs that only this process and the daemon see, and end with them.
    let served = Sandbox::run_on_host_network(place.path(), |_| Ok(serve(Wish::Kernel(names))));
    match served {
        Ok(outcome) => outcome,
        Err(error) => serve(Wish::Daemon(format!("there is no place for its pins: {error:#}"))),
    }
}

fn serve(arguments: &Arguments, place: &Place, snapshot: &Snapshot, interrupt: &Interrupt, wish: Wish) -> Result<()> {
    let pbx = Installation::at(place.path(), &place.bpffs(), &[])?;
    let mut kept = place.kept()?;
    let Started { daemon, filter, complaints } = filter::start(&pbx, place, wish)?;
    let filter = filter::careful(&pbx, filter, &mut kept)?;
    let extensions = accounts::ensure(&pbx, &mut kept, |kept| place.keep(kept))?;
    let transports = listening(&pbx)?;
    complaints.iter().for_each(|line| eprintln!("{line}"));
    let addresses = network::addresses(snapshot, arguments.interface.as_deref());
    let facts = Facts::new(&pbx, daemon.pid(), addresses, transports, filter, extensions);
    if let Err(nothing) = facts.can_be_reached() {
        daemon.stop()?;
        bail!(nothing);
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&facts)?);
    } else {
        print!("{}", guide::text(&facts, &guide::Reader::of_this_process()));
    }
    daemon.show_log();
    wait(&daemon, interrupt, arguments.seconds)?;
    daemon.stop().context("the daemon did not end in order")?;
    eprintln!("{}", guide::farewell(&facts));
    Ok(())
}

/// Until a signal or the end of its time; an error if the daemon ends before.
fn wait(daemon: &Daemon, interrupt: &Interrupt, seconds: Option<u64>) -> Result<()> {
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    match interrupt.wait_beside(daemon.ended()?.as_fd(), end) {
        Over::Interrupted | Over::Time => Ok(()),
        Over::Other => bail!("the daemon ended by itself; what it said last is above"),
    }
}

/// The transports, and whether they listen.
fn listening(pbx: &Installation) -> Result<Vec<Listening>> {
    let transports: Vec<TransportView> = items(pbx, "transport list")?;
    let states: Vec<TransportStatusView> = items(pbx, "transport status")?;
    let state = |id: &str| states.iter().find(|one| one.id == id);
    Ok(transports.iter().filter_map(|one| Some(Listening::new(one, state(one.id.as_deref()?)?))).collect())
}

fn items<T: DeserializeOwned>(pbx: &Installation, line: &str) -> Result<Vec<T>> {
    let mut answer = pbx.pbx(line)?;
    serde_json::from_value(answer["items"].take()).with_context(|| format!("the JSON of `pbx {line}`"))
}
