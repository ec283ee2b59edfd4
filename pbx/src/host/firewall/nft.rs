//! Judges the output of `nft -j list ruleset`: whether the base chains that see arriving packets
//! let a needed port in. Follows jumps, port matches, sets and verdict maps in the order of the
//! rules; every other condition leaves doubt. Refusals under a condition (a list of sources, an
//! invalid state) are passed over: they are not meant for everybody.

use std::collections::BTreeMap;

use serde_json::Value;

use super::ports::Ports;
use super::{Finding, Needed, State, Tool, Transport};

const ALL: (u16, u16) = (0, u16::MAX);
/// The kernel itself allows 16 jumps within each other.
const MAX_DEPTH: usize = 16;
/// Rules looked at for one port in one base chain; past this nothing is sure.
const MAX_STEPS: usize = 20_000;

/// Firewalls whose tables are judged by their own means.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Foreign {
    /// firewalld is at work and judged.
    pub(super) firewalld: bool,
    /// ufw is at work and judged.
    pub(super) ufw: bool,
}

/// What the ruleset says.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Base chains that see arriving packets and are judged here.
    pub(super) base_chains: usize,
    /// The needed ports that one of them does not let in for everybody.
    pub(super) findings: Vec<Finding>,
}

/// Judges each base chain for each needed port.
pub(super) fn judge(json: &str, needed: &[Needed], foreign: Foreign) -> serde_json::Result<Judged> {
    let document: Value = serde_json::from_str(json)?;
    let ruleset = Ruleset::of(&document);
    let mut judged = Judged::default();
    for base in ruleset.base_chains(foreign) {
        judged.base_chains += 1;
        let findings = needed.iter().filter_map(|one| {
            let state = Walk::through(&ruleset, &base, one)?;
            Some(finding(&base, one, state))
        });
        judged.findings.extend(findings);
    }
    Ok(judged)
}

fn finding(base: &Base<'_>, needed: &Needed, state: State) -> Finding {
    let (family, table, chain) = base.id;
    let name = format!("{family} {table} {chain}");
    let message = match state {
        State::Closed => format!("no rule of the nftables chain {name} lets {needed} in"),
        _ => format!("{needed} may be closed: the nftables chain {name} lets it in under conditions only"),
    };
    Finding { tool: Tool::Nftables, state, needed: Some(needed.clone()), message, command: Some(base.command(needed)) }
}

/// Family, table, chain.
type ChainId<'a> = (&'a str, &'a str, &'a str);

/// The parts of the document, found by their names.
#[derive(Default)]
struct Ruleset<'a> {
    chains: Vec<(ChainId<'a>, &'a Value)>,
    rules: BTreeMap<ChainId<'a>, Vec<&'a [Value]>>,
    sets: BTreeMap<ChainId<'a>, &'a Value>,
}

struct Base<'a> {
    id: ChainId<'a>,
    lets_rest_in: bool,
}

impl<'a> Ruleset<'a> {
    fn of(document: &'a Value) -> Self {
        let mut ruleset = Self::default();
        let objects = document["nftables"].as_array().into_iter().flatten();
        for (kind, body) in objects.filter_map(Value::as_object).flatten() {
            let text = |key: &str| body[key].as_str().unwrap_or_default();
            let id = |name| (text("family"), text("table"), text(name));
            match kind.as_str() {
                "chain" => ruleset.chains.push((id("name"), body)),
                "rule" => {
                    let expressions = body["expr"].as_array().map(Vec::as_slice);
                    let rules = ruleset.rules.entry(id("chain")).or_default();
                    rules.push(expressions.unwrap_or_default());
                }
                "set" | "map" => _ = ruleset.sets.insert(id("name"), &body["elem"]),
                _ => {}
            }
        }
        ruleset
    }

    /// The chains that filter what arrives.
    fn base_chains(&self, foreign: Foreign) -> Vec<Base<'a>> {
        let arriving = self.chains.iter().filter(|((family, ..), body)| {
            body["type"] == "filter"
                && matches!(body["hook"].as_str(), Some("input" | "prerouting"))
                && matches!(*family, "inet" | "ip" | "ip6")
        });
        let ours = arriving.filter(|((family, table, _), _)| {
            !(foreign.firewalld && *table == "firewalld" || foreign.ufw && self.is_ufw(family, table))
        });
        ours.map(|&(id, body)| Base { id, lets_rest_in: body["policy"] != "drop" }).collect()
    }

    fn is_ufw(&self, family: &str, table: &str) -> bool {
        let ufw = |(f, t, chain): ChainId<'_>| f == family && t == table && chain.starts_with("ufw");
        self.chains.iter().any(|&(id, _)| ufw(id))
    }
}

