//! Peers of established TCP connections to sshd, to the daemon and to what root offers. Read before a block is made.
//! By /proc/thread-self/net, which needs no privilege and stays visible under ProcSubset=pid; the
//! namespace is this thread's. UDP has no connections to find.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pbx_core::lockout::Peer;

use super::ssh;

const TABLES: [&str; 2] = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];
const ESTABLISHED: u8 = 1;
const LISTEN: u8 = 10;
const ROOT: u32 = 0;

/// What a peer is connected to when a process of root listens there and nobody may see which: without the right to
/// look at other processes, sshd on a port of its own is one of them.
pub const ROOT_SERVICE: &str = "a service of root";
/// The name of what listens without root and is not sshd, such as this daemon by its unit.
pub const OTHER_SERVICE: &str = "a service";
/// Ports of root at which nobody administers a machine: mail, names, web, port mapper, printing.
const NOT_ADMINISTRATIVE: [u16; 6] = [25, 53, 80, 111, 443, 631];

/// A TCP socket of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Socket {
    local_port: u16,
    remote: IpAddr,
    state: u8,
    uid: u32,
    inode: u64,
}

/// The ports whose peers an administrator may depend on. A port is what the first set with it says.
#[derive(Debug, Default)]
struct Services {
    own: BTreeSet<u16>,
    ssh: BTreeSet<u16>,
    root: BTreeSet<u16>,
    /// Whoever listens.
    any: BTreeSet<u16>,
}

/// Who is connected, and where sshd waits for more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connections {
    /// The peers of sshd, of the daemon, of services of root and of others; sorted, each once.
    pub peers: Vec<Peer>,
    /// The ports on which sshd listens; one that its configuration names counts when anybody listens there.
    pub ssh_ports: Vec<u16>,
}

/// The connections of now to a machine whose daemon listens on `own_ports`.
pub fn connections(own_ports: &[u16]) -> io::Result<Connections> {
    let mut sockets = Vec::new();
    for table in TABLES {
        match File::open(table) {
            Ok(file) => read(BufReader::new(file), &mut sockets)?,
            // A kernel without IPv6 has no table of it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && table.ends_with('6') => {}
            Err(error) => return Err(io::Error::new(error.kind(), format!("{table}: {error}"))),
        }
    }
    let mut ssh = ssh::configured_ports();
    ssh.extend(listening_ports_of(&sockets, &ssh::sshd_sockets()));
    let any = listening(&sockets);
    let services = Services { own: own_ports.iter().copied().collect(), ssh, root: ports_of_root(&sockets), any };
    let ssh_ports = services.any.intersection(&services.ssh).copied().collect();
    Ok(Connections { peers: select(&sockets, &services), ssh_ports })
}

fn listening(sockets: &[Socket]) -> BTreeSet<u16> {
    sockets.iter().filter(|socket| socket.state == LISTEN).map(|socket| socket.local_port).collect()
}

/// The ports at which root listens, but for those that administer nothing.
fn ports_of_root(sockets: &[Socket]) -> BTreeSet<u16> {
    let listening = sockets.iter().filter(|socket| socket.state == LISTEN && socket.uid == ROOT);
    listening.map(|socket| socket.local_port).filter(|port| !NOT_ADMINISTRATIVE.contains(port)).collect()
}

/// The listening ports to which the holder of `inodes` listens or is connected. (A connection's
/// own port alone does not say that: sshd also connects outwards, for forwarded ports.)
fn listening_ports_of(sockets: &[Socket], inodes: &BTreeSet<u64>) -> BTreeSet<u16> {
    let listening = listening(sockets);
    let held = sockets.iter().filter(|socket| inodes.contains(&socket.inode));
    held.map(|socket| socket.local_port).filter(|port| listening.contains(port)).collect()
}

fn select(sockets: &[Socket], services: &Services) -> Vec<Peer> {
    let established = sockets.iter().filter(|socket| socket.state == ESTABLISHED);
    let peers = established.filter_map(|socket| {
        let port = socket.local_port;
        let service = match () {
            () if services.own.contains(&port) => "pbx",
            () if services.ssh.contains(&port) => "ssh",
            () if services.root.contains(&port) => ROOT_SERVICE,
            () if services.any.contains(&port) => OTHER_SERVICE,
            () => return None,
        };
        Some(Peer { addr: socket.remote, service: service.into(), port })
    });
    let each_once: BTreeSet<Peer> = peers.collect();
    each_once.into_iter().collect()
}

/// Adds the established and listening sockets of a table; the first line is its heading.
fn read(table: impl BufRead, sockets: &mut Vec<Socket>) -> io::Result<()> {
    for line in table.lines().skip(1) {
        let socket = socket(&line?);
        sockets.extend(socket.filter(|s| matches!(s.state, ESTABLISHED | LISTEN)));
    }
    Ok(())
}

/// `sl local remote state queues timer retransmits uid timeout inode …`
fn socket(line: &str) -> Option<Socket> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (_, local_port) = endpoint(words.next()?)?;
    let (remote, _) = endpoint(words.next()?)?;
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    let uid = words.nth(3)?.parse().ok()?;
    let inode = words.nth(1)?.parse().ok()?;
    Some(Socket { local_port, remote, state, uid, inode })
}

