//! Whom a change would lock out: vital addresses and connected peers, judged by the rules as they would be
//! afterwards. Between a plan and its carrying out; the words of a refused block are `pbx_core::lockout`'s.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
    net::IpAddr,
};

use pbx_core::{
    address::Prefix,
    lockout::{self, Peer, Surroundings},
    rule::{Action, Rule},
    settings::{Enforcement, Settings},
    time::Timestamp,
};

use super::{Book, OpError, Operations, change::Plan, enforcement};
use crate::filter::KernelView;

/// The service name under which [`Surroundings`] lists connections to sshd.
pub(super) const SSH: &str = "ssh";
/// Peers that a refusal names.
const NAMED: usize = 3;

/// A peer that would be dropped, and what of the rules does it from when.
#[derive(Clone, Debug)]
struct Cut {
    peer: Peer,
    block: Prefix,
    from: Timestamp,
}

impl Operations {
    /// Refuses a plan that covers what is vital, or that drops connected peers who pass now. Rules are judged as
    /// if they were enforced: those that are made while the filter monitors drop as soon as it does not.
    pub(super) async fn lets_in(&self, plan: &Plan, force: bool) -> Result<(), OpError> {
        let blocks = plan.added.iter().any(|rule| rule.action == Action::Block);
        let exposes = plan.removed.iter().any(|rule| rule.action == Action::Allow);
        if !blocks && (force || !exposes) {
            return Ok(());
        }
        let mut surroundings = self.look_around().await?;
        // A phone that is registered proved who it is: cutting it off is said first.
        surroundings.peers.extend(self.registered_peers().await);
        let now = self.now();
        let cuts = if force { Vec::new() } else { cuts(&self.book(), plan, &surroundings, now) };
        refuse_blocks(plan, &surroundings, &cuts, force, now)?;
        refuse(&cuts, now)
    }

    /// Refuses settings under which rules drop connected peers and did not before. `let_in`: whoever is connected
    /// over ssh will be allowed first.
    pub(super) async fn enforcement_lets_in(
        &self,
        old: &Settings,
        new: &Settings,
        let_in: bool,
        force: bool,
    ) -> Result<(), OpError> {
        let drops = |settings: &Settings| enforcement::of_rules(settings) == Enforcement::Enforce;
        if force || drops(old) || !drops(new) {
            return Ok(());
        }
        let mut surroundings = self.look_around().await?;
        surroundings.peers.extend(self.registered_peers().await);
        let now = self.now();
        let cuts: Vec<Cut> = {
            let book = self.book();
            let exposed = exposed(&surroundings).filter(|peer| !(let_in && peer.service == SSH));
            let cut = |peer: &Peer| {
                let (from, block) = first_block(&book.covering(&Prefix::host(peer.addr), now), now)?;
                Some(Cut { peer: peer.clone(), block, from })
            };
            exposed.filter_map(cut).collect()
        };
        refuse(&cuts, now)
    }
}

impl Operations {
    /// Refuses settings under which default deny shuts out whoever is connected to a protected port or registered, and
    /// did not before.
    pub(super) async fn default_deny_lets_in(
        &self,
        old: &Settings,
        new: &Settings,
        force: bool,
    ) -> Result<(), OpError> {
        if force || enforcement::of_default_deny(new) != Enforcement::Enforce {
            return Ok(());
        }
        let mut surroundings = self.everybody_around().await?;
        let is_protected = self.protected_ports();
        surroundings.peers.retain(|peer| peer.service != SSH && is_protected(peer.port));
        surroundings.peers.extend(self.registered_peers().await);
        let mut peers: BTreeMap<IpAddr, Peer> = BTreeMap::new();
        for peer in exposed(&surroundings) {
            peers.entry(peer.addr.to_canonical()).or_insert_with(|| peer.clone());
        }
        let (old, new) = (old.clone(), new.clone());
        let shut_out = self
            .with_filter(move |filter| {
                let mut shut_out = Vec::new();
                for (addr, peer) in peers {
                    let view = filter.explain(addr)?;
                    if is_denied(addr, &view, &new) && !is_denied(addr, &view, &old) {
                        shut_out.push(peer);
                    }
                }
                anyhow::Ok(shut_out)
            })
            .await?
            .map_err(|error| OpError::filter(format!("cannot read the filter's tables: {error:#}")))?;
        if shut_out.is_empty() {
            return Ok(());
        }
        let named: Vec<String> = shut_out.iter().take(NAMED).map(Peer::to_string).collect();
        let more = match shut_out.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        Err(OpError::needs_force(format!(
            "default deny would shut out {}{more}; nothing was changed: name their networks in network.local_networks or put them on the allow list (`pbx allow add ADDRESS`), --force does it all the same",
            named.join("; ")
        )))
    }
}

/// Whether default deny keeps an address from protected ports.
pub(super) fn is_denied(addr: IpAddr, view: &KernelView, settings: &Settings) -> bool {
    let is_allowed = view.manual.as_ref().is_some_and(|manual| manual.action == Action::Allow);
    enforcement::of_default_deny(settings) == Enforcement::Enforce
        && !(view.own || is_allowed || view.known.is_some() || is_local(addr, view, settings))
}

