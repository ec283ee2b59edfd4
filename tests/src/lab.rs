//! The network of a test: an appliance and two neighbours, each on a link of its own. After sandbox, before flood.
//!
//! ```text
//!   good neighbour             appliance              bad neighbour
//!     eth0  10.77.1.2 ─────── lan-good   lan-bad ─────── 10.77.2.2  eth0
//!           fd77:1::2       10.77.1.1   10.77.2.1        fd77:2::2
//! ```
//!
//! The appliance is the namespace of the sandbox. Hardware addresses are fixed, so that frames can be made by hand.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};

use crate::frames::Mac;
use crate::sandbox::{Namespace, Sandbox, ip};
use crate::wire;

/// The interface of a neighbour.
pub const NEIGHBOUR_INTERFACE: &str = "eth0";

/// The ports that a new installation takes for calls, as sysctl writes them.
const MEDIA_PORTS: &str = "45000-64999";

/// The appliance with its neighbours. Their namespaces live as long as it does.
#[derive(Debug)]
pub struct Lab {
    /// The neighbour that behaves.
    pub good: Neighbour,
    /// The neighbour that floods.
    pub bad: Neighbour,
}

/// One end of a link to the appliance, and both its names.
#[derive(Debug)]
pub struct Neighbour {
    /// The neighbour's network.
    pub network: Namespace,
    /// The appliance's interface on this link.
    pub interface: &'static str,
    subnet: u8,
}

impl Lab {
    /// Builds the lab in the namespace of the calling thread, which a [`Sandbox`] made.
    pub fn build(_sandbox: &Sandbox) -> Result<Self> {
        // As systemd does for the unit: a port of a call is never somebody's ephemeral one.
        fs::write("/proc/sys/net/ipv4/ip_local_reserved_ports", MEDIA_PORTS).context("reserve the media ports")?;
        Ok(Self { good: Neighbour::join("lan-good", 1)?, bad: Neighbour::join("lan-bad", 2)? })
    }

    /// The appliance's interfaces, as the daemon's configuration names them.
    pub fn interfaces(&self) -> [&'static str; 2] {
        [self.good.interface, self.bad.interface]
    }
}

impl Neighbour {
    fn join(interface: &'static str, subnet: u8) -> Result<Self> {
        let neighbour = Self { network: Namespace::new()?, interface, subnet };
        neighbour.connect().with_context(|| format!("link {interface}"))?;
        Ok(neighbour)
    }

    /// Makes the link, or makes it again after [`disconnect`](Self::disconnect).
    pub fn connect(&self) -> Result<()> {
        let (interface, netns) = (self.interface, self.network.path());
        ip(&format!("link add {interface} type veth peer name {NEIGHBOUR_INTERFACE} netns {}", netns.display()))?;
        set_up(interface, self.appliance_mac(), [self.appliance_v4().into(), self.appliance_v6().into()])?;
        self.network.enter(|| {
            set_up(NEIGHBOUR_INTERFACE, self.mac(), [self.v4().into(), self.v6().into()])?;
            ip(&format!("route add default via {}", self.appliance_v4()))?;
            ip(&format!("-6 route add default via {}", self.appliance_v6()))
        })
    }

    /// Takes the link away, both ends of it.
    pub fn disconnect(&self) -> Result<()> {
        ip(&format!("link del {}", self.interface))
    }

    /// Gives the neighbour one more address (of its link's network, or a foreign one).
    pub fn add_address(&self, address: IpAddr) -> Result<()> {
        let (len, nodad) = if address.is_ipv4() { (32, "") } else { (128, " nodad") };
        self.network.ip(&format!("addr add {address}/{len} dev {NEIGHBOUR_INTERFACE}{nodad}"))
    }

    /// The neighbour's IPv4 address.
    pub fn v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.subnet, 2)
    }

    /// The neighbour's IPv6 address.
    pub fn v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, self.subnet.into(), 0, 0, 0, 0, 0, 2)
    }

    /// The appliance's IPv4 address on this link.
    pub fn appliance_v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.subnet, 1)
    }

    /// The appliance's IPv6 address on this link.
    pub fn appliance_v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, self.subnet.into(), 0, 0, 0, 0, 0, 1)
    }

    /// The neighbour's hardware address.
    pub fn mac(&self) -> Mac {
        [0x02, 0, 0, 0, self.subnet, 2]
    }

    /// The appliance's hardware address on this link.
    pub fn appliance_mac(&self) -> Mac {
        [0x02, 0, 0, 0, self.subnet, 1]
    }
}

fn set_up(interface: &str, mac: Mac, addresses: [IpAddr; 2]) -> Result<()> {
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    ip(&format!("link set {interface} address {mac}"))?;
    let [v4, v6] = addresses;
    ip(&format!("addr add {v4}/24 dev {interface}"))?;
    ip(&format!("addr add {v6}/64 dev {interface} nodad"))?;
    wire::checksum_in_software(interface).with_context(|| format!("checksums of {interface} in software"))?;
    ip(&format!("link set {interface} up"))
}
