//! The guard end to end: the real daemon, its kernel filter, real scanners, and offices that must not suffer.

mod attackers;
mod complaints;
mod explained;
mod offices;
mod scenery;

use anyhow::Result;
use pbx_tests::site::Site;

/// The neighbours' links are private networks, which are local unless others are named: attackers come from elsewhere.
fn from_elsewhere(site: &Site) -> Result<()> {
    site.pbx.pbx("guard set network.local_networks=192.168.0.0/16").map(|_| ())
}

/// The messages of events of a kind, the newest first.
fn events(site: &Site, kind: &str) -> Result<Vec<String>> {
    let list = site.pbx.pbx("events")?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let of_kind = items.iter().filter(|event| event["kind"] == kind);
    Ok(of_kind.filter_map(|event| event["message"].as_str().map(str::to_owned)).collect())
}
