//! When the kernel saw a packet, not when a program got to it: on a busy machine that is a difference.

use std::{
    os::fd::{AsFd, AsRawFd as _},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// `SIOCGSTAMPNS` for a `timespec` of two longs (asm-generic/sockios.h).
const SIOCGSTAMPNS: libc::c_ulong = 0x8907;

/// When the packet that was received last from this socket came, by the wall clock. None before the first one; asking
/// then lets the kernel begin to note it.
pub fn last(socket: impl AsFd) -> Option<SystemTime> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, which lives past the call.
    let told = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCGSTAMPNS as _, &raw mut time) };
    (told == 0).then(|| UNIX_EPOCH + Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_packet_that_waits_is_stamped_when_it_came() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(last(&socket), None);
        let before = SystemTime::now();
        socket.send_to(b"now", socket.local_addr().unwrap()).unwrap();
        socket.recv(&mut [0; 8]).unwrap();
        let came = last(&socket).unwrap();
        assert!(before <= came && came <= SystemTime::now(), "{before:?} {came:?}");
    }
}
