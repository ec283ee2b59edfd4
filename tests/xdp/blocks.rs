//! The table of automatic blocks read as a whole: all of it, whoever writes meanwhile.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use pbx_ebpf::{
    abi::{
        Source,
        automatic::{Block, MAX, WEB_MAX, WEB_ONLY},
    },
    hash::Seed,
};
use pbx_xdp::{Loaded, Options};

#[test]
fn full_tables_are_read_whole_while_blocks_are_prolonged() {
    let loaded = Loaded::load(&Options::default()).expect("the filter is loaded");
    let (maps, seed) = (&loaded.maps, Seed(1, 2));
    assert_eq!(maps.blocks().expect("an empty table can be read"), []);
    let source = |host: u32| Source { hi: 0, lo: 0xffff_0000_0000 + u64::from(host) };
    let block = |flags| Block { expires: u64::MAX, since: 1, flags, ..Block::default() };
    let put = |host, flags| maps.replace_block(seed, source(host), flags == WEB_ONLY, |_| Some(block(flags)));
    for host in 0..MAX {
        assert!(put(host, 0).expect("the table can be written"), "no room for {host}");
    }
    for host in 0..WEB_MAX {
        assert!(put(host, WEB_ONLY).expect("the table can be written"), "no room for {host}");
    }
    assert!(!put(MAX, 0).expect("the table can be written"), "more than there is room for");

    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for host in (0..MAX).cycle().take_while(|_| !over.load(Relaxed)) {
                put(host, 0).expect("the table can be written");
            }
        });
        for _ in 0..5 {
            let mut seen = BTreeMap::<(Source, bool), u32>::new();
            for (source, block) in maps.blocks().expect("the tables can be read") {
                *seen.entry((source, block.is_web_only())).or_default() += 1;
            }
            assert_eq!(seen.len(), (MAX + WEB_MAX) as usize);
            assert!(seen.values().all(|times| *times == 1), "some are read twice");
        }
        over.store(true, Relaxed);
    });
}