/// Whether an address is local for default deny.
pub(super) fn is_local(addr: IpAddr, view: &KernelView, settings: &Settings) -> bool {
    let networks = &settings.network.local_networks;
    let is_link_local = matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local());
    is_link_local || if networks.is_empty() { view.connected } else { networks.contains(addr) }
}

/// Peers that rules can hurt: the machine's own addresses pass before every rule.
fn exposed(surroundings: &Surroundings) -> impl Iterator<Item = &Peer> {
    let Surroundings { own, peers, .. } = surroundings;
    peers.iter().filter(|peer| !peer.addr.is_loopback() && !own.contains(&peer.addr))
}

/// The peers who would be dropped after the plan, and before it would not be or only later.
fn cuts(book: &Book, plan: &Plan, surroundings: &Surroundings, now: Timestamp) -> Vec<Cut> {
    let mut peers: BTreeMap<IpAddr, Vec<&Peer>> = BTreeMap::new();
    for peer in exposed(surroundings) {
        peers.entry(peer.addr.to_canonical()).or_default().push(peer);
    }
    // A list may have 300,000 ranges and a busy appliance 10,000 connections: most touch nobody.
    let touches =
        |rule: &&Rule| peers.range(rule.prefix.first()..).next().is_some_and(|(addr, _)| *addr <= rule.prefix.last());
    let removed: HashSet<i64> = plan.removed.iter().filter(touches).map(|rule| rule.id).collect();
    let added = Book::new(plan.added.iter().filter(touches).cloned().collect(), 0);
    let mut cuts = Vec::new();
    for (addr, peers) in &peers {
        let host = Prefix::host(*addr);
        let before = book.covering(&host, now);
        let mut after: Vec<&Rule> = before.iter().copied().filter(|rule| !removed.contains(&rule.id)).collect();
        after.extend(added.covering(&host, now));
        // As the book sorts them: the longest first, allow before block.
        after.sort_by_key(|rule| (Reverse(rule.prefix.len()), rule.action == Action::Block));
        let Some((from, block)) = first_block(&after, now) else { continue };
        if first_block(&before, now).is_none_or(|(earlier, _)| from < earlier) {
            cuts.extend(peers.iter().map(|peer| Cut { peer: (*peer).clone(), block, from }));
        }
    }
    cuts
}

/// When rules, the strongest first, begin to drop what they cover, and the range of the one that does. A rule that
/// ends uncovers the next one.
fn first_block(rules: &[&Rule], now: Timestamp) -> Option<(Timestamp, Prefix)> {
    let mut moments: Vec<Timestamp> = rules.iter().filter_map(|rule| rule.expires_at).collect();
    moments.push(now);
    moments.sort_unstable();
    moments.into_iter().filter(|moment| *moment >= now).find_map(|moment| {
        let first = rules.iter().find(|rule| rule.is_live(moment))?;
        (first.action == Action::Block).then_some((moment, first.prefix))
    })
}

/// Judges the blocks of a plan by themselves. What is blocked already is no new slip of the pen.
fn refuse_blocks(
    plan: &Plan,
    surroundings: &Surroundings,
    cuts: &[Cut],
    force: bool,
    now: Timestamp,
) -> Result<(), OpError> {
    let blocks = |rules: &'_ [Rule]| -> Vec<Prefix> {
        rules.iter().filter(|rule| rule.action == Action::Block).map(|rule| rule.prefix).collect()
    };
    let stand: HashSet<Prefix> = plan
        .removed
        .iter()
        .filter(|rule| rule.action == Action::Block && rule.is_live(now))
        .map(|rule| rule.prefix)
        .collect();
    let (known, new): (Vec<Prefix>, Vec<Prefix>) =
        blocks(&plan.added).into_iter().partition(|prefix| stand.contains(prefix));
    let peers = cuts.iter().map(|cut| cut.peer.clone()).collect();
    let hurt = Surroundings { peers, ..surroundings.clone() };
    let mut refusals = lockout::check_blocks(&known, &hurt, true);
    refusals.extend(lockout::check_blocks(&new, &hurt, force));
    refusals.truncate(lockout::MAX_REPORTED);
    let Some(first) = refusals.first() else { return Ok(()) };
    let error = OpError::from(first.clone());
    if refusals.len() == 1 {
        return Err(error);
    }
    let all: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    Err(error.with_detail(all.join("\n")))
}

fn refuse(cuts: &[Cut], now: Timestamp) -> Result<(), OpError> {
    if cuts.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = cuts
        .iter()
        .take(NAMED)
        .map(|Cut { peer, block, from }| {
            let when = if *from > now { format!(", from {from} on") } else { String::new() };
            format!("{peer}, by the block rule {block}{when}")
        })
        .collect();
    let more = match cuts.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    Err(OpError::needs_force(format!(
        "this would cut established connections: {}{more}; nothing was changed, --force does it all the same",
        named.join("; ")
    )))
}
