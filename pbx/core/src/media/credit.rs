//! What may be sent to where a phone says that it is while nothing shows that it is there. After the latch, before the
//! socket.
//!
//! Who has a password may describe anybody's address, and what the other phone says would go there: the relay would be
//! a weapon. Two things show that a phone is at an address: its signalling comes from there (that is answered there, or
//! nothing comes of the call), or RTP or RTCP that fits came from there. Anywhere else a leg gets a small credit, once
//! for all of its life; as soon as something comes, media flows. A phone that only listens, at an address of its own,
//! says so by RTCP, within a few seconds (RFC 3550 §6.2).

use std::net::{IpAddr, SocketAddr};

/// Packets to a leg whose phone is not heard: ten seconds of speech in the usual packets of 20 ms.
pub const UNHEARD: u32 = 500;

/// What is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit(u32);

impl Default for Credit {
    fn default() -> Self {
        Self(UNHEARD)
    }
}

impl Credit {
    /// Of so many packets, how many may go.
    pub fn draw(&mut self, packets: usize) -> usize {
        let granted = u32::try_from(packets).unwrap_or(u32::MAX).min(self.0);
        self.0 -= granted;
        granted as usize
    }
}

/// Whether nothing shows that a phone is at `address`: its signalling comes from elsewhere, and so did what was
/// `heard` at its ports.
pub fn is_doubtful(address: IpAddr, signalling: IpAddr, heard: impl IntoIterator<Item = SocketAddr>) -> bool {
    let address = address.to_canonical();
    address != signalling.to_canonical() && !heard.into_iter().any(|from| from.ip().to_canonical() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credit_is_given_once() {
        let mut credit = Credit::default();
        assert_eq!((credit.draw(0), credit.draw(32)), (0, 32));
        assert_eq!(credit.draw(usize::MAX), UNHEARD as usize - 32);
        assert_eq!((credit.draw(1), credit.draw(1)), (0, 0));
    }

    #[test]
    fn signalling_and_media_show_where_a_phone_is() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(!is_doubtful(ip("192.0.2.1"), ip("::ffff:192.0.2.1"), None));
        assert!(is_doubtful(ip("192.0.2.1"), ip("192.0.2.2"), None));
        assert!(is_doubtful(ip("192.0.2.1"), ip("192.0.2.2"), [at("192.0.2.3:4000")]));
        assert!(!is_doubtful(ip("192.0.2.1"), ip("192.0.2.2"), [at("192.0.2.3:4000"), at("192.0.2.1:9")]));
    }
}
