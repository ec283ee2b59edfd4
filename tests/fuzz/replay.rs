//! The committed corpora, replayed: what a fuzzer once found or reached stays tested. Frames go through the
//! kernel program as well, which must agree with the host.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
};

use pbx_core::filter::RuleTables;
use pbx_ebpf::abi::stats::{REASONS, Reason};
use pbx_tests::fuzz;
use pbx_xdp::{KernelTables, Loaded, Options};

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let read = |file: fs::DirEntry| {
        let name = file.file_name().to_string_lossy().into_owned();
        (name, fs::read(file.path()).expect("a corpus file is readable"))
    };
    let cases: Vec<_> = files.map(|file| read(file.expect("a corpus file"))).collect();
    assert!(cases.len() > 20, "{target}: only {} cases", cases.len());
    println!("{target}: {} cases", cases.len());
    cases
}

#[test]
fn every_import_text_of_the_corpus_is_read_or_refused_and_printed_back_the_same() {
    corpus("rules").iter().for_each(|(_, text)| fuzz::rules(text));
}

#[test]
fn every_address_of_the_corpus_is_read_or_refused_and_printed_back_the_same() {
    corpus("addresses").iter().for_each(|(_, text)| fuzz::addresses(text));
}

#[test]
fn every_stream_of_the_corpus_is_cut_the_same_in_pieces_of_any_size() {
    corpus("stream").iter().for_each(|(_, bytes)| fuzz::wire::stream(bytes));
}

#[test]
fn every_datagram_of_the_corpus_is_told_apart_and_stun_is_answered_right() {
    corpus("stun").iter().for_each(|(_, datagram)| fuzz::wire::stun(datagram));
}

#[test]
fn every_stream_of_packets_of_the_corpus_moves_the_latch_by_its_rules_only() {
    corpus("rtp").iter().for_each(|(_, packets)| fuzz::rtp::packets(packets));
}

#[test]
fn every_message_of_the_corpus_is_read_in_all_its_views_and_answered() {
    corpus("sip").iter().for_each(|(_, bytes)| fuzz::sip::message(bytes));
}

#[test]
fn every_message_of_the_corpus_is_read_as_rsip_reads_it() {
    let cases = corpus("sip_differential");
    let compared = cases.iter().filter(|(_, bytes)| fuzz::differential::differential(bytes)).count();
    println!("{compared} messages were understood by both");
    assert!(compared > 40);
}

#[test]
fn every_description_of_the_corpus_is_read_or_refused_and_answered_in_kind() {
    corpus("sdp").iter().for_each(|(_, body)| fuzz::sdp::description(body));
}

#[test]
fn every_description_of_the_corpus_is_read_as_sdp_types_reads_it_and_so_is_what_we_write() {
    let cases = corpus("sdp_differential");
    let compared = cases.iter().filter(|(_, body)| fuzz::sdp_differential::differential(body)).count();
    println!("{compared} descriptions were understood by both");
    assert!(compared > 20);
}

/// The reason that was counted since.
fn counted(loaded: &Loaded, before: &mut [u64; REASONS]) -> Option<Reason> {
    let mut now = [0; REASONS];
    for cpu in loaded.maps.stats.get(&0, 0).expect("the counters are readable").iter() {
        now.iter_mut().zip(cpu.0).for_each(|(sum, counter)| *sum += counter[0]);
    }
    let reason = Reason::ALL.into_iter().find(|reason| now[*reason as usize] > before[*reason as usize]);
    *before = now;
    reason
}

#[test]
fn every_frame_of_the_corpus_is_judged_alike_by_the_kernel_and_the_host() {
    let options = Options { seed: fuzz::SEED, test_clock: true, ..Options::default() };
    let mut loaded = Loaded::load(&options).expect("the kernel takes the filter: run as root");
    let settings = fuzz::settings();
    loaded.maps.write_settings(&settings);
    loaded.maps.write_interface(0, 0, settings.enforcement);
    loaded.maps.clock.store(0, fuzz::NOW);
    let own = [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))];
    let tables = KernelTables(Arc::clone(&loaded.maps));
    RuleTables::adopt(tables, fuzz::SEED, fuzz::entries(), own).expect("a handful of rules has room");
    let mut before = [0; REASONS];
    let mut ran = 0;
    for (name, frame) in corpus("packet") {
        let on_the_host = fuzz::packet(&frame);
        // The kernel runs frames from an Ethernet header up to what one test run takes.
        if !(14..=3000).contains(&frame.len()) {
            continue;
        }
        let verdict = loaded.run(&frame, 1).unwrap_or_else(|error| panic!("{name}: {error}"));
        let in_the_kernel = counted(&loaded, &mut before);
        assert_eq!(in_the_kernel, Some(on_the_host), "{name}");
        assert_eq!(verdict == 1, on_the_host.drops(), "{name}: verdict {verdict}");
        ran += 1;
    }
    println!("{ran} frames agreed");
    assert!(ran > 20);
}
