//! What is played: each attacker, at an address of its own on the bad neighbour's link, and a power cut.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};
use pbx_tests::{
    flood::{Plan, Sender},
    frames::Frame,
    lab::NEIGHBOUR_INTERFACE,
    phone::Media,
    sandbox::ip,
    scanners::Scanners,
    site::{Site, TLS, UDP, server},
};

use crate::{audio, handshakes, office, scene::Scene};

/// Floods are as fast as the machine makes them.
const FAST: Plan = Plan { rate: None, count: u64::MAX, time: LONGEST };
/// Forged addresses of a flood; one more is the office's own.
const FORGED: u32 = 10_000;
/// REGISTER requests a second.
const REGISTERS: u32 = 2_000;
/// Between two packets of RTP that are injected.
const INJECTED: Duration = Duration::from_millis(1);
/// Longer than any act lasts.
const LONGEST: Duration = Duration::from_secs(60);

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Svmap,
    Svwar,
    Svcrack,
    Registers,
    Flood,
    Forged,
    Handshakes,
    Injection,
    PowerCut,
}

impl Act {
    /// All of them, in their order.
    pub(crate) const ALL: [Self; 9] = [
        Self::Svmap,
        Self::Svwar,
        Self::Svcrack,
        Self::Registers,
        Self::Flood,
        Self::Forged,
        Self::Handshakes,
        Self::Injection,
        Self::PowerCut,
    ];

    /// What the table calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Svmap => "svmap",
            Self::Svwar => "svwar, disguised",
            Self::Svcrack => "svcrack, disguised",
            Self::Registers => "REGISTER flood (SIPp)",
            Self::Flood => "UDP flood, 1 source",
            Self::Forged => "UDP flood, 10k forged",
            Self::Handshakes => "TLS handshake flood",
            Self::Injection => "RTP into the call",
            Self::PowerCut => "power cut, ten phones",
        }
    }

    /// Where its attacker is, if it has one.
    pub(crate) const fn attacker(self) -> Option<Ipv4Addr> {
        let last = match self {
            Self::Svmap => 11,
            Self::Svwar => 12,
            Self::Svcrack => 13,
            Self::Registers => 14,
            Self::Flood => 15,
            Self::Handshakes => 17,
            Self::Injection => 18,
            Self::Forged | Self::PowerCut => return None,
        };
        Some(Ipv4Addr::new(203, 0, 113, last))
    }

    /// Whether its attacker has to be blocked. Who writes other addresses into packets cannot be; who sends media to a
    /// port of a call is not heard, and that is all.
    pub(crate) const fn is_to_be_blocked(self) -> bool {
        !matches!(self, Self::Forged | Self::Injection | Self::PowerCut)
    }

    /// Begins it.
    pub(crate) fn start(self, scene: &Scene) -> Result<Attack> {
        let site = scene.site;
        let target = site.lab.bad.appliance_v4().to_string();
        let mut attack = Attack::default();
        match self {
            Self::Svmap => attack.scan(site, &scene.shipped, "svmap", self, &[&target])?,
            Self::Svwar => {
                attack.scan(site, &scene.disguised, "svwar", self, &["--force", "-e", "100-9999", &target])?
            }
            Self::Svcrack => {
                let words = site.sandbox.directory().join("words");
                let guesses: Vec<String> = (0..100_000).map(|number| format!("guess{number}")).collect();
                fs::write(&words, guesses.join("\n"))?;
                let words = words.display().to_string();
                attack.scan(site, &scene.disguised, "svcrack", self, &["-u", "301", "-d", &words, &target])?;
            }
            Self::Registers => attack.register(site, self)?,
            Self::Flood => {
                let (source, to) = (self.address()?, server(&site.lab.bad, UDP));
                attack.senders.push(Sender::udp(&site.lab.bad.network, (source, 0).into(), to, 1, FAST)?);
            }
            Self::Forged => attack.forge(site)?,
            Self::Handshakes => {
                let (network, to) = (site.lab.bad.network.try_clone()?, server(&site.lab.bad, TLS));
                let (source, stop) = (self.address()?, Arc::clone(&attack.stop));
                attack.threads.push(thread::spawn(move || network.enter(|| handshakes::flood(source, to, &stop))));
            }
            Self::Injection => {
                let mut media = Media::open(&site.lab.bad.network, self.address()?, 1000)?;
                // As somebody who sees the call's packets would.
                (media.ssrc, media.sequence) = (audio::ssrc(0), scene.audio.sequence());
                let (to, stop) = (scene.heard_at, Arc::clone(&attack.stop));
                attack.threads.push(thread::spawn(move || {
                    while !stop.load(Relaxed) {
                        media.send(to)?;
                        thread::sleep(INJECTED);
                    }
                    Ok(())
                }));
            }
            Self::PowerCut => {}
        }
        Ok(attack)
    }

    fn address(self) -> Result<IpAddr> {
        Ok(self.attacker().context("an attacker")?.into())
    }
}

