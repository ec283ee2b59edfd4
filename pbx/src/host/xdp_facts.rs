//! What decides whether and how an XDP program can be attached to an interface. Read by the loader
//! and `doctor`. Facts only: limits and advice are the loader's.

use std::io;

use serde::Serialize;

use super::ethtool::Ethtool;
use super::links::{Kind, XdpProgram};
use super::snapshot::Snapshot;

/// Facts of one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct XdpFacts {
    /// Its index at this moment.
    pub index: u32,
    /// What sort of interface it is.
    pub kind: Kind,
    /// Its frames have an Ethernet header; an L3 device's have none.
    pub ethernet: bool,
    /// The largest packet in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Large receive offload; none if the driver does not tell (it has none then).
    pub lro: Option<bool>,
    /// The driver's name, as in `ethtool -i`.
    pub driver: Option<String>,
    /// The XDP program that it runs now.
    pub program: Option<XdpProgram>,
    /// Receive queues in use, or else allocated.
    pub rx_queues: u32,
}

/// The facts of the interface of this name, in this thread's network namespace. `NotFound` if there
/// is none. Needs no privilege.
pub fn xdp_facts(interface: &str) -> io::Result<XdpFacts> {
    let snapshot = Snapshot::read()?;
    let missing = || {
        let message = format!("there is no interface {interface}: see `ip link`");
        io::Error::new(io::ErrorKind::NotFound, message)
    };
    let link = snapshot.link_named(interface).ok_or_else(missing)?;
    let mut ethtool = Ethtool::open(interface)?;
    Ok(XdpFacts {
        index: link.index,
        kind: link.kind.clone(),
        ethernet: link.ethernet,
        mtu: link.mtu,
        lro: ethtool.lro()?,
        driver: ethtool.driver()?,
        program: link.xdp,
        rx_queues: ethtool.rx_queues()?.unwrap_or(link.rx_queues),
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    use super::super::links::XdpMode;
    use super::super::namespace::{in_new_namespace, ip};
    use super::*;

    #[test]
    fn a_veth_tells_its_driver_mtu_and_queues() {
        in_new_namespace(|| {
            ip("link add e0 mtu 1400 numrxqueues 2 type veth peer name e1");
            let facts = xdp_facts("e0").unwrap();
            assert_eq!(facts.kind, Kind::Veth);
            assert_eq!(facts.driver.as_deref(), Some("veth"));
            assert_eq!((facts.mtu, facts.lro, facts.ethernet), (1400, Some(false), true));
            assert_eq!(facts.program, None);
            assert_eq!(facts.rx_queues, 2);
        });
    }

    #[test]
    fn a_program_is_told_with_its_id_and_mode_as_long_as_it_is_attached() {
        in_new_namespace(|| {
            ip("link add e0 type veth peer name e1");
            let program = pass_everything();
            let index = xdp_facts("e0").unwrap().index;
            for (flags, mode) in [(1 << 1, XdpMode::Generic), (1 << 2, XdpMode::Native)] {
                let link = attach(&program, index, flags);
                let found = xdp_facts("e0").unwrap().program.unwrap();
                assert_eq!(found.mode, mode);
                assert!(found.id > 0);
                drop(link);
                assert_eq!(xdp_facts("e0").unwrap().program, None);
            }
        });
    }

    const BPF_PROG_LOAD: i32 = 5;
    const BPF_LINK_CREATE: i32 = 28;
    const BPF_PROG_TYPE_XDP: u32 = 6;
    const BPF_XDP: u32 = 37;

    /// `r0 = XDP_PASS; exit`
    fn pass_everything() -> OwnedFd {
        static CODE: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];
        static LICENSE: &CStr = c"GPL";
        let [code, license] = [CODE.as_ptr() as u64, LICENSE.as_ptr() as u64];
        let halves = |value: u64| [value as u32, (value >> 32) as u32];
        let ([c0, c1], [l0, l1]) = (halves(code), halves(license));
        bpf(BPF_PROG_LOAD, [BPF_PROG_TYPE_XDP, CODE.len() as u32, c0, c1, l0, l1])
    }

    /// Attached as long as the link that this returns is open.
    fn attach(program: &OwnedFd, index: u32, flags: u32) -> OwnedFd {
        bpf(BPF_LINK_CREATE, [program.as_raw_fd() as u32, index, BPF_XDP, flags, 0, 0])
    }

    fn bpf(command: i32, words: [u32; 6]) -> OwnedFd {
        #[repr(C, align(8))]
        struct Attributes([u32; 32]);
        let mut attributes = Attributes([0; 32]);
        attributes.0[..words.len()].copy_from_slice(&words);
        let size = size_of::<Attributes>();
        // SAFETY: the kernel reads `size` bytes of attributes, and through them the program's code
        // and licence, which are statics.
        let fd = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const attributes, size) };
        assert!(fd >= 0, "these tests load BPF programs: run them as root: {}", io::Error::last_os_error());
        // SAFETY: it was just made and nobody else has it.
        unsafe { OwnedFd::from_raw_fd(fd as i32) }
    }

    #[test]
    fn an_l3_device_has_no_ethernet_header() {
        in_new_namespace(|| {
            ip("tuntap add mode tun name t0");
            let facts = xdp_facts("t0").unwrap();
            assert_eq!((facts.kind, facts.ethernet), (Kind::Tun, false));
        });
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        for name in ["eth77", "a-name-that-is-far-too-long-for-linux"] {
            let error = xdp_facts(name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert!(error.to_string().contains(name));
        }
    }
}