impl Base<'_> {
    /// What puts a rule before all others. Tables of iptables-nft may only be changed by iptables.
    fn command(&self, needed: &Needed) -> String {
        let transport = needed.transport;
        match self.id {
            ("ip", "filter", "INPUT") => {
                format!("iptables -I INPUT -p {transport} --dport {} -j ACCEPT", needed.ports(":"))
            }
            ("ip6", "filter", "INPUT") => {
                format!("ip6tables -I INPUT -p {transport} --dport {} -j ACCEPT", needed.ports(":"))
            }
            (family, table, chain) => {
                let ports = needed.ports("-");
                format!("nft insert rule {family} {table} {chain} {transport} dport {ports} accept")
            }
        }
    }
}

/// A way through the rules of one base chain, for one needed range.
struct Walk<'a> {
    ruleset: &'a Ruleset<'a>,
    transport: Transport,
    ports: Ports,
    steps: usize,
}

/// The packets that reach a rule or verdict: to these ports, perhaps under conditions.
#[derive(Debug, Clone)]
struct Reach {
    ports: Vec<(u16, u16)>,
    sure: bool,
}

impl<'a> Walk<'a> {
    /// None if every port is let in.
    fn through(ruleset: &'a Ruleset<'a>, base: &Base<'a>, needed: &Needed) -> Option<State> {
        let ports = Ports::of(needed);
        let mut walk = Walk { ruleset, transport: needed.transport, ports, steps: 0 };
        walk.chain(base.id, &Reach { ports: vec![ALL], sure: true }, 0);
        if walk.steps > MAX_STEPS {
            return Some(State::MayBeClosed);
        }
        if base.lets_rest_in {
            walk.ports.open_rest();
        }
        walk.ports.state()
    }

    fn chain(&mut self, id: ChainId<'a>, reach: &Reach, depth: usize) {
        let ruleset = self.ruleset;
        let rules = ruleset.rules.get(&id).into_iter().flatten();
        for expressions in rules {
            self.steps += 1;
            if depth > MAX_DEPTH || self.steps > MAX_STEPS {
                return;
            }
            let mut reach = reach.clone();
            for expression in *expressions {
                let Some((name, body)) = expression.as_object().and_then(|one| one.iter().next()) else {
                    continue;
                };
                if !self.step(id, name, body, &mut reach, depth) {
                    break;
                }
            }
            // A rule that returns for everybody ends the chain.
            let returns = expressions.last().is_some_and(|last| last.get("return").is_some());
            if returns && expressions.len() == 1 {
                return;
            }
        }
    }

    /// One expression of a rule; false if no packet of ours gets past it.
    fn step(&mut self, id: ChainId<'a>, name: &str, body: &'a Value, reach: &mut Reach, depth: usize) -> bool {
        match name {
            "match" => return self.narrow(id, body, reach),
            "vmap" => self.verdict_map(id, body, reach, depth),
            "counter" | "log" | "comment" | "mangle" | "notrack" => {}
            "xt" if body["name"] == "comment" => {}
            _ if self.verdict(id, name, body, reach, depth) => {}
            // A limit, a foreign match, a lookup that is not evaluated here.
            _ => reach.sure = false,
        }
        true
    }

    /// Whether `name` is a verdict; if so, it is taken.
    fn verdict(&mut self, id: ChainId<'a>, name: &str, body: &'a Value, reach: &Reach, depth: usize) -> bool {
        match name {
            "accept" if reach.sure => self.ports.open(&reach.ports),
            "accept" => self.ports.open_perhaps(&reach.ports),
            "drop" | "reject" if reach.sure => self.ports.close(&reach.ports),
            "drop" | "reject" | "return" | "continue" => {}
            "jump" | "goto" => {
                let target = body["target"].as_str().unwrap_or_default();
                self.chain((id.0, id.1, target), reach, depth + 1);
            }
            _ => return false,
        }
        true
    }

    /// `match`: what it leaves of `reach`; false if that is nothing.
    fn narrow(&mut self, id: ChainId<'a>, body: &'a Value, reach: &mut Reach) -> bool {
        let (op, right) = (body["op"].as_str().unwrap_or_default(), &body["right"]);
        let right = self.resolve(id, right);
        match (self.subject(&body["left"]), op) {
            (Subject::Port, "==" | "in") => match ranges(right) {
                Some(ranges) => reach.ports = overlap(&reach.ports, &ranges),
                None => reach.sure = false,
            },
            (Subject::Port, "!=") => match ranges(right) {
                Some(ranges) => reach.ports = overlap(&reach.ports, &complement(ranges)),
                None => reach.sure = false,
            },
            (Subject::Protocol, "==" | "in") => return self.is_ours(right),
            (Subject::Protocol, "!=") => return !self.is_ours(right),
            (Subject::Elsewhere, _) => return false,
            // `ct state established` is told as `in`; a new packet matches only what names it.
            (Subject::State, "==" | "in") if !names(right, "new") => return false,
            (Subject::State, "==" | "in") => {}
            (Subject::Input, "==") if right == "lo" => return false,
            (Subject::Input, "!=") if right == "lo" => {}
            _ => reach.sure = false,
        }
        !reach.ports.is_empty()
    }

