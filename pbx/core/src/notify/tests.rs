use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_795_412_400_000);
const INTERVAL: Duration = Duration::from_secs(300);

fn after(seconds: u64) -> Timestamp {
    NOW.saturating_add(Duration::from_secs(seconds))
}

fn item(topic: Topic, address: &str, message: &str) -> Item {
    Item { topic, at: NOW, address: address.parse().ok(), message: message.into() }
}

#[test]
fn a_block_is_told_with_why_and_with_the_command_that_undoes_it() {
    let mut gather = Gather::default();
    gather.add(NOW, item(Topic::Block, "203.0.113.9", "blocked for 1h: 50 wrong passwords\x1b[2J\nin 10 s"));
    gather.add(after(2), item(Topic::Disk, "", "the disk is nearly full"));
    assert_eq!(gather.take(after(9), INTERVAL), None);
    let digest = gather.take(after(10), INTERVAL).unwrap();
    assert_eq!(digest.summary(), "1 disk, 1 block");
    assert_eq!(
        digest.text("pbx.example.com"),
        "pbx.example.com, 2026-11-23T05:40:00Z to 2026-11-23T05:40:10Z\n\
         \nDisk (1)\n  2026-11-23T05:40:00Z  the disk is nearly full\n\
         \nBlocked (1)\n  2026-11-23T05:40:00Z  203.0.113.9: blocked for 1h: 50 wrong passwords [2J in 10 s\n    \
         undo: pbx block remove 203.0.113.9\n"
    );
    assert_eq!(gather.due(after(10), INTERVAL), None);
}

#[test]
fn there_is_one_digest_in_five_minutes_at_most() {
    let mut gather = Gather::default();
    let mut taken = Vec::new();
    for second in 0..3600 {
        gather.add(after(second), item(Topic::Block, "203.0.113.9", "again"));
        if let Some(digest) = gather.take(after(second), INTERVAL) {
            taken.push((second, digest.total()));
        }
    }
    assert_eq!(taken[0], (10, 11));
    assert_eq!(taken.len(), 12);
    assert!(taken.windows(2).all(|two| two[1].0 - two[0].0 == 300 && two[1].1 == 300), "{taken:?}");
    // After a quiet time the first event is told soon again.
    gather.take(after(10_000), INTERVAL).unwrap();
    gather.add(after(20_000), item(Topic::Block, "203.0.113.9", "again"));
    assert_eq!(gather.due(after(20_000), INTERVAL), Some(after(20_010)));
}

#[test]
fn what_is_too_much_to_name_is_counted_and_pushes_nothing_else_out() {
    let mut gather = Gather::default();
    for _ in 0..NAMED + 4210 {
        gather.add(NOW, item(Topic::Block, "203.0.113.9", "again"));
    }
    gather.add(NOW, item(Topic::Certificate, "", "ends soon"));
    gather.missed(NOW, 1000);
    assert_eq!(gather.waiting(), 40 + 4210 + 1 + 1000);
    let digest = gather.take(after(10), INTERVAL).unwrap();
    assert_eq!((digest.items.len(), digest.unnamed(Topic::Block)), (NAMED + 1, 4210));
    let text = digest.text("pbx");
    assert!(text.contains("\n  and 4,210 more\n"), "{text}");
    assert!(text.contains("ends soon") && text.contains("and 1,000 more events"), "{text}");
    // What never arrived is said in the next one.
    gather.undelivered(after(20), &digest);
    let next = gather.take(after(400), INTERVAL).unwrap();
    assert_eq!((next.total(), next.undelivered), (0, 5251));
    assert!(next.text("pbx").contains("5,251 earlier events could not be delivered"));
    gather.undelivered(after(400), &next);
    assert_eq!(gather.take(after(1000), INTERVAL).unwrap().undelivered, 5251);
}

#[test]
fn a_clock_that_was_set_back_delays_a_digest_by_one_interval_at_most() {
    let mut gather = Gather::default();
    gather.add(after(100_000), item(Topic::Block, "203.0.113.9", "again"));
    gather.take(after(100_010), INTERVAL).unwrap();
    gather.add(NOW, item(Topic::Block, "203.0.113.9", "again"));
    assert_eq!(gather.due(NOW, INTERVAL), Some(after(300)));
}

#[test]
fn topics_have_names() {
    for topic in Topic::ALL {
        assert_eq!(topic.as_str().parse(), Ok(topic));
    }
    assert_eq!(
        "spam".parse::<Topic>().unwrap_err().to_string(),
        "\"spam\" is none of disk, certificate, flood, feed, block, unblock"
    );
}
