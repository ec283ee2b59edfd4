//! Rulesets as nft itself writes them, loaded into a namespace of their own, and what is said of
//! each.

use std::process::Command;
use std::sync::mpsc;

use super::super::Transport::{Tcp, Udp};
use super::super::ports::needed;
use super::*;
use crate::host::namespace::in_new_namespace;

/// Loads a ruleset in nft's own language and reads it back as JSON.
#[track_caller]
fn ruleset(text: &str) -> String {
    let (sender, receiver) = mpsc::sync_channel(1);
    let text = text.to_owned();
    in_new_namespace(move || {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let loaded = Command::new("nft").arg("-f").arg(file.path()).output().expect("nft is installed");
        assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
        let listed = Command::new("nft").args(["-j", "list", "ruleset"]).output().unwrap();
        sender.send(String::from_utf8(listed.stdout).unwrap()).unwrap();
    });
    receiver.recv().unwrap()
}

#[track_caller]
fn states(json: &str, table: &[(Transport, u16, u16, Option<State>)]) {
    for &(transport, first, last, expected) in table {
        let one = needed(transport, first, last);
        let judged = judge(json, std::slice::from_ref(&one), Foreign::default()).unwrap();
        let state = judged.findings.first().map(|finding| finding.state);
        assert_eq!(state, expected, "{one}: {:#?}", judged.findings);
    }
}

const CLOSED: Option<State> = Some(State::Closed);
const DOUBT: Option<State> = Some(State::MayBeClosed);

#[test]
fn a_usual_ruleset_is_judged_port_by_port() {
    let json = ruleset(
        "table inet filter {
            set ours { type inet_service; flags interval; elements = { 5060, 8887-8889 } }
            chain input {
                type filter hook input priority 0; policy drop;
                iifname \"lo\" accept
                ct state established,related accept
                ct state invalid drop
                icmpv6 type nd-neighbor-solicit accept
                ip protocol icmp accept
                tcp dport 22 limit rate 10/minute accept
                tcp dport @ours accept
                udp dport { 5060, 45000-64999 } counter accept
                ip saddr 198.51.100.0/24 tcp dport 5061 accept
                meta l4proto { tcp, udp } th dport 7000 accept
                tcp dport 7100 drop
                tcp dport != 7200 jump more
            }
            chain more { tcp dport 7100-7300 accept ; }
        }",
    );
    states(
        &json,
        &[
            (Udp, 5060, 5060, None),
            (Tcp, 5060, 5060, None),
            (Tcp, 8887, 8889, None),
            (Tcp, 8886, 8889, CLOSED),
            (Udp, 8887, 8887, CLOSED),
            (Udp, 45000, 64999, None),
            (Udp, 45000, 65000, CLOSED),
            (Tcp, 22, 22, DOUBT),
            (Tcp, 5061, 5061, DOUBT),
            (Udp, 5061, 5061, CLOSED),
            (Tcp, 7000, 7000, None),
            (Udp, 7000, 7000, None),
            (Tcp, 7100, 7100, CLOSED),
            (Tcp, 7101, 7199, None),
            (Tcp, 7200, 7200, CLOSED),
        ],
    );
}

#[test]
fn verdict_maps_and_a_last_rule_that_refuses_are_understood() {
    let json = ruleset(
        "table inet filter {
            chain tcp_in { tcp dport vmap { 8887 : accept, 8888 : drop } ; return ; tcp dport 8889 accept ; }
            chain udp_in { udp dport 5060 accept ; }
            chain input {
                type filter hook input priority 0; policy accept;
                ct state vmap { established : accept, related : accept, invalid : drop }
                meta l4proto vmap { tcp : jump tcp_in, udp : jump udp_in }
                reject
            }
        }",
    );
    states(
        &json,
        &[
            (Tcp, 8887, 8887, None),
            (Tcp, 8888, 8888, CLOSED),
            (Tcp, 8889, 8889, CLOSED),
            (Udp, 5060, 5060, None),
            (Udp, 8887, 8887, CLOSED),
        ],
    );
}

#[test]
fn without_a_chain_that_drops_everything_is_open() {
    let open = ruleset("table inet t { chain input { type filter hook input priority 0; }; }");
    states(&open, &[(Udp, 5060, 5060, None)]);
    let nothing = judge(&ruleset(""), &[needed(Udp, 5060, 5060)], Foreign::default()).unwrap();
    assert_eq!((nothing.base_chains, nothing.findings.len()), (0, 0));
    let outwards = "table inet t { chain o { type filter hook output priority 0; policy drop; }; }";
    states(&ruleset(outwards), &[(Udp, 5060, 5060, None)]);
}

#[test]
fn the_command_it_prints_opens_the_port() {
    let closed = "table inet fw { chain in { type filter hook input priority 0; policy drop; }; }";
    let one = needed(Udp, 45000, 64999);
    let judged = judge(&ruleset(closed), std::slice::from_ref(&one), Foreign::default()).unwrap();
    let command = judged.findings[0].command.clone().unwrap();
    assert_eq!(command, "nft insert rule inet fw in udp dport 45000-64999 accept");
    let opened = format!("{closed}\n{}", command.strip_prefix("nft ").unwrap());
    states(&ruleset(&opened), &[(Udp, 45000, 64999, None)]);
}

#[test]
fn tables_that_another_tool_keeps_are_left_to_it() {
    let json = ruleset(
        "table inet firewalld { chain filter_INPUT { type filter hook input priority 10; policy drop; }; }
         table ip filter {
            chain ufw-before-input { }
            chain INPUT { type filter hook input priority 0; policy drop; }
         }",
    );
    let count = |firewalld, ufw| judge(&json, &[], Foreign { firewalld, ufw }).unwrap().base_chains;
    assert_eq!([count(false, false), count(true, false), count(true, true)], [2, 1, 0]);
    let judged = judge(&json, &[needed(Tcp, 5060, 5060)], Foreign { firewalld: true, ufw: false });
    let command = judged.unwrap().findings[0].command.clone().unwrap();
    assert_eq!(command, "iptables -I INPUT -p tcp --dport 5060 -j ACCEPT");
}

#[test]
fn chains_that_jump_in_a_circle_end() {
    let rule = |chain: &str, target: &str| {
        format!(
            r#"{{"rule":{{"family":"ip","table":"t","chain":"{chain}","expr":[{{"jump":{{"target":"{target}"}}}}]}}}}"#
        )
    };
    let circle = (0..20).map(|_| format!("{},{}", rule("a", "b"), rule("b", "a")));
    let json = format!(
        r#"{{"nftables":[{{"chain":{{"family":"ip","table":"t","name":"a","type":"filter","hook":"input","policy":"drop"}}}},{}]}}"#,
        circle.collect::<Vec<_>>().join(",")
    );
    states(&json, &[(Udp, 5060, 5060, DOUBT)]);
}

#[test]
fn what_is_no_ruleset_is_an_error_or_empty() {
    assert!(judge("", &[], Foreign::default()).is_err());
    for nonsense in ["{}", "[]", "null", r#"{"nftables":[7,{"rule":3},{"chain":[]}]}"#] {
        assert_eq!(judge(nonsense, &[], Foreign::default()).unwrap().base_chains, 0);
    }
}

#[test]
fn the_rest_of_ranges_is_found() {
    assert_eq!(complement(vec![(0, u16::MAX)]), []);
    assert_eq!(complement(vec![]), [ALL]);
    assert_eq!(complement(vec![(10, 20), (0, 3)]), [(4, 9), (21, u16::MAX)]);
}