    fn verdict_map(&mut self, id: ChainId<'a>, body: &'a Value, reach: &Reach, depth: usize) {
        let subject = self.subject(&body["key"]);
        let data = self.resolve(id, &body["data"]);
        let entries = data.get("set").unwrap_or(data).as_array().into_iter().flatten();
        for entry in entries.filter_map(Value::as_array) {
            let [key, verdict] = entry.as_slice() else {
                continue;
            };
            let mut reach = reach.clone();
            match subject {
                Subject::Port => match ranges(key) {
                    Some(ranges) => reach.ports = overlap(&reach.ports, &ranges),
                    None => reach.sure = false,
                },
                Subject::Protocol if !self.is_ours(key) => continue,
                Subject::Protocol => {}
                Subject::State if !names(key, "new") => continue,
                Subject::State => {}
                Subject::Input if key == "lo" => continue,
                Subject::Elsewhere => continue,
                Subject::Input | Subject::Other => reach.sure = false,
            }
            for (name, body) in verdict.as_object().into_iter().flatten() {
                self.verdict(id, name, body, &reach, depth);
            }
        }
    }

    fn subject(&self, left: &Value) -> Subject {
        let payload = (left["payload"]["protocol"].as_str(), left["payload"]["field"].as_str());
        match (payload, left["meta"]["key"].as_str(), left["ct"]["key"].as_str()) {
            ((Some("th"), Some("dport")), ..) => Subject::Port,
            ((Some("ip"), Some("protocol")) | (Some("ip6"), Some("nexthdr")), ..) => Subject::Protocol,
            ((Some("icmp" | "icmpv6" | "sctp" | "dccp" | "esp" | "ah" | "igmp"), _), ..) => Subject::Elsewhere,
            ((Some(of @ ("tcp" | "udp")), Some(field)), ..) => match of == self.transport.to_string() {
                false => Subject::Elsewhere,
                true if field == "dport" => Subject::Port,
                true => Subject::Other,
            },
            (_, Some("l4proto"), _) => Subject::Protocol,
            (_, Some("iif" | "iifname"), _) => Subject::Input,
            (_, _, Some("state")) => Subject::State,
            _ => Subject::Other,
        }
    }

    /// The elements of a named set or map (`@name`), or the value itself.
    fn resolve(&self, (family, table, _): ChainId<'a>, value: &'a Value) -> &'a Value {
        let name = value.as_str().and_then(|text| text.strip_prefix('@'));
        name.and_then(|name| self.ruleset.sets.get(&(family, table, name)).copied()).unwrap_or(value)
    }

    fn is_ours(&self, value: &Value) -> bool {
        let number = match self.transport {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        };
        let one = |value: &Value| *value == number || *value == self.transport.to_string();
        one(value) || elements(value).any(one)
    }
}

/// What a match looks at.
#[derive(Debug, Clone, Copy)]
enum Subject {
    /// The destination port of our transport.
    Port,
    /// The transport.
    Protocol,
    /// The state of the connection.
    State,
    /// The interface by which it came.
    Input,
    /// Another transport's header: never ours.
    Elsewhere,
    Other,
}

/// The members of a set, in the forms in which nft writes one.
fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    let all = value.get("set").unwrap_or(value).as_array().into_iter().flatten();
    all.map(|element| element.get("elem").map_or(element, |element| &element["val"]))
}

fn names(value: &Value, wanted: &str) -> bool {
    value == wanted || elements(value).any(|element| element == wanted)
}

/// A port, a range, or a set of these; none if anything else is among them.
fn ranges(value: &Value) -> Option<Vec<(u16, u16)>> {
    let port = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
    if let Some(port) = port(value) {
        return Some(vec![(port, port)]);
    }
    if let Some(range) = value.get("range") {
        return Some(vec![(port(&range[0])?, port(&range[1])?)]);
    }
    let is_set = value.is_array() || value.get("set").is_some();
    let parts = elements(value).map(|element| (!element.is_array()).then(|| ranges(element)).flatten());
    let parts: Option<Vec<_>> = parts.collect();
    is_set.then_some(parts?.concat())
}

fn overlap(a: &[(u16, u16)], b: &[(u16, u16)]) -> Vec<(u16, u16)> {
    let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a.0.max(b.0), a.1.min(b.1))));
    pairs.filter(|(first, last)| first <= last).collect()
}

fn complement(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut rest = Vec::new();
    let mut next = 0u32;
    for (first, last) in ranges {
        if u32::from(first) > next {
            rest.push((next as u16, first - 1));
        }
        next = next.max(u32::from(last) + 1);
    }
    if let Ok(next) = u16::try_from(next) {
        rest.push((next, u16::MAX));
    }
    rest
}

#[cfg(test)]
mod tests;
