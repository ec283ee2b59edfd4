//! Where the packet filter of a try-out is: in the kernel when that can be, otherwise in the daemon. Never lets it
//! enforce; what an administrator turned on in an earlier run stays on, on the same interfaces.

use anyhow::{Context, Result, bail, ensure};
use pbx::{
    config::is_interface_name,
    filter::{AttachState, FilterStatus, InterfaceStatus},
    host::Snapshot,
};
use pbx_core::settings::Enforcement;
use pbx_tests::daemon::{Daemon, Installation};
use serde::Serialize;

use super::{
    network::default_interfaces,
    place::{Kept, Place},
};

/// Where it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// In the kernel, on these interfaces.
    Kernel(Vec<String>),
    /// In the daemon, because it cannot be in the kernel.
    Daemon(String),
}

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Filter {
    /// Where packets are judged.
    pub(crate) place: Where,
    /// Why it is not in the kernel.
    pub(crate) why: Option<String>,
    /// The interfaces in the kernel, and how it sits there.
    pub(crate) interfaces: Vec<InterfaceStatus>,
    /// What becomes of what it judges.
    pub(crate) mode: Enforcement,
    /// The mode was changed at this start, because it had been enforcing elsewhere.
    pub(crate) calmed: bool,
}

/// Where packets are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Where {
    /// Before the network stack sees them.
    Kernel,
    /// At the daemon's own sockets.
    Daemon,
}

/// Where the filter shall be. An error: an interface was asked for, and cannot be had.
pub(crate) fn wish(snapshot: &Snapshot, interface: Option<&str>, is_root: bool) -> Result<Wish> {
    if let Some(name) = interface {
        ensure!(
            is_root,
            "the filter on {name} needs root: sudo -E env \"PATH=$PATH\" cargo xtask run --interface {name}"
        );
        if !is_interface_name(name) || snapshot.link_named(name).is_none() {
            let names: Vec<&str> = snapshot.links.iter().map(|link| link.name.as_str()).collect();
            bail!("there is no interface {name:?}; there are {}", names.join(", "));
        }
        return Ok(Wish::Kernel(vec![name.to_owned()]));
    }
    if !is_root {
        return Ok(Wish::Daemon("that needs root".to_owned()));
    }
    Ok(default_interfaces(snapshot).map_or_else(Wish::Daemon, Wish::Kernel))
}

/// A daemon that is ready.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) daemon: Daemon,
    pub(crate) filter: Filter,
    /// What it warned of, but for what is said of the filter anyway.
    pub(crate) complaints: Vec<String>,
}

/// Starts the daemon with its filter as wished, or, when the kernel refuses, with the one in the daemon.
pub(crate) fn start(pbx: &Installation, place: &Place, wish: Wish) -> Result<Started> {
    let why = match wish {
        Wish::Daemon(why) => why,
        Wish::Kernel(names) => {
            let (daemon, complaints) = start_with(pbx, place, &names)?;
            let status = status(pbx)?;
            match refused(&status) {
                None => {
                    let filter = Filter::new(Where::Kernel, None, status);
                    return Ok(Started { daemon, filter, complaints });
                }
                Some(why) => {
                    daemon.stop().context("stop the daemon whose filter the kernel refuses")?;
                    why
                }
            }
        }
    };
    let (daemon, mut complaints) = start_with(pbx, place, &[])?;
    complaints.retain(|line| !line.contains("the filter is not in the kernel"));
    Ok(Started { daemon, filter: Filter::new(Where::Daemon, Some(why), status(pbx)?), complaints })
}

/// A filter that enforced somewhere else only counts here, until it is told again.
pub(crate) fn careful(pbx: &Installation, mut filter: Filter, kept: &mut Kept) -> Result<Filter> {
    if filter.place == Where::Daemon {
        return Ok(filter);
    }
    let mut names: Vec<String> = filter.interfaces.iter().map(|interface| interface.name.clone()).collect();
    names.sort();
    if filter.mode == Enforcement::Enforce && names != kept.interfaces {
        pbx.pbx("firewall mode monitor")?;
        filter.mode = Enforcement::Monitor;
        filter.calmed = true;
    }
    kept.interfaces = names;
    Ok(filter)
}

impl Filter {
    fn new(place: Where, why: Option<String>, status: FilterStatus) -> Self {
        Self { place, why, interfaces: status.interfaces, mode: status.mode, calmed: false }
    }
}

