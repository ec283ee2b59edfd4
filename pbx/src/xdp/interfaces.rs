//! Which interfaces are attached, and keeping them so: interfaces vanish and return, others appear.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use anyhow::bail;
use aya::programs::XdpMode as Mode;
use pbx_core::{address::Prefix, guard::Place};
use pbx_ebpf::abi::stats;
use pbx_xdp::{Maps, link};

use super::{State, Told, XdpFilter, pins, refusal, takeover::pin_of};
use crate::{
    config::Attach,
    filter::{AttachState, InterfaceStatus, NoSuchInterface},
    host::{Snapshot, Wanted, choose, links::XdpMode},
};

/// What is known of each interface that is or should be filtered.
#[derive(Debug, Default)]
pub(super) struct Table {
    by_name: BTreeMap<String, Known>,
    /// Elements of `STATS` by ifindex.
    stats: HashMap<u32, u32>,
    /// Interfaces that are looked at and left alone, and why.
    pub(super) left_alone: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
struct Known {
    index: u32,
    state: AttachState,
    note: Option<String>,
}

impl Table {
    /// As the status shows them.
    pub(super) fn list(&self) -> Vec<InterfaceStatus> {
        let status = |(name, known): (&String, &Known)| InterfaceStatus {
            name: name.clone(),
            index: (known.index != 0).then_some(known.index),
            attach: known.state,
            note: known.note.clone(),
        };
        self.by_name.iter().map(status).collect()
    }
    /// Interfaces with their element of `STATS`: name (or index), element.
    pub(super) fn counted(&self) -> Vec<(String, u32)> {
        let name =
            |index: u32| self.by_name.iter().find(|(_, known)| known.index == index).map(|(name, _)| name.clone());
        let mut counted: Vec<(String, u32)> = self
            .stats
            .iter()
            .map(|(index, element)| (name(*index).unwrap_or_else(|| format!("#{index}")), *element))
            .collect();
        counted.sort();
        counted
    }
    /// Interfaces that the kernel has a description of: ifindex, element of `STATS`.
    pub(super) fn described(&self) -> Vec<(u32, u32)> {
        self.stats.iter().map(|(index, element)| (*index, *element)).collect()
    }
    /// The name of an interface.
    pub(super) fn name(&self, index: u32) -> Option<String> {
        self.by_name.iter().find(|(_, known)| known.index == index).map(|(name, _)| name.clone())
    }
    /// The element of `STATS` of an interface: the one it has in the kernel, else a free one, else the shared.
    fn element(&mut self, maps: &Maps, index: u32) -> u32 {
        if let Some(element) = self.stats.get(&index) {
            return *element;
        }
        let kept = maps.stats_element(index);
        let taken = |element: &u32| self.stats.values().any(|other| other == element);
        let element = kept
            .filter(|element| *element > 0 && *element < stats::INTERFACES && !taken(element))
            .or_else(|| (1..stats::INTERFACES).find(|element| !taken(element)))
            .unwrap_or(0);
        self.stats.insert(index, element);
        element
    }
}

/// The networks of the machine's own interfaces.
pub(super) fn connected(snapshot: &Snapshot) -> Vec<Prefix> {
    let mut networks: Vec<Prefix> = snapshot
        .addresses
        .iter()
        .map(|address| address.network)
        .filter(|network| !network.is_host() && !network.is_everything())
        .filter(|network| !network.addr().is_loopback())
        .collect();
    networks.sort();
    networks.dedup();
    networks
}

/// The machine's place in its networks, as the guard knows it.
pub fn place(snapshot: &Snapshot) -> Place {
    let own = snapshot.addresses.iter().map(|address| address.addr);
    let gateways = snapshot.routes.iter().filter(|route| route.is_default()).filter_map(|route| route.gateway);
    let machine = own.chain(gateways).chain(snapshot.resolvers.iter().copied()).map(|addr| addr.to_canonical());
    Place { connected: connected(snapshot), machine: machine.collect() }
}

/// Puts the enforcement word of every interface in force.
pub(super) fn write(maps: &Maps, table: &Table, enforcement: u64) {
    maps.write_interface(0, 0, enforcement);
    for (index, element) in &table.stats {
        maps.write_interface(*index, *element, enforcement);
    }
}

/// Attaches what should be attached and is not; takes links of vanished interfaces away.
pub(super) fn reconcile(filter: &XdpFilter, state: &mut State, snapshot: &Snapshot) -> Vec<Told> {
    let mut told = Vec::new();
    if filter.mode == Attach::Off {
        return told;
    }
    let mut choice = choose(snapshot, &state.wanted);
    for (name, wanted) in &state.by_hand {
        choice.attach.retain(|named| *wanted || named.name != *name);
        if *wanted && !choice.attach.iter().any(|named| named.name == *name) {
            let list = choose(snapshot, &Wanted::List(vec![name.clone()]));
            choice.attach.extend(list.attach);
            choice.missing.extend(list.missing);
        }
    }
    state.interfaces.left_alone = choice.skip.iter().map(|named| (named.name.clone(), named.reason.clone())).collect();
    // Who named an interface is told why it is not filtered; with "auto" the status shows it.
    let named = match &state.wanted {
        Wanted::Auto => Vec::new(),
        Wanted::List(names) => names.clone(),
    };
    for skipped in choice.skip.iter().filter(|skipped| named.contains(&skipped.name)) {
        refuse(state, &mut told, &skipped.name, skipped.index, skipped.reason.clone());
    }
    for interface in &choice.attach {
        let program = snapshot.link(interface.index).and_then(|link| link.xdp);
        let ours = program.filter(|program| program.id == state.program);
        if let (Some(known), Some(_)) = (state.interfaces.by_name.get(&interface.name), ours)
            && known.index == interface.index
        {
            continue;
        }
        attach(filter, state, &mut told, &interface.name, interface.index, program.map(|p| p.mode));
    }
    for name in &choice.missing {
        wait(filter, state, &mut told, name);
    }
    let attached: Vec<String> = state.interfaces.by_name.keys().cloned().collect();
    for name in attached.iter().filter(|name| snapshot.link_named(name).is_none()) {
        wait(filter, state, &mut told, name);
    }
    told
}

fn refuse(state: &mut State, told: &mut Vec<Told>, name: &str, index: u32, why: String) {
    let known = Known { index, state: AttachState::Refused, note: Some(why.clone()) };
    let before = state.interfaces.by_name.insert(name.to_owned(), known);
    if before.is_none_or(|before| before.state != AttachState::Refused) {
        told.push(Told::warning(Some(name), format!("not filtered: {why}")));
    }
}

fn wait(filter: &XdpFilter, state: &mut State, told: &mut Vec<Told>, name: &str) {
    let before = state.interfaces.by_name.get(name).map(|known| (known.index, known.state));
    if matches!(before, Some((_, AttachState::Waiting | AttachState::Detached))) {
        return;
    }
    // Its link is defunct: the pin would stand in the way of the next one.
    if let Err(error) = link::remove(&pin_of(filter, name)) {
        tracing::debug!(%error, name, "the pin of a vanished interface stays");
    }
    if let Some((index, _)) = before {
        filter.maps.forget_interface(index);
        state.interfaces.stats.remove(&index);
    }
    let note = Some("it does not exist now; it is filtered as soon as it returns".to_owned());
    state.interfaces.by_name.insert(name.to_owned(), Known { index: 0, state: AttachState::Waiting, note });
    told.push(Told::note(Some(name), "does not exist; waiting for it".to_owned()));
}

fn attach(filter: &XdpFilter, state: &mut State, told: &mut Vec<Told>, name: &str, index: u32, there: Option<XdpMode>) {
    let pin = pin_of(filter, name);
    let element = state.interfaces.element(&filter.maps, index);
    let projected = state.projected();
    filter.maps.write_interface(index, element, projected.enforcement);
    let mut known = Known { index, state: AttachState::Native, note: None };
    let before = state.interfaces.by_name.get(name).map(|known| (known.index, known.state));
    if let Some((old, _)) = before.filter(|(old, _)| *old != index && *old != 0) {
        filter.maps.forget_interface(old);
        state.interfaces.stats.remove(&old);
    }
    // A pinned link of this very interface: its program is replaced, and no packet passes between.
    if link::ifindex(&pin) == Some(index) && link::replace(&mut state.loaded, &pin).is_ok() {
        let was_generic = before.is_some_and(|(_, state)| state == AttachState::Generic);
        if there == Some(XdpMode::Generic) || there.is_none() && was_generic {
            known.state = AttachState::Generic;
            known.note = Some("in the generic path, as before".to_owned());
        }
        told.push(Told::note(Some(name), "taken over from an earlier start".to_owned()));
        state.interfaces.by_name.insert(name.to_owned(), known);
        return;
    }
    if let Err(error) = link::remove(&pin) {
        return refuse(state, told, name, index, format!("an old link's pin {} stays: {error}", pin.display()));
    }
    let native = if filter.mode == Attach::Generic {
        None
    } else {
        match link::attach(&mut state.loaded, index, Mode::Driver, &pin) {
            Ok(()) => {
                told.push(Told::note(Some(name), "filtered, native".to_owned()));
                state.interfaces.by_name.insert(name.to_owned(), known);
                return;
            }
            Err(error) => Some(refusal::cause(name, "native", &error)),
        }
    };
    if filter.mode == Attach::Native {
        return refuse(state, told, name, index, native.unwrap_or_default());
    }
    match link::attach(&mut state.loaded, index, Mode::Skb, &pin) {
        Ok(()) => {
            known.state = AttachState::Generic;
            known.note = native.clone().map(|why| format!("in the generic path, several times slower: {why}"));
            match native {
                Some(why) => told.push(Told::warning(Some(name), format!("filtered in the generic path only: {why}"))),
                None => told.push(Told::note(Some(name), "filtered, generic".to_owned())),
            }
            state.interfaces.by_name.insert(name.to_owned(), known);
        }
        Err(error) => {
            refuse(state, told, name, index, native.unwrap_or_else(|| refusal::cause(name, "generic", &error)))
        }
    }
}

/// Links of an earlier start on interfaces that were not chosen now. Named interfaces are the whole wish: others
/// are let go. With "auto" an interface may just have no address yet: it stays filtered, by this program.
pub(super) fn settle_others(
    filter: &XdpFilter,
    state: &mut State,
    snapshot: &Snapshot,
    pinned: &[PathBuf],
) -> Vec<Told> {
    let mut told = Vec::new();
    for pin in pinned {
        let Some(name) = pins::interface(pin).filter(|name| !state.interfaces.by_name.contains_key(name)) else {
            continue;
        };
        let link = snapshot.link_named(&name);
        if let (Wanted::Auto, Some(link)) = (&state.wanted, link) {
            attach(filter, state, &mut told, &name, link.index, link.xdp.map(|program| program.mode));
            continue;
        }
        let message = match link::remove(pin) {
            Ok(()) if link.is_none() => continue,
            Ok(()) => Told::note(Some(&name), "no longer filtered: the configuration does not name it".to_owned()),
            Err(error) => Told::warning(Some(&name), format!("an earlier start's filter stays on it: {error}")),
        };
        told.push(message);
    }
    told
}

/// Attaches or detaches an interface because somebody said so.
pub(super) fn by_hand(filter: &XdpFilter, name: &str, wanted: bool) -> anyhow::Result<()> {
    if filter.mode == Attach::Off {
        bail!("attach = \"off\" in the configuration: change it and restart");
    }
    let snapshot = Snapshot::read()?;
    let mut state = filter.state();
    let state = &mut *state;
    let index = snapshot.link_named(name).map(|link| link.index);
    if wanted {
        let Some(_) = index else { bail!(NoSuchInterface(format!("there is no interface {name}: see `ip link`"))) };
        state.by_hand.insert(name.to_owned(), true);
        reconcile(filter, state, &snapshot);
        return match state.interfaces.by_name.get(name) {
            Some(known) if matches!(known.state, AttachState::Native | AttachState::Generic) => Ok(()),
            Some(known) => {
                let why = known.note.clone().unwrap_or_default();
                state.by_hand.remove(name);
                bail!("{name} is not filtered: {why}")
            }
            None => {
                state.by_hand.remove(name);
                bail!("{name} is not filtered: {}", state.interfaces.left_alone.get(name).cloned().unwrap_or_default())
            }
        };
    }
    let Some(known) = state.interfaces.by_name.get(name).cloned() else {
        bail!(NoSuchInterface(format!("{name} is not filtered; `pbx firewall status` lists those that are")))
    };
    link::remove(&pin_of(filter, name))?;
    filter.maps.forget_interface(known.index);
    state.interfaces.stats.remove(&known.index);
    let note = Some(format!("taken off by hand; `pbx firewall attach {name}` filters it again"));
    state.interfaces.by_name.insert(name.to_owned(), Known { index: known.index, state: AttachState::Detached, note });
    state.by_hand.insert(name.to_owned(), false);
    Ok(())
}

/// Takes every link away.
pub(super) fn detach_all(filter: &XdpFilter, state: &mut State) -> anyhow::Result<()> {
    for name in state.interfaces.by_name.keys() {
        link::remove(&pin_of(filter, name))?;
    }
    Ok(())
}
