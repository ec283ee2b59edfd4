//! Fills the table of automatic blocks and prints how long it takes to read all of them, and how long a detector that
//! makes a block meanwhile has to wait. Needs root.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use pbx_ebpf::{
    abi::{Source, automatic},
    hash::Seed,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let loaded = pbx_xdp::Loaded::load(&pbx_xdp::Options::default())?;
    let (maps, seed) = (&loaded.maps, Seed(1, 2));
    let block = automatic::Block { expires: u64::MAX, since: 1, ..automatic::Block::default() };
    for host in 0..u64::from(automatic::MAX) {
        let source = Source { hi: 0, lo: 0xffff_0000_0000 + host };
        assert!(maps.replace_block(seed, source, false, |_| Some(block))?, "the table is full");
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let detector = scope.spawn(|| {
            let (mut worst, source) = (Duration::ZERO, Source { hi: 0, lo: 0xffff_0000_0000 });
            while !over.load(Relaxed) {
                let begin = Instant::now();
                maps.replace_block(seed, source, false, |_| Some(block)).expect("the table can be written");
                worst = worst.max(begin.elapsed());
            }
            worst
        });
        for _ in 0..5 {
            let begin = Instant::now();
            let blocks = maps.blocks().expect("the table can be read").len();
            println!("{blocks} blocks in {:?}", begin.elapsed());
        }
        over.store(true, Relaxed);
        println!("the longest that a block took meanwhile: {:?}", detector.join().expect("it ended"));
    });
    Ok(())
}
