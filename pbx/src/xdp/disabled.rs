//! No filter of this daemon's, because it could not be taken over: what an earlier daemon pinned may go on as it was,
//! so changes are refused.

use std::{io, net::IpAddr, path::PathBuf};

use anyhow::bail;
use pbx_core::{
    address::Prefix,
    rule::Action,
    settings::{Enforcement, Settings},
};

use super::pins;
use crate::{
    filter::{
        AutomaticBlock, BlockKey, Change, Control, Filter, FilterStatus, Finding, Hits, InterfaceCounters, KernelView,
        KnownChange, MediaChange, NewBlock, Severity, Talker, TestVerdict,
    },
    trace::dropped::{Follower, Wanted},
};

/// A filter that could not be taken over.
#[derive(Clone, Debug)]
pub struct Disabled {
    /// Why.
    pub why: String,
    /// Where an earlier daemon may have pinned its own.
    pub pin_dir: PathBuf,
}

impl Disabled {
    fn why(&self) -> String {
        format!("the filter is not under control: {}", self.why)
    }

    /// What goes on filtering although nobody controls it.
    fn earlier(&self) -> Option<String> {
        match pins::attached(&self.pin_dir) {
            Ok(links) if links.is_empty() => None,
            Ok(links) => {
                let names: Vec<String> = links.iter().filter_map(|link| pins::interface(link)).collect();
                Some(format!(
                    "the filter of an earlier daemon may go on enforcing the rules, blocks and settings it had, on {}",
                    names.join(", ")
                ))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(format!(
                "a filter of an earlier daemon may go on enforcing what it had: {} cannot be read ({error})",
                pins::links(&self.pin_dir).display()
            )),
        }
    }

    fn change(&self) -> anyhow::Result<()> {
        bail!("{}", self.why())
    }
}

impl Filter for Disabled {
    fn control(&self) -> Control {
        Control::Lost { why: self.why.clone(), earlier: self.earlier() }
    }
    fn check(&self, _: &Change) -> anyhow::Result<()> {
        self.change()
    }
    fn apply(&self, _: &Change) -> anyhow::Result<()> {
        self.change()
    }
    fn settings(&self, _: &Settings, _: &[u16], _: i64) -> anyhow::Result<()> {
        self.change()
    }
    fn automatic_blocks(&self) -> anyhow::Result<Vec<AutomaticBlock>> {
        bail!("{}", self.why())
    }
    fn block(&self, _: &NewBlock) -> anyhow::Result<()> {
        bail!("{}", self.why())
    }
    fn remove_automatic(&self, _: &BlockKey) -> anyhow::Result<bool> {
        bail!("{}", self.why())
    }
    fn reset_counters(&self, _: &Prefix) -> anyhow::Result<()> {
        bail!("{}", self.why())
    }
    fn follow_drops(&self, _: Wanted) -> anyhow::Result<Follower> {
        bail!("{}", self.why())
    }
    fn known(&self, _: &KnownChange) -> anyhow::Result<()> {
        self.change()
    }
    fn media(&self, _: &MediaChange) -> anyhow::Result<()> {
        self.change()
    }
    fn explain(&self, _: IpAddr) -> anyhow::Result<KernelView> {
        Ok(KernelView::default())
    }
    fn hits(&self, _: &Prefix, _: Action) -> Hits {
        Hits::default()
    }
    fn counters(&self) -> anyhow::Result<Vec<InterfaceCounters>> {
        Ok(Vec::new())
    }
    fn top(&self, _: usize) -> Vec<Talker> {
        Vec::new()
    }
    fn status(&self) -> FilterStatus {
        let not_enforced = match self.earlier() {
            Some(earlier) => format!("what was changed since: {earlier}"),
            None => "nothing is filtered: no rule, no rate level, no port rule".to_owned(),
        };
        FilterStatus {
            loaded: false,
            problem: Some(self.why()),
            mode: Enforcement::Off,
            settings_revision: 0,
            interfaces: Vec::new(),
            guard_active: false,
            automatic_full: false,
            usage: Vec::new(),
            memory: 0,
            not_enforced: vec![not_enforced],
        }
    }
    fn attach(&self, _: &str) -> anyhow::Result<()> {
        bail!("{}", self.why())
    }
    fn detach(&self, _: &str) -> anyhow::Result<()> {
        bail!("{}", self.why())
    }
    fn doctor(&self) -> Vec<Finding> {
        let say = |message, advice: &str| Finding {
            severity: Severity::Error,
            subject: "filter".to_owned(),
            message,
            advice: Some(advice.to_owned()),
        };
        let goes_on = self.earlier().unwrap_or_else(|| "nothing is filtered".to_owned());
        let advice = "once the cause is gone, the daemon takes the filter over within a minute, \
                      `systemctl restart pbx` at once";
        vec![say(format!("{}; {goes_on}", self.why()), advice)]
    }
    fn test_frames(&self, _: &[(u64, Vec<u8>)]) -> anyhow::Result<Vec<TestVerdict>> {
        bail!("{}", self.why())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(pin_dir: PathBuf) -> Disabled {
        Disabled { why: "no capability".to_owned(), pin_dir }
    }

    #[test]
    fn a_lost_filter_names_the_interfaces_where_an_earlier_one_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let disabled = lost(folder.path().to_owned());
        assert_eq!(disabled.control(), Control::Lost { why: "no capability".to_owned(), earlier: None });
        assert!(disabled.status().not_enforced[0].contains("nothing is filtered"));
        std::fs::create_dir(folder.path().join("links")).unwrap();
        assert_eq!(disabled.earlier(), None);
        std::fs::write(folder.path().join("links/eth0~5"), "").unwrap();
        assert!(disabled.earlier().unwrap().ends_with("on eth0.5"));
        assert!(disabled.status().not_enforced[0].contains("eth0.5"));
        assert!(disabled.doctor()[0].message.contains("eth0.5"));
    }

    #[test]
    fn a_lost_filter_takes_no_change() {
        let settings = Settings::default();
        let lost = lost(PathBuf::from("/nonexistent"));
        assert!(lost.settings(&settings, &[], 1).unwrap_err().to_string().contains("no capability"));
        assert!(lost.automatic_blocks().is_err());
    }
}
