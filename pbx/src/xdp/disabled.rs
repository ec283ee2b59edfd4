//! No filter: XDP is switched off, or the kernel refuses it. Rules are kept and nothing is filtered; the status
//! says so.

use std::net::IpAddr;

use anyhow::bail;
use pbx_core::{
    address::Prefix,
    rule::Action,
    settings::{Enforcement, Settings},
};

use crate::filter::{
    AutomaticBlock, Change, Filter, FilterStatus, Finding, Hits, InterfaceCounters, KernelView, Severity, Talker,
    TestVerdict,
};

/// Why there is no filter.
#[derive(Clone, Debug)]
pub struct Disabled(pub String);

impl Filter for Disabled {
    fn check(&self, _: &Change) -> anyhow::Result<()> {
        Ok(())
    }
    fn apply(&self, _: &Change) -> anyhow::Result<()> {
        Ok(())
    }
    fn settings(&self, _: &Settings, _: i64) -> anyhow::Result<()> {
        Ok(())
    }
    fn automatic_blocks(&self) -> anyhow::Result<Vec<AutomaticBlock>> {
        Ok(Vec::new())
    }
    fn remove_automatic(&self, _: &Prefix) -> anyhow::Result<bool> {
        Ok(false)
    }
    fn reset_counters(&self, _: &Prefix) -> anyhow::Result<()> {
        Ok(())
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
        FilterStatus {
            loaded: false,
            problem: Some(self.0.clone()),
            mode: Enforcement::Off,
            settings_revision: 0,
            interfaces: Vec::new(),
            guard_active: false,
            automatic_full: false,
            usage: Vec::new(),
            memory: 0,
            not_enforced: vec!["nothing is filtered: no rule, no rate level, no port rule".to_owned()],
        }
    }
    fn attach(&self, _: &str) -> anyhow::Result<()> {
        bail!("there is no filter: {}", self.0)
    }
    fn detach(&self, _: &str) -> anyhow::Result<()> {
        bail!("there is no filter: {}", self.0)
    }
    fn doctor(&self) -> Vec<Finding> {
        vec![Finding { severity: Severity::Error, subject: "filter".to_owned(), message: self.0.clone(), advice: None }]
    }
    fn test_frames(&self, _: &[(u64, Vec<u8>)]) -> anyhow::Result<Vec<TestVerdict>> {
        bail!("there is no filter: {}", self.0)
    }
}
