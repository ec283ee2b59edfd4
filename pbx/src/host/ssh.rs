//! The TCP ports on which this machine is administered by ssh. Below `connections`. What the
//! configuration, the units of systemd and the process table tell this user; port 22 in any case.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const DEFAULT_PORT: u16 = 22;
const CONFIG: &str = "/etc/ssh/sshd_config";
const DROP_INS: &str = "/etc/ssh/sshd_config.d";
/// Where units are, and where a generator puts what it reads from sshd_config.
const UNITS: [&str; 6] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// The sockets that start sshd, by distribution.
const SOCKET_UNITS: [&str; 2] = ["ssh.socket", "sshd.socket"];
/// Processes looked at; on a larger machine the configuration has to do.
const MAX_PROCESSES: usize = 32_768;

/// 22 and the ports of the configuration, as far as this user may read it.
pub(super) fn configured_ports() -> BTreeSet<u16> {
    let mut found = BTreeSet::from([DEFAULT_PORT]);
    found.extend(texts(Path::new(CONFIG), Path::new(DROP_INS)).flat_map(|text| ports(&text)));
    for (folder, unit) in UNITS.iter().flat_map(|folder| SOCKET_UNITS.map(|unit| (Path::new(folder), unit))) {
        let texts = texts(&folder.join(unit), &folder.join(format!("{unit}.d")));
        found.extend(texts.flat_map(|text| stream_ports(&text)));
    }
    found
}

/// A file and its drop-ins, as far as they are there and readable.
fn texts(file: &Path, drop_ins: &Path) -> impl Iterator<Item = String> + use<> {
    let drop_ins = fs::read_dir(drop_ins).into_iter().flatten().flatten().map(|entry| entry.path());
    let drop_ins = drop_ins.filter(|path| path.extension().is_some_and(|end| end == "conf"));
    drop_ins.chain([file.to_owned()]).filter_map(|path| fs::read_to_string(path).ok())
}

/// The inodes of all sockets that processes of sshd hold; empty without the right to look.
pub(super) fn sshd_sockets() -> BTreeSet<u64> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let sshd = processes.filter(|path| path.join("comm").exists()).take(MAX_PROCESSES);
    sshd.filter(|path| is_sshd(path)).flat_map(|path| sockets(&path)).collect()
}

fn is_sshd(process: &Path) -> bool {
    // sshd-session since OpenSSH 9.8
    fs::read_to_string(process.join("comm")).is_ok_and(|name| name.starts_with("sshd"))
}

fn sockets(process: &Path) -> Vec<u64> {
    let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let targets = files.filter_map(|file| fs::read_link(file.path()).ok());
    targets.filter_map(|target| inode(target.to_str()?)).collect()
}

fn inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The ports in the `Port` and `ListenAddress` lines of an sshd_config(5).
fn ports(text: &str) -> Vec<u16> {
    let words = |line: &str| {
        let mut words = line.split(|c: char| c.is_ascii_whitespace() || c == '=');
        let mut words = words.by_ref().filter(|word| !word.is_empty());
        Some((words.next()?.to_ascii_lowercase(), words.next()?.trim_matches('"').to_owned()))
    };
    let lines = text.lines().filter_map(words);
    let ports = lines.filter_map(|(keyword, value)| match keyword.as_str() {
        "port" => value.parse().ok(),
        "listenaddress" => port_of(&value),
        _ => None,
    });
    ports.filter(|&port| port != 0).collect()
}

/// The ports in the `ListenStream` lines of a systemd.socket(5). That a drop-in may take a line of its unit back is
/// not followed: a port too many asks for `--force` once too often, one too few locks somebody out.
fn stream_ports(text: &str) -> Vec<u16> {
    let values =
        text.lines().filter_map(|line| line.trim().strip_prefix("ListenStream")?.trim_start().strip_prefix('='));
    let port = |value: &str| value.parse().ok().or_else(|| port_of(value));
    values.filter_map(|value| port(value.trim())).filter(|&port| port != 0).collect()
}

/// Of `host:port` or `[address]:port`; a bare IPv6 address has none.
fn port_of(address: &str) -> Option<u16> {
    let (host, port) = address.rsplit_once(':')?;
    let bare = host.contains(':') && !host.ends_with(']');
    (!bare).then(|| port.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_from_port_and_listen_address_lines() {
        let text = "#Port 22\nPort 2222\n  port=2223\nPort \"2224\"\nListenAddress 0.0.0.0\n\
                    ListenAddress 192.0.2.1:2225\nListenAddress [::]:2226\nListenAddress ::1\n\
                    ListenAddress 2001:db8::22\nPort nonsense\nPort 0\nPort\nPermitRootLogin 7\n";
        assert_eq!(ports(text), [2222, 2223, 2224, 2225, 2226]);
    }

    #[test]
    fn ports_are_read_from_the_streams_of_a_socket_unit() {
        let text = "[Unit]\nBefore=sockets.target\n[Socket]\nListenStream=\nListenStream=2222\n\
                    ListenStream = 0.0.0.0:2223\nListenStream=[::]:2224\n#ListenStream=2225\n\
                    ListenStream=/run/ssh.sock\nListenStream=vsock::22\nListenStream=0\nListenDatagram=2226\n";
        assert_eq!(stream_ports(text), [2222, 2223, 2224]);
    }

    #[test]
    fn a_file_is_read_with_the_drop_ins_that_count() {
        let folder = tempfile::tempdir().unwrap();
        let (file, drop_ins) = (folder.path().join("ssh.socket"), folder.path().join("ssh.socket.d"));
        assert_eq!(texts(&file, &drop_ins).count(), 0);
        fs::create_dir(&drop_ins).unwrap();
        fs::write(&file, "ListenStream=22").unwrap();
        fs::write(drop_ins.join("port.conf"), "ListenStream=2222").unwrap();
        fs::write(drop_ins.join("port.conf.old"), "ListenStream=2223").unwrap();
        let found: Vec<u16> = texts(&file, &drop_ins).flat_map(|text| stream_ports(&text)).collect();
        assert_eq!(found, [2222, 22]);
    }

    #[test]
    fn only_sockets_have_an_inode_here() {
        assert_eq!(inode("socket:[4711]"), Some(4711));
        assert_eq!(inode("pipe:[4711]"), None);
        assert_eq!(inode("/dev/null"), None);
    }
}
