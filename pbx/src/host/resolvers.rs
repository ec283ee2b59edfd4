//! The name servers that this machine asks. Part of a `Snapshot`. Reads the files; asks nobody.

use std::fs;
use std::net::IpAddr;

/// Where they are listed: the C library's file, and behind a stub of systemd-resolved or
/// NetworkManager the servers that the stub asks.
const FILES: [&str; 3] =
    ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf"];
/// Of a longer file the rest is not read.
const MAX: usize = 64;

/// All name servers in the files that exist, each once.
pub fn read() -> Vec<IpAddr> {
    let mut all = Vec::new();
    for text in FILES.iter().filter_map(|file| fs::read_to_string(file).ok()) {
        for addr in parse(&text) {
            if !all.contains(&addr) {
                all.push(addr);
            }
        }
    }
    all
}

/// The `nameserver` lines of a resolv.conf(5); a zone index is left out, nonsense skipped.
pub fn parse(text: &str) -> Vec<IpAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    servers.filter_map(address).take(MAX).collect()
}

fn address(word: &str) -> Option<IpAddr> {
    let without_zone = word.split('%').next().unwrap_or(word);
    without_zone.parse::<IpAddr>().ok().map(|addr| addr.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_and_the_rest_is_skipped() {
        let text = "# nameserver 192.0.2.9\nsearch example.org\nnameserver 192.0.2.53\n\
                    nameserver\t2001:db8::53 # second\nnameserver fe80::1%eth0\nnameserver nonsense\n\
                    nameserver\nnameservers 192.0.2.8\n  nameserver ::ffff:192.0.2.54\n";
        let expected = ["192.0.2.53", "2001:db8::53", "fe80::1", "192.0.2.54"];
        assert_eq!(parse(text), expected.map(|addr| addr.parse::<IpAddr>().unwrap()));
    }
}
