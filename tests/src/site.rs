//! A daemon that enforces on both links of a lab, and phones beside it: what tests of signalling and calls begin with.
//! After daemon and phone.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    daemon::{Daemon, Installation},
    lab::{Lab, Neighbour},
    phone::{Baresip, Handset, Line, Sound},
    sandbox::{Namespace, Sandbox},
};

/// Where a new installation listens by UDP.
pub const UDP: u16 = 5060;
/// By TCP.
pub const TCP: u16 = 5063;
/// By TLS.
pub const TLS: u16 = 5061;

/// What a test works on.
#[derive(Debug)]
pub struct Site<'a> {
    /// Its network and folder.
    pub sandbox: &'a Sandbox,
    /// The neighbours.
    pub lab: Lab,
    /// The daemon's configuration, and commands against it.
    pub pbx: Installation,
}

/// Runs `test` beside a daemon that enforces on both links.
///
/// # Panics
/// With the error of `test`, or if there is no daemon.
pub fn on_site(test: impl FnOnce(&Site, Daemon) -> Result<()> + Send) {
    Sandbox::run(|sandbox| {
        let run = || {
            let lab = Lab::build(sandbox)?;
            let site = Site { pbx: Installation::new(sandbox, &lab.interfaces())?, sandbox, lab };
            let daemon = site.pbx.start()?;
            site.pbx.pbx("firewall mode enforce")?;
            test(&site, daemon)
        };
        run().unwrap_or_else(|error| panic!("{error:?}"));
    });
}

impl Site<'_> {
    /// Adds an extension; its password.
    pub fn add(&self, number: &str) -> Result<String> {
        let added = self.pbx.pbx(&format!("ext add {number}"))?;
        added["generated_password"].as_str().map(str::to_owned).with_context(|| format!("no password in {added:#}"))
    }

    /// Offers MD5 alone, as an administrator does whose phones give up at a challenge that they do not know, even
    /// beside one that they do: baresip 1.0 is one of them.
    pub fn offer_md5_alone(&self) -> Result<()> {
        for transport in [format!("udp:{UDP}"), format!("tcp:{TCP}"), format!("tls:{TLS}")] {
            self.pbx.pbx(&format!("transport set {transport} --algorithms md5"))?;
        }
        Ok(())
    }

    /// Switches the detectors off: for what a test sends that they would block, and that is not about them.
    pub fn without_detectors(&self) -> Result<()> {
        let names = ["authentication", "accounts", "challenges", "enumeration", "malformed", "agents", "scanner"];
        let off: Vec<String> = names.iter().map(|name| format!("guard.{name}.enforcement=off")).collect();
        self.pbx.pbx(&format!("guard set {}", off.join(" "))).map(|_| ())
    }

    /// Starts a baresip beside the appliance; `over` is `;transport=tcp` or the like, and may have a port before it.
    pub fn baresip(&self, neighbour: &Neighbour, number: &str, password: &str, over: &str) -> Result<Baresip> {
        let registrar = format!("{}{over}", neighbour.appliance_v4());
        self.baresip_in(&neighbour.network, number, password, &registrar)
    }

    /// Starts a baresip in a namespace. It registers for as long as it may, so that it does not return soon.
    pub fn baresip_in(&self, network: &Namespace, number: &str, password: &str, registrar: &str) -> Result<Baresip> {
        let account = format!("<sip:{number}@{registrar}>;auth_pass={password};regint=3600");
        Baresip::start(network, &self.sandbox.directory().join(format!("baresip-{number}")), &account)
    }

    /// A line from a neighbour by UDP.
    pub fn udp(&self, neighbour: &Neighbour) -> Result<Line> {
        Line::udp(&neighbour.network, neighbour.v4().into(), server(neighbour, UDP))
    }

    /// A line from a neighbour by TCP.
    pub fn tcp(&self, neighbour: &Neighbour) -> Result<Line> {
        Line::tcp(&neighbour.network, server(neighbour, TCP))
    }

    /// A line from a neighbour by TLS.
    pub fn tls(&self, neighbour: &Neighbour) -> Result<Line> {
        Line::tls(&neighbour.network, None, server(neighbour, TLS))
    }

    /// Starts a baresip beside the appliance that plays a tone and records what it hears; it answers by itself.
    pub fn sounding(
        &self,
        neighbour: &Neighbour,
        number: &str,
        password: &str,
        over: &str,
        frequency: u32,
    ) -> Result<Baresip> {
        let registrar = format!("{}{over}", neighbour.appliance_v4());
        let account = format!("<sip:{number}@{registrar}>;auth_pass={password};regint=3600;answermode=auto");
        let directory = self.sandbox.directory().join(format!("baresip-{number}"));
        Baresip::start_with(&neighbour.network, &directory, &account, Sound { frequency, listen: None })
    }

    /// Adds an extension and registers a handset for it by UDP.
    pub fn handset(&self, neighbour: &Neighbour, number: &str) -> Result<Handset> {
        self.handset_on(self.udp(neighbour)?, number)
    }

    /// Adds an extension and registers a handset for it on a line.
    pub fn handset_on(&self, line: Line, number: &str) -> Result<Handset> {
        let password = self.add(number)?;
        let mut handset = Handset::new(line, number, &password);
        handset.register()?;
        Ok(handset)
    }

    /// What is registered for an extension.
    pub fn registered(&self, number: &str) -> Result<Vec<Value>> {
        Ok(of(&self.pbx.pbx("reg list --limit 1000")?, number))
    }

    /// Waits until what is registered for an extension is so; that.
    pub fn wait_registered(&self, number: &str, mut enough: impl FnMut(&[Value]) -> bool) -> Result<Vec<Value>> {
        Ok(of(&self.pbx.wait("reg list --limit 1000", |list| enough(&of(list, number)))?, number))
    }

    /// Asserts that the phones of an extension answer when they are asked whether they are there.
    pub fn assert_answers(&self, number: &str) -> Result<()> {
        let pings = self.pbx.pbx(&format!("reg ping {number}"))?;
        let items = pings["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        ensure!(!items.is_empty() && items.iter().all(|ping| ping["answered"] == true), "{pings:#}");
        Ok(())
    }

    /// How often a transport, such as `udp:5060`, has counted this reason.
    pub fn dropped(&self, transport: &str, reason: &str) -> Result<u64> {
        Ok(dropped(&self.pbx.pbx(&format!("transport status {transport}"))?, reason))
    }

    /// Waits until a transport has counted this reason so often.
    pub fn wait_dropped(&self, transport: &str, reason: &str, count: u64) -> Result<()> {
        let line = format!("transport status {transport}");
        self.pbx.wait(&line, |status| dropped(status, reason) >= count).with_context(|| format!("for {reason}"))?;
        Ok(())
    }
}

/// Where a neighbour reaches the appliance.
pub fn server(neighbour: &Neighbour, port: u16) -> SocketAddr {
    (IpAddr::from(neighbour.appliance_v4()), port).into()
}

/// The registrations of an extension in a list.
fn of(list: &Value, number: &str) -> Vec<Value> {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter(|item| item["extension_number"] == number).cloned().collect()
}

/// How often the transports in an answer have counted this reason.
pub fn dropped(status: &Value, reason: &str) -> u64 {
    let transports = status["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let reasons = transports.iter().filter_map(|transport| transport["dropped"].as_array()).flatten();
    reasons.filter(|counted| counted[0] == reason).filter_map(|counted| counted[1].as_u64()).sum()
}