/// On these interfaces, or, without any, in the daemon; with the warnings of the start, which are no failure.
fn start_with(pbx: &Installation, place: &Place, names: &[String]) -> Result<(Daemon, Vec<String>)> {
    pbx.configure(&configuration(place, names))?;
    let mut serve = pbx.serve();
    // A try-out takes its filter with it.
    serve.arg("--detach");
    let mut daemon = pbx.start_as(serve)?;
    let mut complaints = daemon.alarms();
    daemon.expect("");
    // The guide says it of the transports.
    complaints.retain(|line| !line.contains("does not open"));
    Ok((daemon, complaints))
}

fn configuration(place: &Place, names: &[String]) -> String {
    // An interface name has no character that a basic string of TOML would take for something else but these.
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let path = |name: &str| quoted(&place.path().join(name).display().to_string());
    let attach = if names.is_empty() { "off" } else { "auto" };
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    format!(
        "# Written anew by each `cargo xtask run`.\n\
         data_dir = {}\nsocket = {}\n\n[xdp]\ninterfaces = [{}]\nattach = \"{attach}\"\npin_dir = {}\n",
        path("data"),
        path("pbx.sock"),
        names.join(", "),
        path("bpf/pbx"),
    )
}

fn status(pbx: &Installation) -> Result<FilterStatus> {
    serde_json::from_value(pbx.pbx("firewall status")?).context("the JSON of `pbx firewall status`")
}

/// Why the filter is on none of its interfaces.
fn refused(status: &FilterStatus) -> Option<String> {
    if !status.loaded {
        return Some(status.problem.clone().unwrap_or_else(|| "the kernel did not load it".to_owned()));
    }
    let attached = |one: &InterfaceStatus| matches!(one.attach, AttachState::Native | AttachState::Generic);
    if status.interfaces.iter().any(attached) {
        return None;
    }
    let notes: Vec<String> = status
        .interfaces
        .iter()
        .map(|one| format!("{}: {}", one.name, one.note.as_deref().unwrap_or("the kernel refuses it there")))
        .collect();
    Some(if notes.is_empty() { "it is attached to nothing".to_owned() } else { notes.join("; ") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pbx::config::{Attach, Config, Interfaces};

    fn status(loaded: bool, attach: AttachState) -> FilterStatus {
        let one = InterfaceStatus {
            name: "eth0".to_owned(),
            index: Some(2),
            attach,
            note: Some("another program is there".to_owned()),
        };
        FilterStatus {
            loaded,
            problem: (!loaded).then(|| "no CAP_BPF".to_owned()),
            mode: Enforcement::Monitor,
            settings_revision: 1,
            interfaces: vec![one],
            guard_active: false,
            automatic_full: false,
            usage: Vec::new(),
            memory: 0,
            not_enforced: Vec::new(),
        }
    }

    #[test]
    fn without_root_the_filter_is_in_the_daemon_unless_an_interface_was_named() {
        let nothing = Snapshot::default();
        assert_eq!(wish(&nothing, None, false).unwrap(), Wish::Daemon("that needs root".to_owned()));
        let error = wish(&nothing, Some("eth0"), false).unwrap_err().to_string();
        assert!(error.contains("sudo"), "{error}");
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error_and_not_waited_for() {
        let error = wish(&Snapshot::default(), Some("eth7"), true).unwrap_err().to_string();
        assert!(error.contains("eth7"), "{error}");
        assert!(matches!(wish(&Snapshot::default(), None, true), Ok(Wish::Daemon(_))));
    }

    #[test]
    fn a_kernel_that_refuses_is_told_from_one_that_is_only_slower() {
        assert_eq!(refused(&status(true, AttachState::Generic)), None);
        assert!(refused(&status(true, AttachState::Refused)).unwrap().contains("another program"));
        assert_eq!(refused(&status(false, AttachState::Detached)).unwrap(), "no CAP_BPF");
    }

    #[test]
    fn the_configuration_is_one_that_the_daemon_reads() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::open(&folder.path().join("a \"strange\\ folder")).unwrap();
        let config = Config::parse(&configuration(&place, &["eth0".to_owned()])).unwrap();
        assert_eq!(config.data_dir, place.path().join("data"));
        assert_eq!(config.xdp.interfaces, Interfaces::Named(vec!["eth0".to_owned()]));
        assert_eq!(config.xdp.pin_dir, place.bpffs().join("pbx"));
        assert_eq!(Config::parse(&configuration(&place, &[])).unwrap().xdp.attach, Attach::Off);
    }
}
