//! Routers between a phone and the appliance: they translate addresses, forget who was silent, and can be made to forget
//! at once. After lab. Their interface towards the internet is called `wan`.

use std::{
    fs,
    io::Write as _,
    os::fd::AsRawFd as _,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType};

use crate::sandbox::Namespace;

/// Makes a namespace a router that hides what is behind it, with more chains of the test's, and forgets a conversation
/// by UDP after so many seconds of silence.
pub fn translate(network: &Namespace, more: &str, forgets: u32) -> Result<()> {
    masquerade(network, more, "masquerade")?;
    network.enter(|| {
        let times = ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"];
        for key in times.map(|name| format!("netfilter/{name}")) {
            fs::write(format!("/proc/sys/net/{key}"), forgets.to_string()).with_context(|| format!("set {key}"))?;
        }
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("forward")
    })
}

/// Lets a router that translates take its ports from this range from now on, and forget all that went through it: whoever
/// sends next comes from another port.
pub fn change_ports(network: &Namespace, ports: &str) -> Result<()> {
    nft(network, "flush ruleset")?;
    masquerade(network, "", &format!("ip protocol udp masquerade to :{ports}"))?;
    forget(network)
}

fn masquerade(network: &Namespace, more: &str, how: &str) -> Result<()> {
    nft(
        network,
        &format!(
            "table ip nat {{\n{more}\nchain out {{ type nat hook postrouting priority 100; oifname wan {how}; }}\n}}"
        ),
    )
}

/// Runs nftables rules in a namespace.
pub fn nft(network: &Namespace, rules: &str) -> Result<()> {
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    network.put(&mut command)?;
    let mut child = command.spawn().context("nft does not start; `cargo xtask setup` installs it")?;
    child.stdin.take().context("a pipe")?.write_all(rules.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Empties the table of connections (ctnetlink's delete without a tuple: all of them).
fn forget(network: &Namespace) -> Result<()> {
    /// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE`.
    const DELETE: u16 = 1 << 8 | 2;
    network.enter(|| {
        let socket = socket::socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        let mut request = Vec::new();
        request.extend_from_slice(&20u32.to_ne_bytes());
        request.extend_from_slice(&DELETE.to_ne_bytes());
        request.extend_from_slice(&((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
        request.extend_from_slice(&[0; 8]);
        // struct nfgenmsg: any family, version 0.
        request.extend_from_slice(&[0; 4]);
        socket::sendto(socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut answer = [0; 256];
        let length = socket::recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        ensure!(length >= 20, "a short answer of ctnetlink");
        let code = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
        ensure!(code == 0, "ctnetlink: {}", std::io::Error::from_raw_os_error(-code));
        Ok(())
    })
}
