//! The crates that the lock file holds: their licences, those we do not want, and what `pbx-core` must
//! not depend on. All of it from `cargo metadata`, so that no tool has to be installed first.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::licence;
use crate::step;

/// Crates that must not come in, not even through another one.
const BANNED: [(&str, &str); 5] = [
    ("openssl-sys", "TLS is rustls; the system's OpenSSL is not built upon"),
    ("native-tls", "TLS is rustls"),
    ("aws-lc-sys", "needs cmake and minutes to build; rustls uses ring"),
    ("libbpf-sys", "BPF is loaded by aya"),
    ("chrono", "time is jiff"),
];

/// `pbx-core` reads no clock, opens nothing and draws no lots; nor may what it is built on do so for it.
const IMPURE: [&str; 10] =
    ["tokio", "mio", "socket2", "nix", "libc", "rustix", "jiff", "rand", "getrandom", "fastrand"];

/// Crates whose manifest names a file instead of a licence: what we read there, of this version only.
const READ: [(&str, &str, &str); 2] = [("rsip", "0.4.0", "MIT"), ("rsip-derives", "0.4.0", "MIT")];

pub(super) fn check() -> Result<()> {
    let crates = Crates::read(&metadata(&[])?)?;
    let mut faults = crates.licence_faults();
    faults.extend(crates.banned_faults());
    // On the machines we build for: elsewhere the hashes ask libc what the processor can do.
    faults.extend(Crates::read(&metadata(&["--filter-platform", "x86_64-unknown-linux-gnu"])?)?.purity_faults()?);
    if faults.is_empty() {
        return Ok(());
    }
    bail!("what the lock file holds:\n    {}", faults.join("\n    "))
}

/// `--locked` makes a lock file that does not fit the manifests an error.
fn metadata(more: &[&str]) -> Result<Value> {
    let mut cargo = step::cargo(["metadata", "--format-version", "1", "--locked"]);
    cargo.args(more);
    let output = cargo.stderr(Stdio::inherit()).output().context("cargo metadata does not start")?;
    ensure!(output.status.success(), "cargo metadata failed; is Cargo.lock up to date?");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What the checks need of cargo's answer.
struct Crates {
    packages: Vec<Package>,
    /// A package's id → the ids of what it is built on, tests and build scripts left out.
    built_on: BTreeMap<String, Vec<String>>,
}

struct Package {
    id: String,
    name: String,
    version: String,
    licence: Option<String>,
}

impl Crates {
    fn read(metadata: &Value) -> Result<Self> {
        let packages = array(metadata, "packages")?.iter().map(Package::read).collect::<Result<_>>()?;
        let nodes = array(&metadata["resolve"], "nodes")?;
        let built_on = nodes.iter().map(|node| Ok((string(node, "id")?, normal_dependencies(node)?)));
        Ok(Self { packages, built_on: built_on.collect::<Result<_>>()? })
    }

    fn licence_faults(&self) -> Vec<String> {
        let fault = |package: &Package| {
            let read = READ.iter().find(|(name, version, _)| (*name, *version) == (&*package.name, &*package.version));
            let what = match package.licence.as_deref().or(read.map(|(.., licence)| *licence)) {
                None => "names no licence".to_owned(),
                Some(expression) => match licence::is_allowed(expression) {
                    Some(true) => return None,
                    Some(false) => format!("has a licence that is not on the list: {expression}"),
                    None => format!("has a licence that cannot be read: {expression:?}"),
                },
            };
            Some(format!("{} {} {what}", package.name, package.version))
        };
        self.packages.iter().filter_map(fault).collect()
    }

    fn banned_faults(&self) -> Vec<String> {
        let reason = |name: &str| BANNED.iter().find(|(banned, _)| *banned == name).map(|(_, reason)| *reason);
        let fault = |package: &Package| Some(format!("{} is banned: {}", package.name, reason(&package.name)?));
        self.packages.iter().filter_map(fault).collect()
    }

    fn purity_faults(&self) -> Result<Vec<String>> {
        let core = self.packages.iter().find(|package| package.name == "pbx-core").context("no crate pbx-core")?;
        let below = self.below(&core.id);
        let impure = |package: &&Package| below.contains(&package.id) && IMPURE.contains(&package.name.as_str());
        let fault = |package: &Package| format!("pbx-core is built on {}: it must stay free of IO", package.name);
        Ok(self.packages.iter().filter(impure).map(fault).collect())
    }

    /// Everything that a package is built on, at any depth.
    fn below(&self, id: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut next = vec![id.to_owned()];
        while let Some(id) = next.pop() {
            for dependency in self.built_on.get(&id).into_iter().flatten() {
                if found.insert(dependency.clone()) {
                    next.push(dependency.clone());
                }
            }
        }
        found
    }
}

impl Package {
    fn read(value: &Value) -> Result<Self> {
        let licence = value["license"].as_str().map(str::to_owned);
        let [id, name, version] = ["id", "name", "version"].map(|key| string(value, key));
        Ok(Self { id: id?, name: name?, version: version?, licence })
    }
}

/// Cargo marks a normal dependency by a kind of `null`; one for other machines only does not count.
fn normal_dependencies(node: &Value) -> Result<Vec<String>> {
    let is_normal = |kind: &Value| kind["kind"].is_null() && !kind["target"].as_str().is_some_and(is_elsewhere);
    let counts =
        |dependency: &&Value| dependency["dep_kinds"].as_array().is_none_or(|kinds| kinds.iter().any(is_normal));
    array(node, "deps")?.iter().filter(counts).map(|dependency| string(dependency, "pkg")).collect()
}

fn is_elsewhere(target: &str) -> bool {
    ["windows", "wasm", "target_arch = \"bpf\""].iter().any(|part| target.contains(part))
}

fn array<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value[key].as_array().with_context(|| format!("cargo metadata has no list `{key}`"))
}

