//! What a person needs to register a softphone, and to look at it, as text; and the same for a program, as JSON.

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use pbx::{
    filter::{AttachState, InterfaceStatus},
    ops::{TransportState, TransportStatusView, TransportView},
};
use pbx_core::{auth::Algorithm, settings::Enforcement, transport::Protocol};
use pbx_tests::daemon::Installation;
use serde::Serialize;

use super::{
    accounts::Account,
    filter::{Filter, Where},
};

/// Further addresses that are listed.
const LISTED: usize = 4;

/// What is so when the daemon is ready.
#[derive(Debug, Serialize)]
pub(crate) struct Facts {
    /// Always: it is said when it is so.
    pub(crate) ready: bool,
    pub(crate) version: String,
    /// The daemon's process id.
    pub(crate) process: u32,
    /// The command line program.
    pub(crate) pbx: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) config: PathBuf,
    /// Of this machine, the likeliest for a phone first; not empty.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) transports: Vec<Listening>,
    pub(crate) filter: Filter,
    pub(crate) extensions: Vec<Account>,
    /// The extensions whose password is known, as lines of baresip's accounts, by different transports.
    pub(crate) baresip: Vec<String>,
}

/// A transport.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Listening {
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) listening: bool,
    /// Why not.
    pub(crate) problem: Option<String>,
    /// The digest algorithms that it offers, in this order.
    pub(crate) algorithms: Vec<Algorithm>,
}

/// Who reads the guide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader {
    is_root: bool,
    by_sudo: bool,
}

impl Listening {
    /// A transport with its state.
    pub(crate) fn new(transport: &TransportView, status: &TransportStatusView) -> Self {
        Self {
            protocol: transport.protocol,
            port: transport.port,
            listening: status.state == TransportState::Activated,
            problem: status.problem.clone(),
            algorithms: transport.algorithms.clone(),
        }
    }

    /// As `pbx transport` names it.
    fn name(&self) -> String {
        format!("{}:{}", self.protocol, self.port).to_lowercase()
    }
}

impl Reader {
    /// Whoever started this process.
    pub(crate) fn of_this_process() -> Self {
        Self { is_root: nix::unistd::geteuid().is_root(), by_sudo: std::env::var_os("SUDO_USER").is_some() }
    }
}

impl Facts {
    /// Of a daemon that is ready.
    pub(crate) fn new(
        pbx: &Installation,
        process: u32,
        addresses: Vec<IpAddr>,
        transports: Vec<Listening>,
        filter: Filter,
        extensions: Vec<Account>,
    ) -> Self {
        Self {
            ready: true,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process,
            pbx: pbx.binary().to_owned(),
            socket: pbx.socket().to_owned(),
            config: pbx.config().to_owned(),
            baresip: lines(addresses.first(), &transports, &extensions),
            addresses,
            transports,
            filter,
            extensions,
        }
    }

    /// An error, if no phone can reach anything: what to do.
    pub(crate) fn can_be_reached(&self) -> Result<(), String> {
        if self.transports.iter().any(|one| one.listening) {
            return Ok(());
        }
        let mut text = String::from("no phone can reach the registrar, because none of its ports is free:\n");
        self.transports.iter().for_each(|one| problem(&mut text, one));
        text += "Stop what has them (another PBX, an installed pbx: `systemctl stop pbx`), then run this again.";
        Err(text)
    }
}

/// The guide.
pub(crate) fn text(facts: &Facts, reader: &Reader) -> String {
    let mut text = String::from("\nThe registrar runs. A softphone needs:\n\n");
    servers(&mut text, facts);
    for Account { number, password, note } in &facts.extensions {
        let password = password.as_deref().unwrap_or("?");
        let note = note.as_deref().map(|note| format!("   ({note})")).unwrap_or_default();
        let _ = writeln!(text, "  user       {number}   password {password}{note}");
    }
    calling(&mut text, facts);
    baresip(&mut text, facts);
    filter(&mut text, &facts.filter, reader);
    commands(&mut text, facts, reader);
    text
}

