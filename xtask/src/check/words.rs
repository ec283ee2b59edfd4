//! Nothing in the repository names the machine on which it was written: no folder of a person or of
//! root, no host that only one network knows, no registry other than the public one.

use anyhow::{Result, bail};

use super::tree;

/// Written in two halves, so that this file passes its own check.
const FOLDERS: [&str; 3] = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/")];
const NETWORKS: [&str; 5] = [
    concat!(".inter", "nal"),
    concat!(".cor", "p"),
    concat!(".la", "n"),
    concat!(".intra", "net"),
    concat!(".loc", "aldomain"),
];
const PUBLIC_REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn check() -> Result<()> {
    let files = tree::files(&crate::root())?;
    let faults: Vec<String> = files.iter().flat_map(|file| faults(&file.path, &file.text)).collect();
    if faults.is_empty() {
        return Ok(());
    }
    bail!("what belongs to one machine only:\n    {}", faults.join("\n    "))
}

fn faults(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let mut fault = |what: &str| faults.push(format!("{path}:{number}: {what}"));
        for folder in FOLDERS.into_iter().filter(|folder| names_folder(line, folder)) {
            fault(&format!("the folder {folder}"));
        }
        if let Some(host) = private_host(line) {
            fault(&format!("the host {host}"));
        }
        if path == "Cargo.lock" && line.starts_with("source = ") && !line.contains(PUBLIC_REGISTRY) {
            fault(&format!("a crate that is not from the public registry: {line}"));
        }
        if path.ends_with(".cargo/config.toml") && (line.starts_with("[source") || line.starts_with("[registr")) {
            fault("a registry of one machine");
        }
    }
    faults
}

/// An absolute path only: `tests/work/` is a folder of somebody's project, and none of a machine.
fn names_folder(line: &str, folder: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '*' | '}' | '$');
    line.match_indices(folder).any(|(at, _)| !line[..at].ends_with(inside))
}

/// The host of an URL, if only a private network can know it.
fn private_host(line: &str) -> Option<&str> {
    line.match_indices("://").find_map(|(at, mark)| {
        let rest = &line[at + mark.len()..];
        let host = rest.split(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '-' | '@' | '_'))).next()?;
        let host = host.rsplit('@').next()?;
        NETWORKS.iter().any(|network| host.ends_with(network)).then_some(host)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_one_machine_is_found_with_its_line() {
        let text = format!("fine\nsee {}notes.md", FOLDERS[2]);
        assert_eq!(faults("README.md", &text), [format!("README.md:2: the folder {}", FOLDERS[2])]);
    }

    #[test]
    fn a_folder_inside_the_project_is_fine() {
        assert!(faults("a.rs", &format!("\"tests{}x\" and ${{x}}{0}y", FOLDERS[2])).is_empty());
    }

    #[test]
    fn a_host_of_a_private_network_is_found() {
        let text = format!("https://crates{}:8080/index", NETWORKS[0]);
        assert_eq!(faults("a.md", &text), [format!("a.md:1: the host crates{}", NETWORKS[0])]);
        assert!(faults("a.md", "https://example.com/internal and 10.0.0.1").is_empty());
    }

    #[test]
    fn a_lock_file_may_name_the_public_registry_only() {
        assert!(faults("Cargo.lock", &format!("source = \"{PUBLIC_REGISTRY}\"")).is_empty());
        assert_eq!(faults("Cargo.lock", "source = \"git+https://example.com/x\"").len(), 1);
    }

    #[test]
    fn a_cargo_configuration_replaces_no_registry() {
        assert_eq!(faults(".cargo/config.toml", "[source.crates-io]").len(), 1);
    }
}
