//! The files of `systemd/`, judged by systemd's own tools. Nothing is started and nothing is installed:
//! users and folders are made below a folder that goes away.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

fn systemd(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("systemd").join(file)
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).env("SYSTEMD_PAGER", "").output();
    output.unwrap_or_else(|error| panic!("{program}: {error}; `cargo xtask setup` installs it"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What `systemd-analyze security` says about one setting of the service.
fn judgement(name: &str) -> Value {
    let service = systemd("pbx.service");
    let output =
        run("systemd-analyze", &["security", "--offline=true", "--json=short", service.to_str().expect("UTF-8")]);
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("a list of judgements");
    let row = rows.into_iter().find(|row| row["name"] == name);
    row.unwrap_or_else(|| panic!("systemd-analyze does not judge {name}"))
}

#[test]
fn the_exposure_of_the_service_is_2_5_or_better() {
    let service = systemd("pbx.service");
    let output = run("systemd-analyze", &["security", "--offline=true", service.to_str().expect("UTF-8")]);
    let output = text(&output.stdout);
    let line = output.lines().find(|line| line.contains("Overall exposure level"));
    let line = line.unwrap_or_else(|| panic!("no overall exposure in:\n{output}"));
    let figure = line.split_whitespace().find_map(|word| word.parse::<f64>().ok());
    assert!(figure.is_some_and(|figure| figure <= 2.5), "{line}");
}

#[test]
fn systemd_finds_no_fault_in_the_units() {
    // With a program that is there: `verify` looks for the one of ExecStart.
    let folder = tempfile::tempdir().expect("a folder");
    let service = fs::read_to_string(systemd("pbx.service")).expect("the service");
    assert!(service.contains("ExecStart=/usr/bin/pbx serve --config /etc/pbx/pbx.toml\n"));
    fs::write(folder.path().join("pbx.service"), service.replace("/usr/bin/pbx", "/bin/true")).expect("a copy");
    fs::copy(systemd("run-pbx-bpf.mount"), folder.path().join("run-pbx-bpf.mount")).expect("a copy");

    for unit in ["pbx.service", "run-pbx-bpf.mount"] {
        let unit = folder.path().join(unit);
        let output = run("systemd-analyze", &["verify", "--man=no", unit.to_str().expect("UTF-8")]);
        let complaint = text(&output.stderr);
        assert!(output.status.success() && complaint.is_empty(), "{}: {complaint}", unit.display());
    }
}

#[test]
fn the_filter_of_system_calls_lets_in_what_bpf_needs() {
    for (set, call) in [("@privileged", "bpf"), ("@debug", "perf_event_open")] {
        let row = judgement(&format!("SystemCallFilter=~{set}"));
        let description = row["description"].as_str().expect("a description");
        assert!(description.contains(&format!("{call} is allowed")), "{description}");
    }
    for set in ["@module", "@mount", "@raw-io", "@reboot", "@swap"] {
        assert_eq!(judgement(&format!("SystemCallFilter=~{set}"))["set"], true, "{set}");
    }
}

#[test]
fn the_service_has_its_four_capabilities_and_no_other() {
    let service = fs::read_to_string(systemd("pbx.service")).expect("the service");
    let four = "CAP_BPF CAP_NET_ADMIN CAP_PERFMON CAP_NET_BIND_SERVICE";
    for key in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        let values: Vec<_> = service.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect();
        assert_eq!(values, [four], "{key}");
    }
    assert!(service.lines().any(|line| line == "User=pbx"));
}

#[test]
fn the_ports_of_calls_are_reserved_before_the_daemon_starts() {
    let text = fs::read_to_string(systemd("sysctl.d/pbx.conf")).expect("the reserved ports");
    let settings: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let ports = pbx_core::settings::Settings::default().filter.media_ports;
    assert_eq!(settings, [format!("{} = {ports}", pbx::host::reserved::SYSCTL)]);
    let service = fs::read_to_string(systemd("pbx.service")).expect("the service");
    let at = |line: &str| service.lines().position(|other| other.starts_with(line));
    let (reserves, serves) = (at("ExecStartPre=-+/usr/lib/systemd/systemd-sysctl pbx.conf"), at("ExecStart=/usr"));
    assert!(reserves.is_some() && reserves < serves);
}

#[test]
fn a_new_machine_gets_the_user_the_groups_and_the_folders() {
    let root = tempfile::tempdir().expect("a folder");
    fs::create_dir(root.path().join("etc")).expect("a folder");
    let at_root = format!("--root={}", root.path().display());
    for (program, arguments) in
        [("systemd-sysusers", vec![at_root.as_str()]), ("systemd-tmpfiles", vec![at_root.as_str(), "--create"])]
    {
        // The tools read from standard input what they would otherwise look for below the root.
        let file = systemd(&format!("{}.d/pbx.conf", program.trim_start_matches("systemd-")));
        let output = Command::new(program)
            .args(&arguments)
            .arg("-")
            .stdin(fs::File::open(&file).expect("the configuration"))
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}; `cargo xtask setup` installs it"));
        assert!(output.status.success(), "{program}: {}", text(&output.stderr));
    }

    let passwd = fs::read_to_string(root.path().join("etc/passwd")).expect("users");
    let user = passwd.lines().find_map(|line| line.strip_prefix("pbx:")).expect("the user pbx");
    let uid: u32 = user.split(':').nth(1).and_then(|uid| uid.parse().ok()).expect("a number");
    assert!(uid != 0 && user.ends_with("nologin"), "{user}");
    let group = fs::read_to_string(root.path().join("etc/group")).expect("groups");
    for name in ["pbx:", "pbx-admin:", "pbx-view:"] {
        assert!(group.lines().any(|line| line.starts_with(name)), "{name} in {group}");
    }
    for (folder, mode) in [("run/pbx", 0o755), ("run/pbx/bpf", 0o700)] {
        let metadata = fs::metadata(root.path().join(folder)).expect(folder);
        assert_eq!((metadata.permissions().mode() & 0o7777, metadata.uid()), (mode, uid), "{folder}");
    }
}