/// What is left when it has ended.
pub(crate) fn farewell(facts: &Facts) -> String {
    let names: Vec<&str> = attached(&facts.filter).map(|one| one.name.as_str()).collect();
    let filter = match facts.filter.place {
        Where::Kernel => format!("; the packet filter is off {} again", names.join(", ")),
        Where::Daemon => String::new(),
    };
    let folder = facts.config.parent().unwrap_or(Path::new("."));
    format!(
        "The registrar has ended{filter}. Extensions and registrations are kept in {} for the next run; --fresh begins anew.",
        folder.display()
    )
}

fn servers(text: &mut String, facts: &Facts) {
    let open = facts.transports.iter().filter(|one| one.listening);
    let ports: Vec<String> = open
        .map(|one| {
            let note = if one.protocol == Protocol::Tls { " (certificate: see below)" } else { "" };
            format!("{} {}{note}", one.protocol, one.port)
        })
        .collect();
    let (first, others) = facts.addresses.split_first().map_or((None, &[][..]), |(one, rest)| (Some(one), rest));
    let first = first.map(IpAddr::to_string).unwrap_or_default();
    let _ = writeln!(text, "  server     {first}\n  ports      {}", ports.join(", "));
    if !others.is_empty() {
        let mut listed: Vec<String> = others.iter().take(LISTED).map(IpAddr::to_string).collect();
        listed.extend((others.len() > LISTED).then(|| "…".to_owned()));
        let _ = writeln!(text, "  also at    {}", listed.join(", "));
    }
    let closed: Vec<&Listening> = facts.transports.iter().filter(|one| !one.listening).collect();
    closed.iter().for_each(|one| problem(text, one));
    if let Some(one) = closed.first() {
        let _ = writeln!(
            text,
            "  Stop what has it, then run this again; or take another port: pbx transport set {} --port PORT",
            one.name()
        );
    }
}

/// How two of the phones call each other.
fn calling(text: &mut String, facts: &Facts) {
    let mut known = facts.extensions.iter().filter(|one| one.password.is_some()).map(|one| one.number.as_str());
    if let (Some(first), Some(second)) = (known.next(), known.next()) {
        let _ = writeln!(
            text,
            "\nWhen two are registered, dial {second} on the phone of {first}, or {first} on that of {second}."
        );
    }
}

fn problem(text: &mut String, transport: &Listening) {
    let Listening { protocol, port, problem, .. } = transport;
    let why = problem.as_deref().unwrap_or("nobody says why");
    let _ = writeln!(text, "  CLOSED     {protocol} {port}: {why}");
}

fn baresip(text: &mut String, facts: &Facts) {
    if !facts.baresip.is_empty() {
        text.push_str("\nAs lines of baresip's file `accounts` (~/.baresip/accounts):\n\n");
        facts.baresip.iter().for_each(|line| *text += &format!("  {line}\n"));
        let more = |one: &&Listening| one.listening && one.algorithms != [Algorithm::Md5];
        if let Some(one) = facts.transports.iter().find(more) {
            let _ = writeln!(
                text,
                "\nAn old phone that says \"Function not implemented\" (baresip 1.0) gives up where anything but MD5 is offered:\n\
                 pbx transport set {} --algorithms md5",
                one.name()
            );
        }
    }
    if let Some(tls) = facts.transports.iter().find(|one| one.listening && one.protocol == Protocol::Tls) {
        let _ = writeln!(
            text,
            "\nOver TLS: port {}, transport=tls. The certificate is self-signed: let the phone accept it (baresip:\n\
             sip_verify_server no), or give it the one that `pbx transport certificate tls:{}` prints.",
            tls.port, tls.port
        );
    }
}

/// Each account by another transport, as far as there are some.
fn lines(server: Option<&IpAddr>, transports: &[Listening], extensions: &[Account]) -> Vec<String> {
    let Some(server) = server else { return Vec::new() };
    let known = extensions.iter().filter_map(|account| Some((account.number.as_str(), account.password.as_deref()?)));
    let listens = |protocol| transports.iter().find(move |one| one.listening && one.protocol == protocol);
    let over: Vec<&Listening> = [Protocol::Udp, Protocol::Tcp].into_iter().filter_map(listens).collect();
    known.zip(over.iter().cycle()).map(|((number, password), one)| line(number, password, *server, one)).collect()
}