/// `0100007F:0016`: the address as 32-bit words in the machine's byte order, the port as a number.
fn endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let address = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::super::namespace::{in_new_namespace, ip};
    use super::*;

    fn socket_of(local_port: u16, remote: &str, state: u8, inode: u64) -> Socket {
        Socket { local_port, remote: remote.parse().unwrap(), state, uid: 104, inode }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_line_of_the_table_is_read() {
        let line = "   1: 0200A8C0:0016 057100CB:D431 01 00000000:00000000 02:000A7B1C 00000000     \
                  104        0 4711 2 000000001702ae0a 20 4 30 10 -1";
        assert_eq!(socket(line), Some(socket_of(22, "203.0.113.5", ESTABLISHED, 4711)));
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_mapped_peer_is_an_ipv4_peer() {
        let mapped = "0000000000000000FFFF0000057100CB:D431";
        assert_eq!(endpoint(mapped), Some(("203.0.113.5".parse().unwrap(), 54321)));
        let real = "B80D0120000000000000000001000000:01BB";
        assert_eq!(endpoint(real), Some(("2001:db8::1".parse().unwrap(), 443)));
    }

    #[test]
    fn nonsense_is_no_socket() {
        for line in ["", "1:", "1: 0:0 0:0 01", "1: 0100007F 0100007F:1 01 a b c d e 7", "ä: ä ä ä"] {
            assert_eq!(socket(line), None, "{line}");
        }
        assert_eq!(endpoint("ääää:0016"), None);
    }

    #[test]
    fn peers_are_those_of_ssh_and_of_our_own_ports() {
        let sockets = [
            socket_of(22, "203.0.113.5", ESTABLISHED, 1),
            socket_of(22, "203.0.113.5", ESTABLISHED, 2),
            socket_of(22, "203.0.113.6", LISTEN, 3),
            socket_of(8887, "203.0.113.7", ESTABLISHED, 4),
            socket_of(443, "203.0.113.8", ESTABLISHED, 5),
        ];
        let peer =
            |addr: &str, service: &str, port| Peer { addr: addr.parse().unwrap(), service: service.into(), port };
        let expected = [peer("203.0.113.5", "ssh", 22), peer("203.0.113.7", "pbx", 8887)];
        let services = Services { own: [8887].into(), ssh: [22].into(), root: BTreeSet::new(), any: BTreeSet::new() };
        assert_eq!(select(&sockets, &services), expected);
    }

    #[test]
    fn whoever_is_connected_to_a_port_of_root_counts_unless_nobody_administers_there() {
        let of_root = |port| Socket { uid: ROOT, ..socket_of(port, "0.0.0.0", LISTEN, 1) };
        let mut sockets = vec![of_root(22), of_root(2200), socket_of(5432, "0.0.0.0", LISTEN, 2)];
        sockets.extend(NOT_ADMINISTRATIVE.map(of_root));
        assert_eq!(ports_of_root(&sockets), [22, 2200].into());
        // The connection is its user's, once sshd has let them in.
        for (port, peer) in [(22, "203.0.113.5"), (2200, "203.0.113.6"), (5432, "203.0.113.7"), (443, "203.0.113.8")] {
            sockets.push(Socket { uid: 1000, ..socket_of(port, peer, ESTABLISHED, 3) });
        }
        let services = Services { ssh: [22].into(), root: ports_of_root(&sockets), ..Services::default() };
        let found = select(&sockets, &services);
        let found: Vec<(&str, u16)> = found.iter().map(|peer| (peer.service.as_str(), peer.port)).collect();
        assert_eq!(found, [("ssh", 22), (ROOT_SERVICE, 2200)]);
    }

    #[test]
    fn a_port_of_sshd_is_one_that_listens() {
        let sockets = [
            socket_of(2200, "0.0.0.0", LISTEN, 1), // held by systemd for sshd
            socket_of(2200, "203.0.113.5", ESTABLISHED, 2),
            socket_of(40000, "203.0.113.9", ESTABLISHED, 3), // a forwarded port, outwards
            socket_of(2201, "0.0.0.0", LISTEN, 4),
            socket_of(80, "0.0.0.0", LISTEN, 5),
        ];
        assert_eq!(listening_ports_of(&sockets, &[2, 3, 4].into()), [2200, 2201].into());
    }

    #[test]
    fn live_connections_of_both_families_are_found() {
        in_new_namespace(|| {
            ip("link set lo up");
            for (listen, connect) in
                [("127.0.0.1:22", "127.0.0.1:22"), ("[::]:8887", "127.0.0.1:8887"), ("[::1]:22", "[::1]:22")]
            {
                let listener = TcpListener::bind(listen).unwrap();
                let client = TcpStream::connect(connect).unwrap();
                let accepted = listener.accept().unwrap();
                let port = listener.local_addr().unwrap().port();
                let addr = client.local_addr().unwrap().ip();
                let service = if port == 22 { "ssh" } else { "pbx" };
                let expected = Peer { addr, service: service.into(), port };
                let ssh_ports = if port == 22 { vec![22] } else { Vec::new() };
                let expected = Connections { peers: vec![expected], ssh_ports };
                assert_eq!(connections(&[8887]).unwrap(), expected, "{listen}");
                drop(accepted);
            }
        });
    }
}
