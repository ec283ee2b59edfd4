//! What the terminal shows: one line a second, and a line for each block that appears or goes.
//! On a terminal the last second is written over by the next; elsewhere each is a line of its own.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pbx::filter::{InterfaceCounters, Outcome};
use pbx_tests::daemon::Installation;
use serde_json::Value;

/// Packets by what became of them, over all interfaces and reasons.
#[derive(Clone, Copy, Default)]
struct Totals {
    passed: u64,
    dropped: u64,
    would_drop: u64,
}

/// Sent and arrived, of the good and the bad neighbour.
pub(crate) type Traffic = [(u64, u64); 2];

pub(crate) struct Display<'a> {
    pbx: &'a Installation,
    start: Instant,
    seconds: u32,
    in_place: bool,
    totals: Totals,
    traffic: Traffic,
    blocks: BTreeMap<String, String>,
    blocks_seen: usize,
    headed: bool,
}

impl<'a> Display<'a> {
    pub(crate) fn new(pbx: &'a Installation) -> Self {
        Self {
            pbx,
            start: Instant::now(),
            seconds: 0,
            in_place: stdout().is_terminal(),
            totals: Totals::default(),
            traffic: Traffic::default(),
            blocks: BTreeMap::new(),
            blocks_seen: 0,
            headed: false,
        }
    }

    /// When the next line is due.
    pub(crate) fn next_second(&self) -> Instant {
        self.start + Duration::from_secs(u64::from(self.seconds) + 1)
    }

    /// Blocks that appeared so far.
    pub(crate) fn blocks_seen(&self) -> usize {
        self.blocks_seen
    }

    /// A line that stays.
    pub(crate) fn say(&mut self, text: &str) {
        if self.in_place {
            print!("\r\x1b[K");
        }
        println!("{text}");
    }

    /// Shows the second that is over: what the filter counted, and what the neighbours sent and got through.
    pub(crate) fn second(&mut self, traffic: Option<Traffic>) -> Result<()> {
        self.seconds += 1;
        self.show_blocks()?;
        let before = std::mem::replace(&mut self.totals, totals(&self.pbx.pbx("firewall stats")?)?);
        let (passed, dropped) = (
            self.totals.passed - before.passed.min(self.totals.passed),
            self.totals.dropped - before.dropped.min(self.totals.dropped),
        );
        let would = self.totals.would_drop - before.would_drop.min(self.totals.would_drop);
        let line = match traffic {
            Some(now) => {
                let old = std::mem::replace(&mut self.traffic, now);
                let [good, bad] = [0, 1].map(|who| (now[who].0 - old[who].0, now[who].1 - old[who].1));
                if !self.headed {
                    self.say("           good neighbour        bad neighbour         packet filter");
                    self.say(" second     sent  arrived        sent  arrived      passed    dropped");
                }
                format!(
                    "{:>7}  {:>7}  {:>7}     {:>7}  {:>7}     {passed:>7}    {dropped:>7}",
                    self.seconds, good.0, good.1, bad.0, bad.1
                )
            }
            None => {
                if !self.headed {
                    self.say(" second      passed     dropped  would drop");
                }
                format!("{:>7}  {passed:>10}  {dropped:>10}  {would:>10}", self.seconds)
            }
        };
        self.headed = true;
        if self.in_place {
            print!("\r\x1b[K{line}");
        } else {
            println!("{line}");
        }
        stdout().flush()?;
        Ok(())
    }

    /// Ends the line that was written over.
    pub(crate) fn finish(&self) {
        println!();
    }

    fn show_blocks(&mut self) -> Result<()> {
        let now = blocks(&self.pbx.pbx("block list")?)?;
        for (address, why) in &now {
            if self.blocks.get(address) != Some(why) {
                self.blocks_seen += 1;
                self.say(&format!("        blocked {address}: {why}"));
            }
        }
        let gone: Vec<_> = self.blocks.keys().filter(|address| !now.contains_key(*address)).cloned().collect();
        for address in gone {
            self.say(&format!("        {address} is no longer blocked"));
        }
        self.blocks = now;
        Ok(())
    }
}

fn totals(stats: &Value) -> Result<Totals> {
    let interfaces = stats.get("items").unwrap_or(stats).clone();
    let interfaces: Vec<InterfaceCounters> =
        serde_json::from_value(interfaces).context("the JSON of `pbx firewall stats`")?;
    let mut totals = Totals::default();
    for reason in interfaces.iter().flat_map(|interface| &interface.reasons) {
        match reason.outcome {
            Outcome::Passed => totals.passed += reason.packets,
            Outcome::Dropped => totals.dropped += reason.packets,
            Outcome::WouldDrop => totals.would_drop += reason.packets,
        }
    }
    Ok(totals)
}

/// Address and reason of each block.
fn blocks(list: &Value) -> Result<BTreeMap<String, String>> {
    let items = list.get("items").unwrap_or(list).as_array().context("the JSON of `pbx block list` is no list")?;
    Ok(items
        .iter()
        .filter_map(|block| {
            let reason = ["reason", "description"].iter().find_map(|key| block[*key].as_str()).unwrap_or("by hand");
            let until = block["expires_at"].as_str().map_or(String::new(), |at| format!(", until {at}"));
            Some((block["cidr"].as_str()?.to_owned(), format!("{reason}{until}")))
        })
        .collect())
}
