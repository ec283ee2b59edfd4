use super::*;

#[test]
fn a_registered_phone_says_whose_it_is_and_whether_it_can_be_reached() {
    let view = RegistrationView {
        id: "1".into(),
        extension_number: "101".into(),
        display_name: Some("Alice".into()),
        tenant: "default".into(),
        contact: "sip:101@192.0.2.9".into(),
        user_agent: Some("baresip".into()),
        instance: None,
        protocol: pbx_core::transport::Protocol::Udp,
        remote: "198.51.100.77:5062".parse().unwrap(),
        local: "192.0.2.5:5060".parse().unwrap(),
        reachable: true,
        behind_nat: false,
        since: pbx_core::time::Timestamp::EPOCH,
        expires_at: pbx_core::time::Timestamp::EPOCH,
    };
    assert_eq!(
        phone(&view),
        "  registered        101 of default (Alice) over UDP from 198.51.100.77:5062, 0s left, baresip"
    );
    let gone = RegistrationView { reachable: false, behind_nat: true, display_name: None, user_agent: None, ..view };
    assert!(phone(&gone).ends_with("0s left, behind NAT, CANNOT BE REACHED: its connection is gone"));
}

/// An attacker of whom everything is known that can be.
fn attacker() -> Explanation {
    let at = "2026-11-23T06:51:41.050Z";
    let evidence = |enforced: bool| {
        serde_json::json!({
            "prefix": "203.0.113.7", "detector": "authentication", "at": at, "until": "2026-11-23T07:51:41.050Z",
            "enforced": enforced, "sure": false, "before": 2, "rule": "guard.authentication.failures", "limit": 50,
            "period_ms": 10_000, "count": 50,
            "counters": [{ "detector": "enumeration", "count": 8 }, { "detector": "malformed", "count": 1 }],
            "first_seen": at, "last_seen": at,
            "messages": vec![serde_json::json!({ "at": at, "text": format!("REGISTER sip:pbx.example.com{} SIP/2.0\r\nVia: x\r\n\r\n", ";a=b".repeat(60)) }); 4],
            "because": "wrong passwords: 50 in 10s, when guard.authentication.failures was 50", "messages_kept": 4
        })
    };
    let step = |tier: &str, matches: bool, decides: bool, says: &str| serde_json::json!({ "tier": tier, "matches": matches, "decides": decides, "says": says });
    let value = serde_json::json!({
        "address": "203.0.113.7", "fate": "drop", "seen": true,
        "because": "203.0.113.7: wrong passwords (guard.authentication.failures is 50); what it sends to protected and media ports is dropped for 59m more",
        "undo": "pbx block remove 203.0.113.7",
        "steps": [
            step("own address", false, false, "no"),
            step("manual rules", true, false, "block 203.0.113.0/24, by root at 2026-11-23T06:00:00Z, permanent; manual rules are off"),
            step("known sources", false, false, "no"),
            step("automatic blocks", true, true, "203.0.113.7 for authentication since 2026-11-23T06:51:41.050Z, 59m left, 45166 packets"),
            step("default deny", true, false, "yes: protected ports are closed to strangers"),
            step("rate levels", true, false, "499 packets since 2026-11-23T06:51:41Z; level 1 lets 500 a second pass"),
        ],
        "also": vec!["block 203.0.0.0/16, \"dictionary attack\", by root at 2026-11-23T06:00:00Z, permanent"; 9],
        "evidence": evidence(true), "history": [evidence(true), evidence(false), evidence(true)],
        "counters": vec![serde_json::json!({ "detector": "challenges", "count": 12, "limit": 100, "rule": "guard.challenges.requests", "period_ms": 10_000 }); 8],
        "offence": { "sure": 2, "unsure": 1, "last": at, "forgotten_at": at },
        "changes": vec![serde_json::json!({ "id": 1, "at": at, "actor": "root", "origin": "socket", "what": "automatic.remove", "object": "203.0.113.7", "before": null, "after": null }); 3],
        "events": vec![serde_json::json!({ "id": 1, "at": at, "kind": "block", "prefix": "203.0.113.7", "interface": null, "message": "203.0.113.7 blocked for 1h: wrong passwords" }); 5]
    });
    serde_json::from_value(value).unwrap()
}

#[test]
fn an_attacker_is_explained_on_one_screen_the_rule_that_decides_first() {
    let lines = lines(&attacker());
    let text = lines.join("\n");
    let wrapped: usize = lines.iter().map(|line| line.chars().count().div_ceil(120).max(1)).sum();
    assert!(wrapped <= SCREEN, "{wrapped}\n{text}");
    assert_eq!(lines[0], "203.0.113.7 IS BLOCKED");
    assert_eq!(lines[2], "  undo: pbx block remove 203.0.113.7");
    assert!(lines[4].starts_with("→ automatic blocks  203.0.113.7 for authentication"), "{text}");
    let rest: Vec<&str> = lines[5..8].iter().map(|line| line[2..].split("  ").next().unwrap()).collect();
    assert_eq!(rest, ["manual rules", "default deny", "rate levels"]);
    for word in [
        "nothing in        own address, known sources",
        "… and 7 more (--json)",
        "when guard.authentication.failures was 50",
        "counted besides   enumeration 8, malformed 1",
        "blocked 2 times before",
        "anybody may have sent it",
        "06:51:41.050      REGISTER sip:",
        "counted now       challenges 12 of 100 in 10s",
        "blocked           3 times so far",
        "would have been blocked at",
        "changed           automatic.remove 203.0.113.7 by root",
        "203.0.113.7 blocked for 1h: wrong passwords",
    ] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
}

#[test]
fn an_address_that_nobody_has_seen_would_pass() {
    let unseen = Explanation {
        fate: Fate::Pass,
        seen: false,
        because: "nobody has seen it yet; no rule and no automatic block stops it".into(),
        undo: None,
        also: Vec::new(),
        evidence: None,
        history: Vec::new(),
        counters: Vec::new(),
        offence: None,
        changes: Vec::new(),
        events: Vec::new(),
        ..attacker()
    };
    let lines = lines(&unseen);
    assert_eq!(lines[0], "203.0.113.7 would pass");
    assert_eq!(lines.len(), 8, "{lines:#?}");
}

#[test]
fn many_phones_and_accounts_behind_an_address_are_counted() {
    let mut crowd = attacker();
    let pair = PairView {
        cidr: "203.0.113.7".parse().unwrap(),
        account: "101".into(),
        count: 20,
        since: pbx_core::time::Timestamp::EPOCH,
        until: pbx_core::time::Timestamp::EPOCH,
        enforced: true,
        undo: "pbx block remove 203.0.113.7".into(),
    };
    crowd.pairs = vec![pair; 40];
    crowd.known = vec![
        KnownHere {
            extension_number: "101".into(),
            tenant: "default".into(),
            last_success: pbx_core::time::Timestamp::EPOCH
        };
        400
    ];
    let lines = lines(&crowd);
    assert!(lines.len() <= SCREEN, "{}", lines.join("\n"));
    assert!(lines.iter().any(|line| line.contains("101 is not heard from there")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("… and 397 more")), "{lines:#?}");
}
