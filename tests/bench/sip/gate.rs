//! What a receive worker does with a REGISTER, without sockets: lexing, validation, digest, answer. In one thread.

use std::{hint::black_box, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use pbx_core::{
    auth::{Algorithm, Allowance, Key, Keys, Limits, Proof, Scheme, Use},
    directory::{Directory, Extension, ExtensionId, Ha1, Tenant, TenantId},
    gate::{Gate, Passed, Points, Tags, Why},
    guard::{agents::Agents, pairs::Pairs},
    known::KnownSet,
    moment::Moment,
    overload::Level,
    settings::Settings,
    transport::{Flow, Protocol, TransportId},
};

use super::{Effort, timed::timed};
use crate::report::{Report, Spread};

const REALM: &str = "pbx.example.com";
const URI: &str = "sip:pbx.example.com";
const NUMBER: u32 = 100_007;
const NOW: Moment = Moment::from_micros(1_000_000_000);
/// Messages of a round.
const TIMES: u32 = 20_000;

/// Measures it.
pub(super) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    let directory = directory();
    let keys = Keys { current: Key::new(&[1; 32]), former: None };
    let (allowance, known) = (Allowance::new([1, 2]), KnownSet::new([3, 4]));
    let (agents, pairs) = (Agents::new(Settings::default().guard.agents.list.iter()), Pairs::new([8, 9]));
    let gate = Gate {
        directory: &directory,
        keys: &keys,
        nonce_life: Duration::from_secs(300),
        algorithms: &Algorithm::ALL,
        allowance: &allowance,
        limits: Limits { per_source: u32::MAX, in_all: u32::MAX },
        known: &known,
        agents: &agents,
        agents_dropped: true,
        pairs: &pairs,
        points: Points::default(),
        local: &[],
        level: Level::default(),
        tags: Tags::new([5, 6]),
        nonce_id: 7,
        now: NOW,
    };
    let flow = Flow {
        transport: TransportId(1),
        protocol: Protocol::Udp,
        local: "192.0.2.1:5060".parse()?,
        remote: "198.51.100.7:5060".parse()?,
        connection: None,
    };
    let mut out = Vec::with_capacity(2048);
    let mut pass = |message: &[u8], expected: &dyn Fn(&Passed<'_>) -> bool| {
        out.clear();
        expected(black_box(&gate.pass(&flow, black_box(message), &mut out)))
    };
    let challenged = |passed: &Passed<'_>| matches!(passed, Passed::Ended { why: Why::Challenged, .. });
    let wrong = |passed: &Passed<'_>| matches!(passed, Passed::Ended { why: Why::WrongPassword, .. });
    let right = |passed: &Passed<'_>| matches!(passed, Passed::Delivered { credential: Some(_), .. });
    let cases: [(&str, Vec<u8>, &dyn Fn(&Passed<'_>) -> bool); 4] = [
        ("without credentials, challenged", request(""), &challenged),
        ("with a wrong password (MD5), challenged", request(&credentials(&keys, Algorithm::Md5, "wrong")), &wrong),
        ("with the right password (MD5), handed on", request(&credentials(&keys, Algorithm::Md5, "right")), &right),
        (
            "with the right password (SHA-256), handed on",
            request(&credentials(&keys, Algorithm::Sha256, "right")),
            &right,
        ),
    ];
    for (case, message, expected) in &cases {
        ensure!(pass(message, expected), "the gate does something else with a REGISTER {case}");
        let costs = (0..effort.rounds).map(|_| timed(TIMES, || _ = pass(message, expected)));
        let costs = costs.collect::<Result<Vec<_>>>()?;
        let spread = Spread::of(costs.iter().map(|cost| cost.nanoseconds / 1000.0));
        report.spread(format!("at the gate: a REGISTER {case}"), spread, "us", None);
        report.figure(
            format!("at the gate: a REGISTER {case}: allocations"),
            costs[0].allocations,
            "allocations",
            None,
        );
    }
    Ok(())
}

fn directory() -> Directory {
    let tenant = Tenant {
        id: TenantId(1),
        name: "Example".to_owned(),
        domains: vec![REALM.to_owned()],
        realm: REALM.to_owned(),
        is_default: true,
    };
    let extension = |id: u32| {
        let number = (100_000 + id).to_string();
        let ha1 = Ha1::of(&number, REALM, "right");
        let (name, caller_id) = (format!("Phone {id}"), String::new());
        Arc::new(Extension {
            id: ExtensionId(id),
            tenant: TenantId(1),
            number,
            name,
            caller_id,
            enabled: true,
            ha1,
            forwarding: Default::default(),
        })
    };
    Directory::new([tenant], (0..10_000).map(extension))
}

fn credentials(keys: &Keys, algorithm: Algorithm, password: &str) -> String {
    let nonce = keys.sign(REALM, NOW, 7);
    let proof = Proof {
        scheme: Scheme { algorithm, session: false },
        method: b"REGISTER",
        uri: URI.as_bytes(),
        nonce: nonce.as_str().as_bytes(),
        cnonce: b"0a4f113b9d21",
        used: Use::Counted(b"00000001"),
    };
    let response = proof.response(&Ha1::of(&NUMBER.to_string(), REALM, password));
    format!(
        "Authorization: Digest username=\"{NUMBER}\", realm=\"{REALM}\", nonce=\"{nonce}\", uri=\"{URI}\", \
         response=\"{response}\", algorithm={}, qop=auth, nc=00000001, cnonce=\"0a4f113b9d21\"\r\n",
        algorithm.token()
    )
}

fn request(credentials: &str) -> Vec<u8> {
    format!(
        "REGISTER {URI} SIP/2.0\r\n\
         Via: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK1886733404;rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:{NUMBER}@{REALM}>;tag=3471226031\r\n\
         To: <sip:{NUMBER}@{REALM}>\r\n\
         Call-ID: 0_2184036293@198.51.100.7\r\n\
         CSeq: 1 REGISTER\r\n\
         Contact: <sip:{NUMBER}@198.51.100.7:5060>\r\n\
         Expires: 300\r\n\
         User-Agent: bench\r\n\
         {credentials}Content-Length: 0\r\n\r\n"
    )
    .into_bytes()
}
