//! What a network driver tells through the ethtool ioctl. Below `xdp_facts`. Reads only; needs no
//! privilege. Layouts and numbers are those of linux/ethtool.h.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETH_FLAG_LRO: u32 = 1 << 15;

/// `struct ethtool_drvinfo`
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    version: [u8; 32],
    firmware: [u8; 32],
    bus: [u8; 32],
    rom: [u8; 32],
    reserved: [u8; 12],
    counts: [u32; 5],
}
const _: () = assert!(size_of::<DriverInfo>() == 196);

/// `struct ethtool_value`
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}
const _: () = assert!(size_of::<Value>() == 8);

/// `struct ethtool_channels`
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    max: [u32; 4],
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}
const _: () = assert!(size_of::<Channels>() == 36);

/// Questions about one interface.
pub(super) struct Ethtool {
    socket: OwnedFd,
    request: libc::ifreq,
}

impl Ethtool {
    /// Opens a socket in this thread's network namespace. The interface need not exist.
    pub(super) fn open(interface: &str) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
        // SAFETY: an ifreq is plain old data, for which all zeros is a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        if interface.len() >= request.ifr_name.len() {
            return Err(io::Error::from(Errno::ENODEV));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
            *to = from as libc::c_char;
        }
        Ok(Self { socket, request })
    }

    /// The driver's name, as in `ethtool -i`; none if it has none.
    pub(super) fn driver(&mut self) -> io::Result<Option<String>> {
        let mut info = DriverInfo {
            command: ETHTOOL_GDRVINFO,
            driver: [0; 32],
            version: [0; 32],
            firmware: [0; 32],
            bus: [0; 32],
            rom: [0; 32],
            reserved: [0; 12],
            counts: [0; 5],
        };
        let answered = supported(self.ask(&mut info))?.is_some();
        let name = info.driver.split(|&byte| byte == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        Ok(Some(name).filter(|name| answered && !name.is_empty()))
    }

    /// Whether the card joins received TCP segments (large receive offload).
    pub(super) fn lro(&mut self) -> io::Result<Option<bool>> {
        let mut flags = Value { command: ETHTOOL_GFLAGS, data: 0 };
        let answer = supported(self.ask(&mut flags))?;
        Ok(answer.map(|()| flags.data & ETH_FLAG_LRO != 0))
    }

    /// The receive queues in use now.
    pub(super) fn rx_queues(&mut self) -> io::Result<Option<u32>> {
        let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
        let answer = supported(self.ask(&mut channels))?;
        let used = channels.rx.saturating_add(channels.combined);
        Ok(answer.map(|()| used).filter(|&used| used > 0))
    }

    /// `T` is one of the structures of linux/ethtool.h, with its command filled in.
    fn ask<T>(&mut self, question: &mut T) -> Result<(), Errno> {
        self.request.ifr_ifru.ifru_data = std::ptr::from_mut(question).cast();
        // SAFETY: ifru_data points at a structure that is as large as its command says (asserted
        // above) and lives over the call; the kernel writes within it.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut self.request) };
        Errno::result(result).map(drop)
    }
}

/// A driver that does not know the question answers nothing.
fn supported(answer: Result<(), Errno>) -> io::Result<Option<()>> {
    match answer {
        Ok(()) => Ok(Some(())),
        Err(Errno::EOPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