fn string(value: &Value, key: &str) -> Result<String> {
    Ok(value[key].as_str().with_context(|| format!("cargo metadata has no text `{key}`"))?.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn crates(packages: &[(&str, Option<&str>)], edges: &[(&str, &str, Value)]) -> Crates {
        let package = |(name, licence): &(&str, Option<&str>)| json!({ "id": name, "name": name, "version": "1.0.0", "license": licence });
        let dependencies = |of: &str| -> Vec<Value> {
            let own = edges.iter().filter(|(from, ..)| *from == of);
            own.map(|(_, to, kind)| json!({ "pkg": to, "dep_kinds": [{ "kind": kind, "target": null }] })).collect()
        };
        let node = |(name, _): &(&str, Option<&str>)| json!({ "id": name, "deps": dependencies(name) });
        let packages_json: Vec<_> = packages.iter().map(package).collect();
        let nodes: Vec<_> = packages.iter().map(node).collect();
        Crates::read(&json!({ "packages": packages_json, "resolve": { "nodes": nodes } })).unwrap()
    }

    #[test]
    fn a_crate_without_an_allowed_licence_is_named() {
        let crates = crates(&[("good", Some("MIT")), ("bad", Some("GPL-3.0")), ("mute", None)], &[]);
        let faults = crates.licence_faults();
        assert_eq!(faults, ["bad 1.0.0 has a licence that is not on the list: GPL-3.0", "mute 1.0.0 names no licence"]);
    }

    #[test]
    fn a_banned_crate_is_named_with_the_reason() {
        let crates = crates(&[("openssl-sys", Some("MIT"))], &[]);
        assert_eq!(crates.banned_faults().len(), 1);
    }

    #[test]
    fn the_core_may_not_reach_io_through_another_crate() {
        let packages = [("pbx-core", Some("MIT")), ("between", Some("MIT")), ("tokio", Some("MIT"))];
        let edges = [("pbx-core", "between", Value::Null), ("between", "tokio", Value::Null)];
        assert_eq!(crates(&packages, &edges).purity_faults().unwrap().len(), 1);
    }

    #[test]
    fn what_only_the_tests_of_the_core_use_does_not_count() {
        let packages = [("pbx-core", Some("MIT")), ("rand", Some("MIT"))];
        let edges = [("pbx-core", "rand", json!("dev"))];
        assert!(crates(&packages, &edges).purity_faults().unwrap().is_empty());
    }
}
