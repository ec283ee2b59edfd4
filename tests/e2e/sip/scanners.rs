//! Scanners of extensions and passwords learn nothing about who exists.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};
use pbx_tests::sandbox::Namespace;

use super::{Site, on_site};

/// Extensions that exist, and as many that do not.
const THERE: std::ops::RangeInclusive<u32> = 2000..=2009;
const NOT_THERE: std::ops::RangeInclusive<u32> = 3000..=3009;

#[test]
fn svwar_sees_no_difference_between_extensions_that_exist_and_others() {
    on_site(|site, daemon| {
        populate(site)?;
        for method in ["REGISTER", "INVITE", "OPTIONS", "SUBSCRIBE", "MESSAGE"] {
            let scan = |numbers: &std::ops::RangeInclusive<u32>| {
                let range = format!("{}-{}", numbers.start(), numbers.end());
                let target = site.lab.bad.appliance_v4().to_string();
                run(
                    &site.lab.bad.network,
                    site.sandbox.directory(),
                    "svwar",
                    &["--force", "-m", method, "-e", &range, &target],
                )
            };
            let (there, not_there) = (scan(&THERE)?, scan(&NOT_THERE)?);
            assert_eq!(alike(&there, "20"), alike(&not_there, "30"), "{method}");
            if method == "REGISTER" {
                // It needs a number that is answered otherwise than one that it makes up.
                assert!(there.contains("svwar will probably not work"), "{there}");
            }
            let range = format!("{}-{}", THERE.start(), NOT_THERE.end());
            let target = site.lab.bad.appliance_v4().to_string();
            let mixed =
                run(&site.lab.bad.network, site.sandbox.directory(), "svwar", &["-m", method, "-e", &range, &target])?;
            assert!(THERE.clone().all(|number| !mixed.contains(&number.to_string())), "{method}: {mixed}");
        }
        daemon.stop()
    });
}

#[test]
fn svcrack_finds_a_password_only_if_it_has_it_and_sees_no_difference_without() {
    on_site(|site, daemon| {
        populate(site)?;
        let dictionary = site.sandbox.directory().join("dictionary");
        let words: Vec<String> = (0..30).map(|number| format!("word{number}")).collect();
        std::fs::write(&dictionary, words.join("\n"))?;
        let crack = |number: &str| {
            let target = site.lab.bad.appliance_v4().to_string();
            let dictionary = dictionary.display().to_string();
            run(&site.lab.bad.network, site.sandbox.directory(), "svcrack", &["-u", number, "-d", &dictionary, &target])
        };
        let (there, not_there) = (crack("2000")?, crack("3000")?);
        assert_eq!(alike(&there, "20"), alike(&not_there, "30"));
        site.pbx.feed("ext passwd 2000 --password-stdin", "Qx7-vT2m-Kd9w\n")?.ok()?;
        std::fs::write(&dictionary, words.join("\n") + "\nQx7-vT2m-Kd9w\n")?;
        let found = crack("2000")?;
        assert!(found.contains("Qx7-vT2m-Kd9w"), "{found}");
        daemon.stop()
    });
}

/// The extensions that exist, one of them registered, and limits that a whole scan fits in: what they hide is not the
/// matter here.
fn populate(site: &Site) -> Result<()> {
    site.pbx.pbx("guard set sip.challenges.source=1000")?;
    site.without_detectors()?;
    for number in THERE {
        let password = site.add(&number.to_string())?;
        if number == 2001 {
            assert_eq!(site.udp(&site.lab.good)?.register("2001", &password)?, 200);
        }
    }
    Ok(())
}

/// Everything that a scanner says.
fn run(network: &Namespace, directory: &Path, program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).env("HOME", directory).env("COLUMNS", "100");
    network.put(&mut command)?;
    let output =
        command.output().with_context(|| format!("{program} does not start; `cargo xtask setup` installs it"))?;
    Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// What it said, with its numbers masked, and what is another in every answer.
fn alike(said: &str, prefix: &str) -> String {
    let lines = said.lines().filter(|line| !line.trim().is_empty());
    let mut lines: Vec<String> = lines
        .map(|line| {
            let line = line.replace(&format!("| {prefix}"), "| nn").replace(&format!("{prefix}0"), "nn0");
            ["nonce=\"", "tag=", "branch=", "Call-ID: "].iter().fold(line, |line, key| masked(&line, key))
        })
        .collect();
    // The order of answers is the network's.
    lines.sort();
    lines.join("\n")
}

/// A line without the letters and digits that follow a key.
fn masked(line: &str, key: &str) -> String {
    let mut pieces = line.split(key);
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |line, piece| {
        let rest = piece.trim_start_matches(|one: char| one.is_ascii_alphanumeric() || "-_".contains(one));
        format!("{line}{key}{rest}")
    })
}
