//! Why an interface could not be attached, with the command that helps.

use pbx_xdp::LoadError;

use crate::host::xdp_facts;

/// Frames above this do not fit one page with the kernel's headroom: drivers without multi-buffer refuse.
const ONE_PAGE_MTU: u32 = 3_498;

/// The cause of a refused attachment. `mode` is what was tried.
pub(super) fn cause(interface: &str, mode: &str, error: &LoadError) -> String {
    let raw = error.to_string();
    let Ok(facts) = xdp_facts(interface) else {
        return format!("{interface} is gone; it is attached again when it returns");
    };
    if !facts.ethernet {
        return format!(
            "{interface} carries no Ethernet frames (tunnel or point-to-point); filter the interface below it"
        );
    }
    if let Some(program) = facts.program {
        return format!(
            "another XDP program (id {}) is on {interface}; look at it with `bpftool prog show id {}`, take it off with \
             `ip link set dev {interface} xdp off`, or, if a link holds it, with `bpftool link` (show, detach)",
            program.id, program.id
        );
    }
    if facts.lro == Some(true) {
        return format!("large receive offload is on: `ethtool -K {interface} lro off`");
    }
    if facts.mtu > ONE_PAGE_MTU && mode == "native" {
        return format!(
            "the driver ({}) takes no {mode} program at MTU {}: `ip link set dev {interface} mtu {ONE_PAGE_MTU}` or less",
            facts.driver.as_deref().unwrap_or("unknown"),
            facts.mtu
        );
    }
    format!("the driver ({}) refused the {mode} program: {raw}", facts.driver.as_deref().unwrap_or("unknown"))
}