/// An account as baresip reads it.
fn line(number: &str, password: &str, server: IpAddr, transport: &Listening) -> String {
    let server = SocketAddr::new(server, transport.port);
    let protocol = transport.protocol.to_string().to_lowercase();
    format!("<sip:{number}@{server};transport={protocol}>;auth_pass={password};regint=300")
}

fn filter(text: &mut String, filter: &Filter, reader: &Reader) {
    text.push('\n');
    match filter.place {
        Where::Kernel => {
            let at: Vec<String> = attached(filter).map(at).collect();
            let _ = writeln!(text, "The packet filter is in the kernel, on {}.", at.join(", "));
        }
        Where::Daemon => {
            let _ = writeln!(
                text,
                "The packet filter is NOT in the kernel: {}. The daemon judges what reaches its own ports,\n\
                 slower; ssh and other programs of this machine are not filtered.",
                filter.why.as_deref().unwrap_or("nobody says why")
            );
        }
    }
    if !reader.is_root {
        text.push_str("As root it is there: sudo -E env \"PATH=$PATH\" cargo xtask run\n");
    }
    if filter.calmed {
        text.push_str("It enforced on other interfaces in an earlier run, and begins here without.\n");
    }
    text.push_str(match filter.mode {
        Enforcement::Enforce => {
            "It drops what its rules say (mode enforce, set earlier): pbx firewall mode monitor ends that.\n"
        }
        Enforcement::Monitor => {
            "It only counts what it would drop (mode monitor): pbx firewall mode enforce turns it on.\n"
        }
        Enforcement::Off => "It lets everything pass (mode off): pbx firewall mode enforce turns it on.\n",
    });
}

fn attached(filter: &Filter) -> impl Iterator<Item = &InterfaceStatus> {
    filter.interfaces.iter().filter(|one| matches!(one.attach, AttachState::Native | AttachState::Generic))
}

fn at(interface: &InterfaceStatus) -> String {
    let slower = if interface.attach == AttachState::Generic { " (in the generic path, slower)" } else { "" };
    format!("{}{slower}", interface.name)
}

