//! A relay as a process: ours, or the least that tokio can do. Says the port of each phone in one line, and ends when
//! its standard input does.

use std::{
    io::Read as _,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, mpsc},
};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use pbx::{
    media::{Options, Relay},
    net::Clock,
};
use pbx_core::{
    media::{Command, Leg, LegId, Pair, Payload, Remote},
    pbx::Input,
    settings::Settings,
};
use tokio::net::UdpSocket;

/// Which relay.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// Ours.
    Pbx,
    /// Two sockets a call, a task each: receive, send.
    Tokio,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pbx => "pbx",
            Self::Tokio => "tokio",
        }
    }
}

/// Runs as a relay of so many calls between phones whose ports follow each other from `first` on.
pub(crate) fn run(kind: Kind, calls: u16, first: u16) -> Result<()> {
    match kind {
        Kind::Pbx => ours(calls, first),
        Kind::Tokio => bare(calls, first),
    }
}

fn ours(calls: u16, first: u16) -> Result<()> {
    let settings = Settings::default();
    let (tell, told) = mpsc::channel();
    let options = Options::new(&settings, [[1, 2], [3, 4]], Clock::start());
    let relay = Relay::start(options, Box::new(move |input| drop(tell.send(input))))?;
    let wanted = usize::from(2 * calls);
    relay.command(Command::Wanted(wanted));
    let mut pairs: Vec<Pair> = Vec::new();
    while pairs.len() < wanted {
        if let Input::Pairs(more) = told.recv()? {
            pairs.extend(more);
        }
    }
    for (index, pair) in pairs.iter().enumerate() {
        let phone = SocketAddr::from((Ipv4Addr::LOCALHOST, first + index as u16));
        let remote = Remote {
            rtp: phone,
            rtcp: phone,
            signalling: phone.ip(),
            mux: true,
            epoch: 1,
            sends: true,
            receives: true,
            formats: vec![Payload { from: 8, to: 8, rate: 8000 }],
            event: None,
        };
        let (id, peer) = (LegId(index as u64), LegId(index as u64 ^ 1));
        let leg = Leg {
            id,
            group: id.0 / 2,
            pair: *pair,
            local: Ipv4Addr::LOCALHOST.into(),
            remote: Some(remote),
            peer: Some(peer),
        };
        relay.command(Command::Set(leg));
    }
    while (0..pairs.len()).any(|index| relay.seen(LegId(index as u64)).is_none()) {
        std::thread::yield_now();
    }
    say(pairs.iter().map(|pair| pair.rtp));
    wait()?;
    let status = relay.status();
    ensure!(status.receive_buffer_full + status.not_sent == 0, "{status:?}");
    Ok(())
}

fn bare(calls: u16, first: u16) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let sockets = runtime.block_on(async {
        let mut sockets = Vec::new();
        for _ in 0..2 * calls {
            sockets.push(Arc::new(UdpSocket::bind("127.0.0.1:0").await?));
        }
        anyhow::Ok(sockets)
    })?;
    for (index, socket) in sockets.iter().enumerate() {
        let (from, to) = (Arc::clone(socket), Arc::clone(&sockets[index ^ 1]));
        let phone = SocketAddr::from((Ipv4Addr::LOCALHOST, first + (index as u16 ^ 1)));
        runtime.spawn(async move {
            let mut packet = [0; 2048];
            while let Ok((length, _)) = from.recv_from(&mut packet).await {
                let _ = to.send_to(&packet[..length], phone).await;
            }
        });
    }
    let ports: Result<Vec<u16>, _> = sockets.iter().map(|socket| socket.local_addr().map(|addr| addr.port())).collect();
    say(ports?.into_iter());
    wait()
}

fn say(ports: impl Iterator<Item = u16>) {
    let ports: Vec<String> = ports.map(|port| port.to_string()).collect();
    println!("{}", ports.join(" "));
}

fn wait() -> Result<()> {
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