/// Gives the attackers their addresses, and the appliance the way back to them.
pub(crate) fn prepare(site: &Site) -> Result<()> {
    let bad = &site.lab.bad;
    for attacker in Act::ALL.into_iter().filter_map(Act::attacker) {
        bad.add_address(attacker.into())?;
    }
    ["203.0.113.0/24", "198.18.0.0/15"]
        .iter()
        .try_for_each(|network| ip(&format!("route add {network} via {}", bad.v4())))
}

/// Whether this is an attacker's address: its own, or one that it forged and nobody has.
pub(crate) fn is_attackers(addr: IpAddr) -> bool {
    let IpAddr::V4(addr) = addr.to_canonical() else { return false };
    let [first, second, third, _] = addr.octets();
    (first, second, third) == (203, 0, 113) || first == 198 && matches!(second, 18 | 19)
}

/// An attack that goes on until it is dropped.
#[derive(Default)]
pub(crate) struct Attack {
    children: Vec<Child>,
    senders: Vec<Sender>,
    threads: Vec<JoinHandle<Result<()>>>,
    stop: Arc<AtomicBool>,
}

impl Attack {
    /// Ends it; an error says why it was none.
    pub(crate) fn end(mut self) -> Result<()> {
        self.stop.store(true, Relaxed);
        self.senders.drain(..).try_for_each(|sender| sender.stop().map(|_| ()))?;
        self.threads.drain(..).try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => anyhow::bail!("an attacker panicked"),
        })
    }

    fn scan(&mut self, site: &Site, scanners: &Scanners, program: &str, act: Act, words: &[&str]) -> Result<()> {
        let bad = &site.lab.bad;
        // Scanners take no notice of the address that they are told to bind to; the way to the appliance names it.
        bad.network.ip(&format!("route replace 10.77.2.0/24 dev {NEIGHBOUR_INTERFACE} src {}", act.address()?))?;
        self.spawn(site, scanners.command(program, words))
    }

    fn spawn(&mut self, site: &Site, mut command: Command) -> Result<()> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        site.lab.bad.network.put(&mut command)?;
        let program = command.get_program().to_string_lossy().into_owned();
        let started = command.spawn();
        self.children
            .push(started.with_context(|| format!("{program} does not start; `cargo xtask setup` installs it"))?);
        Ok(())
    }

    /// SIPp asks to register, each time as somebody else, and never answers a challenge.
    fn register(&mut self, site: &Site, act: Act) -> Result<()> {
        let folder = site.sandbox.directory().join("flood");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("flood.xml"), REGISTER)?;
        let source = act.address()?.to_string();
        let mut command = Command::new("sipp");
        command.arg(server(&site.lab.bad, UDP).to_string()).args(["-sf", "flood.xml", "-i", &source, "-p", "5070"]);
        command.args(["-r", &REGISTERS.to_string(), "-m", "10000000", "-l", "100000", "-nostdin"]).current_dir(&folder);
        self.spawn(site, command)
    }

    /// REGISTER requests from addresses that nobody has, the office's among them.
    fn forge(&mut self, site: &Site) -> Result<()> {
        let bad = &site.lab.bad;
        let (link, to) = ((bad.mac(), bad.appliance_mac()), server(bad, UDP));
        let forged = (0..FORGED).map(|number| Ipv4Addr::from(0xc612_0000 + number));
        let frames: Vec<Vec<u8>> = forged
            .chain([office::ADDRESS])
            .map(|source| {
                let request = request(source, to.ip());
                Frame::udp((source, 5060), to).link(link.0, link.1).payload(request.as_bytes()).build()
            })
            .collect();
        let frame = move |number: u64| frames[(number % frames.len() as u64) as usize].clone();
        self.senders.push(Sender::frames(&bad.network, 2, FAST, frame)?);
        Ok(())
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn request(source: Ipv4Addr, to: IpAddr) -> String {
    format!(
        "REGISTER sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {source}:5060;branch=z9hG4bK-{source};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:301@{to}>;tag=1\r\nTo: <sip:301@{to}>\r\nCall-ID: forged-{source}\r\n\
         CSeq: 1 REGISTER\r\nContact: <sip:301@{source}>\r\nContent-Length: 0\r\n\r\n"
    )
}

/// Not a word more than the first request.
const REGISTER: &str = r#"<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="flood">
  <send><![CDATA[
REGISTER sip:[remote_ip] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
Max-Forwards: 70
From: <sip:[call_number]@[remote_ip]>;tag=[call_number]
To: <sip:[call_number]@[remote_ip]>
Call-ID: [call_id]
CSeq: 1 REGISTER
Contact: <sip:[call_number]@[local_ip]:[local_port];transport=[transport]>
Expires: 300
User-Agent: desk
Content-Length: 0

]]></send>
</scenario>
"#;
