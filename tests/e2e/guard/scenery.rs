//! What happens around the appliance in these tests: ssh, offices behind routers, floods, the host's own firewall.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    process::Command,
    sync::Barrier,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use pbx_tests::{
    daemon::DEADLINE,
    flood::{Plan, Sender},
    frames::Frame,
    lab::Neighbour,
    phone::Line,
    router::nft,
    sandbox::{Namespace, ip},
    site::{UDP, server},
};

/// A protected port on which nobody listens: what comes there is counted, and judged by nobody.
const NOBODY: u16 = 5065;

/// Both ends of a connection to ssh, and who listens there.
pub(super) struct Ssh {
    listener: TcpListener,
    connection: (TcpStream, TcpStream),
}

impl Ssh {
    pub(super) fn open(neighbour: &Neighbour, port: u16) -> Result<Self> {
        let listener = TcpListener::bind((neighbour.appliance_v4(), port))?;
        let connection = connect(neighbour, &listener)?;
        Ok(Self { listener, connection })
    }

    /// Asserts that the connection carries on, both ways, and that another one can be made.
    pub(super) fn assert_open(&self, neighbour: &Neighbour) -> Result<()> {
        let (there, here) = (&self.connection.0, &self.connection.1);
        for (mut from, mut to) in [(there, here), (here, there)] {
            to.set_read_timeout(Some(DEADLINE))?;
            from.write_all(b"ssh")?;
            to.read_exact(&mut [0; 3]).context("what is typed into ssh does not arrive")?;
        }
        connect(neighbour, &self.listener).context("another connection to ssh")?;
        Ok(())
    }
}

fn connect(neighbour: &Neighbour, listener: &TcpListener) -> Result<(TcpStream, TcpStream)> {
    let to = listener.local_addr()?;
    let there = neighbour.network.enter(|| Ok(TcpStream::connect_timeout(&to, DEADLINE)?))?;
    Ok((there, listener.accept()?.0))
}

/// Gives a neighbour an address of a network behind it, from which it speaks from now on.
pub(super) fn speak_from(neighbour: &Neighbour, address: Ipv4Addr) -> Result<()> {
    neighbour.add_address(address.into())?;
    ip(&format!("route add {address}/32 via {}", neighbour.v4()))?;
    let appliance = neighbour.appliance_v4();
    neighbour.network.ip(&format!("route add {appliance}/32 dev eth0 src {address}"))
}

/// Datagrams to a protected port, as fast as they go.
pub(super) fn flood(neighbour: &Neighbour, count: usize) -> Result<()> {
    let socket = neighbour.network.enter(|| Ok(UdpSocket::bind((neighbour.v4(), 0))?))?;
    for _ in 0..count {
        // Nobody listens there, which the next datagram is told.
        let _ = socket.send_to(b"flood", (neighbour.appliance_v4(), NOBODY));
    }
    Ok(())
}

/// Datagrams to a protected port with somebody else's address in them.
pub(super) fn forge(neighbour: &Neighbour, source: Ipv4Addr, count: u64) -> Result<()> {
    let (from, to, destination) = (neighbour.mac(), neighbour.appliance_mac(), neighbour.appliance_v4());
    Sender::frames(&neighbour.network, 1, Plan::burst(count), move |_| {
        Frame::udp((source, 5060), (destination, UDP)).payload(b"HELLO\r\n\r\n").link(from, to).build()
    })?
    .finish()?;
    Ok(())
}

/// Phones behind a router that has one address.
pub(super) struct Office<'a> {
    router: &'a Neighbour,
    phones: Namespace,
}

impl<'a> Office<'a> {
    pub(super) fn behind(router: &'a Neighbour) -> Result<Self> {
        let phones = Namespace::new()?;
        router.network.ip(&format!("link add lan type veth peer name eth0 netns {}", phones.path().display()))?;
        for (network, interface, address) in
            [(&router.network, "lan", "192.168.50.1/24"), (&phones, "eth0", "192.168.50.2/24")]
        {
            network.ip(&format!("addr add {address} dev {interface}"))?;
            network.ip(&format!("link set {interface} up"))?;
        }
        phones.ip("route add default via 192.168.50.1")?;
        router.network.enter(|| Ok(std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?))?;
        Ok(Self { router, phones })
    }

    /// Lets the router use this address; it forgets all that went through it.
    pub(super) fn translate_to(&self, address: Ipv4Addr) -> Result<()> {
        if address != self.router.v4() {
            self.router.add_address(address.into())?;
        }
        nft(
            &self.router.network,
            &format!(
                "flush ruleset\ntable ip nat {{ chain out {{ type nat hook postrouting priority 100; \
                 ip saddr 192.168.50.0/24 oifname eth0 snat to {address}; }}\n}}"
            ),
        )
    }

    /// Power comes back: all of them register in the same moment, from ports that nobody has seen.
    pub(super) fn register_at_once(&self, accounts: &[(String, String)]) -> Result<()> {
        let here = Ipv4Addr::new(192, 168, 50, 2);
        let together = Barrier::new(accounts.len());
        thread::scope(|scope| {
            let phones: Vec<_> = accounts
                .iter()
                .map(|(number, password)| {
                    let together = &together;
                    scope.spawn(move || {
                        let line = Line::udp(&self.phones, here.into(), server(self.router, UDP));
                        together.wait();
                        line?.register(number, password)
                    })
                })
                .collect();
            for (phone, (number, _)) in phones.into_iter().zip(accounts) {
                let status = phone.join().map_err(|_| anyhow::anyhow!("phone {number} panicked"))??;
                ensure!(status == 200, "{number} gets {status}");
            }
            Ok(())
        })
    }
}

/// Packets of flows that the host's connection tracking knows.
pub(super) fn established(host: &Namespace) -> Result<u64> {
    let listed = nft_says(host, &["list", "counter", "inet", "host", "established"])?;
    let mut words = listed.split_whitespace().skip_while(|word| *word != "packets");
    words.nth(1).and_then(|count| count.parse().ok()).with_context(|| format!("no count in {listed}"))
}

/// What `nft` prints in a namespace.
pub(super) fn nft_says(network: &Namespace, words: &[&str]) -> Result<String> {
    let mut command = Command::new("nft");
    command.args(words);
    network.put(&mut command)?;
    let output = command.output().context("nft does not start; `cargo xtask setup` installs it")?;
    ensure!(output.status.success(), "nft {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