fn commands(text: &mut String, facts: &Facts, reader: &Reader) {
    let sudo = if reader.by_sudo { "sudo " } else { "" };
    let who = match (reader.is_root, reader.by_sudo) {
        (true, false) => ", as root",
        _ => "",
    };
    let _ = writeln!(
        text,
        "\nTo look at it from another terminal{who}:\n\n  \
         alias pbx='{sudo}{} --socket {}'\n\n  \
         pbx reg list                who is registered\n  \
         pbx trace                   every SIP message, as it comes and goes\n  \
         pbx explain ADDRESS         what becomes of packets of a phone, or of anybody, and why\n  \
         pbx ext add 102             another extension\n  \
         pbx status, pbx doctor      how it is, and what is wrong\n\n\
         Ctrl-C ends it. The daemon's log follows.\n",
        facts.pbx.display(),
        facts.socket.display()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(protocol: Protocol, port: u16) -> Listening {
        Listening { protocol, port, listening: true, problem: None, algorithms: vec![Algorithm::Md5] }
    }

    fn facts() -> Facts {
        let account = |number: &str, password: Option<&str>| Account {
            number: number.to_owned(),
            password: password.map(str::to_owned),
            note: None,
        };
        let interface =
            InterfaceStatus { name: "eth0".to_owned(), index: Some(2), attach: AttachState::Native, note: None };
        Facts {
            ready: true,
            version: "0.1.0".to_owned(),
            process: 4711,
            pbx: "/clone/target/debug/pbx".into(),
            socket: "/clone/target/run/pbx.sock".into(),
            config: "/clone/target/run/pbx.toml".into(),
            addresses: vec![[192, 0, 2, 5].into(), "2001:db8::5".parse().unwrap()],
            transports: vec![
                listening(Protocol::Udp, 5060),
                listening(Protocol::Tcp, 5063),
                listening(Protocol::Tls, 5061),
            ],
            filter: Filter {
                place: Where::Kernel,
                why: None,
                interfaces: vec![interface],
                mode: Enforcement::Monitor,
                calmed: false,
            },
            extensions: vec![account("100", Some("kT7wq2mz#P")), account("101", Some("Hq5?nv8-Wd"))],
            baresip: Vec::new(),
        }
        .with_lines()
    }

    impl Facts {
        fn with_lines(mut self) -> Self {
            self.baresip = lines(self.addresses.first(), &self.transports, &self.extensions);
            self
        }
    }

    fn say(facts: &Facts) -> String {
        text(facts, &Reader { is_root: true, by_sudo: false })
    }

    #[test]
    fn the_guide_says_all_that_a_phone_needs() {
        let text = say(&facts());
        for part in [
            "192.0.2.5",
            "UDP 5060, TCP 5063, TLS 5061",
            "dial 101 on the phone of 100, or 100 on that of 101",
            "2001:db8::5",
            "<sip:100@192.0.2.5:5060;transport=udp>;auth_pass=kT7wq2mz#P;regint=300",
            "<sip:101@192.0.2.5:5063;transport=tcp>;auth_pass=Hq5?nv8-Wd;regint=300",
            "self-signed",
            "alias pbx='/clone/target/debug/pbx --socket /clone/target/run/pbx.sock'",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    }

    #[test]
    fn an_old_phone_is_helped_where_more_than_md5_is_offered() {
        let mut facts = facts();
        assert!(!say(&facts).contains("--algorithms"));
        facts.transports[1].algorithms.push(Algorithm::Sha256);
        assert!(say(&facts).contains("pbx transport set tcp:5063 --algorithms md5"));
    }

    #[test]
    fn an_address_of_ipv6_is_written_in_brackets() {
        let mut facts = facts();
        facts.addresses.remove(0);
        assert!(say(&facts.with_lines()).contains("<sip:100@[2001:db8::5]:5060;transport=udp>"));
    }

    #[test]
    fn the_guide_says_where_the_filter_is_and_how_it_is_turned_on() {
        let mut facts = facts();
        assert!(say(&facts).contains("in the kernel, on eth0"));
        assert!(say(&facts).contains("pbx firewall mode enforce turns it on"));
        facts.filter.mode = Enforcement::Enforce;
        assert!(say(&facts).contains("pbx firewall mode monitor ends that"));
        facts.filter.place = Where::Daemon;
        facts.filter.why = Some("that needs root".to_owned());
        let text = text(&facts, &Reader { is_root: false, by_sudo: false });
        assert!(text.contains("NOT in the kernel: that needs root") && text.contains("sudo -E"), "{text}");
    }

    #[test]
    fn a_closed_port_is_named_with_what_to_do_and_not_offered() {
        let mut facts = facts();
        let taken = |transport: &mut Listening| {
            transport.listening = false;
            transport.problem = Some("address already in use".to_owned());
        };
        taken(&mut facts.transports[0]);
        let mut facts = facts.with_lines();
        let text = say(&facts);
        assert!(text.contains("CLOSED     UDP 5060: address already in use"), "{text}");
        assert!(text.contains("Stop what has it") && text.contains("pbx transport set udp:5060 --port"), "{text}");
        assert!(!text.contains("transport=udp"), "{text}");
        assert!(facts.can_be_reached().is_ok());
        facts.transports.iter_mut().for_each(taken);
        let error = facts.can_be_reached().unwrap_err();
        assert!(error.contains("TLS 5061") && error.contains("Stop what has them"), "{error}");
    }

    #[test]
    fn who_came_by_sudo_needs_it_for_the_commands_too() {
        let text = text(&facts(), &Reader { is_root: true, by_sudo: true });
        assert!(text.contains("alias pbx='sudo /clone"), "{text}");
    }

    #[test]
    fn the_facts_of_a_run_are_one_line_of_json() {
        let line = serde_json::to_string(&facts()).unwrap();
        assert!(!line.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["transports"][0]["port"], 5060);
        assert_eq!(value["extensions"][1]["password"], "Hq5?nv8-Wd");
        assert_eq!(value["filter"]["place"], "kernel");
        assert_eq!(value["addresses"][0], "192.0.2.5");
    }
}
