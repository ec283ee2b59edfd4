//! Programs of the appliance that ask a name server while media run: nothing of theirs is lost to the rule for media
//! ports, whose range the ephemeral ports overlap.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use pbx_tests::{phone::media, sandbox::Namespace, site::on_site};

use super::{hang_up, two_in_a_call, wait_no_calls};

const LOOKUPS: u32 = 10_000;

#[test]
fn ten_thousand_look_ups_during_a_call_are_all_answered_and_no_media_are_lost() {
    on_site(|site, daemon| {
        site.pbx.pbx("guard set guard.media.enforcement=enforce")?;
        let (mut one, mut two) = two_in_a_call(site, ["200", "201"])?;
        let good = &site.lab.good;
        let name_server: SocketAddr = (good.v4(), 53).into();
        let answering = good.network.enter(|| Ok(UdpSocket::bind(name_server)?))?;
        answering.set_read_timeout(Some(Duration::from_millis(100)))?;
        let (done, answered) = (AtomicBool::new(false), AtomicBool::new(false));
        let own = Namespace::current()?;
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut buffer = [0; 512];
                while !answered.load(Ordering::Relaxed) {
                    if let Ok((length, from)) = answering.recv_from(&mut buffer) {
                        // An answer is the question with the bit QR (RFC 1035 §4.1.1).
                        buffer[2] |= 0x80;
                        let _ = answering.send_to(&buffer[..length], from);
                    }
                }
            });
            let asking = scope.spawn(|| {
                let asked = own.enter(|| look_up(name_server));
                done.store(true, Ordering::Relaxed);
                asked
            });
            let mut packets = 0;
            while !done.load(Ordering::Relaxed) {
                let second = Duration::from_secs(1);
                media::play(&mut [(&mut one.media, one.to), (&mut two.media, two.to)], second)?;
                packets += 50;
            }
            answered.store(true, Ordering::Relaxed);
            asking.join().map_err(|_| anyhow::anyhow!("a look-up panicked"))??;
            let missing = media::wait_packets(&mut [(&mut one.media, packets), (&mut two.media, packets)])?;
            ensure!(missing == 0, "{missing} of {packets} packets are missing");
            anyhow::Ok(())
        })?;
        hang_up(&mut one, &mut two)?;
        wait_no_calls(site)?;
        daemon.stop()
    });
}

/// Asks so often, each time from a port that the kernel chooses, as resolvers do.
fn look_up(name_server: SocketAddr) -> Result<()> {
    // A query for the A record of `example.`
    let mut query = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x07example\0\0\x01\0\x01".to_vec();
    let mut buffer = [0; 512];
    for number in 0..LOOKUPS {
        let id = (number as u16).to_be_bytes();
        query[..2].copy_from_slice(&id);
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(name_server)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.send(&query)?;
        let port = socket.local_addr()?.port();
        let length = socket.recv(&mut buffer).with_context(|| format!("look-up {number} from port {port} is lost"))?;
        ensure!(length == query.len() && buffer[..2] == id, "another answer");
    }
    Ok(())
}
