//! Thousands of phones at once, from few addresses, under an enforcing filter that allows nobody.

use std::{net::Ipv4Addr, thread};

use anyhow::{Context, Result, ensure};
use pbx_tests::phone::sipp;

use super::{Site, UDP, on_site, server};

const SOURCES: u32 = 20;
/// What the daemon may use with all of them registered, bytes.
const MEMORY: u64 = 100 << 20;

#[test]
fn ten_thousand_extensions_from_twenty_addresses_register_and_none_fails() {
    on_site(|site, daemon| {
        register(site, 10_000)?;
        let status = site.pbx.pbx("status")?;
        let memory = status.pointer("/load/memory_bytes").and_then(serde_json::Value::as_u64);
        ensure!(memory.is_some_and(|memory| memory < MEMORY), "{status:#}");
        daemon.stop()
    });
}

/// Imports so many extensions and lets SIPp register all of them.
fn register(site: &Site, count: u32) -> Result<()> {
    let list = site.sandbox.directory().join("extensions.csv");
    let rows: String = (20_000..20_000 + count).map(|number| format!("{number},Phone {number}\n")).collect();
    std::fs::write(&list, format!("number,name\n{rows}"))?;
    let imported = site.pbx.pbx(&format!("ext import {}", list.display()))?;
    assert_eq!(imported["added"], count, "{imported:.300}");
    let made = imported["passwords"].as_array().context("passwords")?;
    let text = |value: &serde_json::Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let phones: Vec<(u32, String)> = made
        .iter()
        .map(|one| Ok((text(one, "extension_number").parse()?, text(one, "extension_password"))))
        .collect::<Result<_>>()?;

    let bad = &site.lab.bad;
    let sources: Vec<Ipv4Addr> = (0..SOURCES).map(|index| Ipv4Addr::new(10, 77, 2, 100 + index as u8)).collect();
    sources.iter().try_for_each(|source| bad.add_address((*source).into()))?;
    assert_eq!(site.pbx.pbx("allow list")?["items"].as_array().map(Vec::len), Some(0));
    let status = site.pbx.pbx("status")?;
    assert_eq!(status.pointer("/filter/mode"), Some(&"enforce".into()), "{status:#}");

    let each = phones.len().div_ceil(SOURCES as usize);
    let counted: Result<Vec<sipp::Counted>> = thread::scope(|scope| {
        let running: Vec<_> = sources
            .iter()
            .zip(phones.chunks(each))
            .map(|(source, phones)| {
                let directory = site.sandbox.directory().join(format!("sipp-{source}"));
                let (phones, server) = (phones.to_vec(), server(bad, UDP));
                scope.spawn(move || {
                    sipp::register(&bad.network, &directory, ((*source), 5080).into(), server, phones, 40)
                })
            })
            .collect();
        running.into_iter().map(|one| one.join().map_err(|_| anyhow::anyhow!("sipp panicked"))?).collect()
    });
    let counted = counted?;
    let (successful, failed) =
        (counted.iter().map(|one| one.successful).sum::<u64>(), counted.iter().map(|one| one.failed).sum::<u64>());
    ensure!((successful, failed) == (count.into(), 0), "{counted:?} {:#}", site.pbx.pbx("transport status")?);
    let registered = site.pbx.pbx("reg list --limit 1")?;
    assert_eq!(registered["count"], count, "{registered:#}");
    for source in &sources {
        let explained = site.pbx.pbx(&format!("explain {source}"))?;
        assert_eq!(explained["fate"], "police", "{explained:#}");
        assert_eq!(explained["registered"].as_array().map(Vec::len), Some(each), "{source}");
    }
    assert_eq!(site.pbx.pbx("block list")?["items"].as_array().map(Vec::len), Some(0));
    Ok(())
}
