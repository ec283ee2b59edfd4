//! Whole commands against a served API with a filter in memory: what they do and the code that they end with.

use std::{path::PathBuf, sync::Arc};

use clap::Parser;
use tokio::sync::watch;

use super::*;
use crate::{
    api::{Server, bind, router},
    ops::{Role, fake::Bench},
};

struct Machine {
    bench: Bench,
    socket: PathBuf,
    ending: watch::Sender<bool>,
}

impl Machine {
    async fn of(role: Option<Role>) -> Self {
        let bench = Bench::new().await;
        let socket = bench.folder.path().join("pbx.sock");
        let (ending, ended) = watch::channel(false);
        let router = router(bench.operations.clone(), Arc::new(move |_, _| role), Arc::default(), ended.clone());
        tokio::spawn(Server::new(bind(&socket).unwrap(), router, ended).run());
        Self { bench, socket, ending }
    }

    /// The exit code of a command.
    async fn pbx(&self, line: &str) -> u8 {
        code(&self.socket, line).await
    }
}

async fn code(socket: &Path, line: &str) -> u8 {
    // Words with blanks in them are written with underscores; the names of rules have underscores of their own.
    let words = line.split(' ').map(|word| if word.contains('=') { word.to_owned() } else { word.replace('_', " ") });
    let cli = Cli::try_parse_from(std::iter::once("pbx".to_owned()).chain(words)).unwrap();
    let session = Session { client: Client::new(socket.to_path_buf()), json: cli.json };
    match dispatch(session, cli.command).await {
        Ok(()) => 0,
        Err(failure) => failure.code(),
    }
}

#[tokio::test]
async fn commands_end_with_the_code_that_says_what_happened() {
    let machine = Machine::of(Some(Role::Admin)).await;
    let file = machine.bench.folder.path().join("list.txt");
    std::fs::write(&file, "198.51.100.20\n198.51.100.21 allow\n").unwrap();
    let bad = machine.bench.folder.path().join("bad.txt");
    std::fs::write(&bad, "198.51.100.20\n10.0.0.300\n").unwrap();
    // Nobody listens there any more.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mail = format!(
        "notify set mail --host localhost --port {closed} --security none --from pbx@example.com --to admin@example.com"
    );
    let [csv, feed] = ["rules.csv", "feed.txt"].map(|name| machine.bench.folder.path().join(name));
    std::fs::write(&csv, "ip,action\n198.51.100.22,block\n").unwrap();
    std::fs::write(&feed, "198.51.100.30\n192.0.2.64/26 ; SBL1\n").unwrap();
    let (file, bad, csv, feed) = (file.display(), bad.display(), csv.display(), feed.display());
    for (line, expected) in [
        ("status", 0),
        ("--json status", 0),
        ("doctor", 0),
        ("top --once", 0),
        ("top --once --json", 0),
        ("top --interval 1ms", 2),
        ("events", 0),
        ("events --since 1h --json", 0),
        ("events --since yesterday", 2),
        ("block list", 0),
        ("block add 198.51.100.7 --for 2h --reason flood --dry-run", 0),
        ("block show 198.51.100.7", 3),
        ("block add 198.51.100.7 --for 2h --reason flood", 0),
        ("block add 41.202.0.0 255.255.0.0", 0),
        ("block add 10.0.0.5/24 --json", 0),
        ("block add 103.224.182.210.0", 2),
        ("block add 10.0.0.300", 2),
        ("block add 10.0.0.1/33", 2),
        ("block add 198.51.100.8 --until 2020-01-01T00:00:00Z", 2),
        ("block add 192.0.2.5", 7),
        ("block add 192.0.2.5 --force", 7),
        ("block add 203.0.113.50", 7),
        ("block add 0.0.0.0/0", 7),
        ("block add 203.0.113.50 --force", 0),
        ("block show 198.51.100.7", 0),
        ("block show 41.202.3.4 --json", 0),
        ("block list --filter contains(reason,'flood') --sort -since --limit 1", 0),
        ("block list --filter colour_eq_1", 2),
        ("block list --sort colour", 2),
        ("explain 198.51.100.7", 0),
        ("explain 203.0.113.200 --json", 0),
        ("explain 198.51.100.0/24", 2),
        ("block remove 41.202.3.4", 3),
        ("block remove 41.202.0.0/16 --dry-run", 0),
        ("block remove 41.202.0.0 255.255.0.0", 0),
        ("block remove 198.51.100.7 --allow-for 1d", 0),
        ("allow list", 0),
        ("allow remove 198.51.100.7", 0),
        ("allow remove 198.51.100.7", 3),
        ("allow add 2001:db8::/64 --reason office", 0),
        ("allow list --json", 0),
        ("guard list", 0),
        ("guard list --changed", 0),
        ("guard get guard.level1.packets", 0),
        ("guard get guard.nothing", 3),
        ("guard set guard.level1.packets 400", 0),
        ("guard set guard.level1.packets=0", 2),
        ("guard set guard.level2.packets 100", 2),
        ("guard set one two three", 2),
        ("guard reset guard.level1.packets", 0),
        ("guard reset --all --dry-run", 0),
        ("guard profile", 0),
        ("guard profile portsip --dry-run", 0),
        ("guard profile none", 3),
        ("guard diff", 0),
        ("guard diff --profile strict --json", 0),
        ("guard diff --profile none", 3),
        ("guard set guard.authentication.failures=10 --dry-run", 0),
        ("guard pending", 0),
        ("guard confirm", 3),
        ("guard rollback", 3),
        ("guard set guard.authentication.failures=10 --confirm-within 5s", 2),
        ("guard set guard.authentication.failures=10 --confirm-within 2m", 0),
        ("guard pending", 0),
        ("guard pending --json", 0),
        ("status", 0),
        ("guard set guard.level1.packets=300", 7),
        ("guard profile strict", 7),
        ("guard rollback", 0),
        ("guard profile strict --confirm-within 10s", 0),
        ("guard confirm", 0),
        ("firewall mode monitor --confirm-within 1h", 0),
        ("guard reset --all --confirm-within 1h", 0),
        ("guard rollback --json", 0),
        ("firewall status", 0),
        ("firewall mode enforce --dry-run", 0),
        ("firewall attach eth0", 0),
        ("firewall detach eth0 --json", 0),
        ("firewall attach a/b", 2),
        ("firewall stats", 0),
        (&format!("firewall test {file}"), 2),
        ("firewall test /nonexistent.pcap", 1),
        (&format!("block import {file} --dry-run"), 0),
        (&format!("block import {file}"), 0),
        (&format!("block import {bad}"), 2),
        (&format!("block import {csv} --csv --dry-run"), 0),
        (&format!("block import {csv}"), 2),
        ("block import --fail2ban=/nonexistent.sqlite3", 1),
        ("notify show", 0),
        ("notify show --json", 0),
        ("notify test mail", 3),
        ("notify set mail --host localhost --security none --from pbx@example.com", 2),
        (&format!("{mail} --dry-run"), 0),
        (&mail, 0),
        ("notify set mail --security loud", 2),
        ("notify test mail", 7),
        ("notify on mail", 7),
        ("notify off mail", 0),
        ("notify set webhook ftp://example.com/", 2),
        ("notify set webhook https://example.com/hook", 0),
        ("notify set webhook --no-key", 0),
        ("notify show", 0),
        ("notify history", 0),
        ("notify history --json", 0),
        ("notify remove webhook --dry-run", 0),
        ("notify remove webhook", 0),
        ("notify remove webhook", 3),
        ("feed list", 0),
        (&format!("feed add listed {feed} --every 1h --dry-run"), 0),
        (&format!("feed add listed {feed} --every 1m"), 2),
        (&format!("feed add listed {feed} --every 1h"), 0),
        (&format!("feed add broken {bad}"), 7),
        (&format!("feed add broken {bad} --force"), 0),
        ("feed list --json", 0),
        ("feed show listed", 0),
        ("feed show broken", 0),
        ("feed show none", 3),
        ("block show 198.51.100.30", 0),
        ("feed refresh broken", 7),
        ("feed refresh listed", 0),
        ("feed set listed --max-entries 10", 0),
        ("feed disable listed", 0),
        ("feed refresh listed", 2),
        ("feed list", 0),
        ("feed enable listed", 0),
        ("feed remove listed --dry-run", 0),
        ("feed remove listed --json", 0),
        ("feed remove listed", 3),
        ("feed remove broken", 0),
        ("block import /nonexistent", 1),
        ("block export --all", 0),
        ("block flush --dry-run", 0),
        ("block flush --yes", 0),
    ] {
        assert_eq!(machine.pbx(line).await, expected, "pbx {line}");
    }
    assert_eq!(machine.bench.operations.export(None), "198.51.100.21 allow\n2001:db8::/64 allow # office\n");
}

#[tokio::test]
async fn commands_about_phones_end_with_the_code_that_says_what_happened() {
    let machine = Machine::of(Some(Role::Admin)).await;
    let file = |name: &str, text: &str| {
        let path = machine.bench.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let good = file("good.csv", "number,name\n103,Bob\n104,\n");
    let bad = file("bad.csv", "number,name\n105,Eve\n1x,Mallory\n");
    let (chain, key, other) = (file("chain", "chain"), file("key", "PRIVATE chain"), file("other", "PRIVATE other"));
    for (line, expected) in [
        ("ext list", 0),
        ("reg list", 0),
        ("ext add 101 --name Alice --dry-run", 0),
        ("ext show 101", 3),
        ("ext add 101 --name Alice", 0),
        ("ext add 101", 2),
        ("ext add 12", 2),
        ("ext add 911", 2),
        ("ext add 102 --tenant none", 3),
        ("ext add 102 --ask-password", 2),
        ("ext list --json --sort -tenant", 0),
        ("ext list --filter tenant_eq_'default'", 0),
        ("ext list --sort colour", 2),
        ("ext set 101 --name Alicia --disable", 0),
        ("ext set 101 --enable --json", 0),
        ("ext set 101 --forward-always 102 --forward-busy none --no-answer-after 30 --dnd on", 0),
        ("ext set 101 --forward-always 101", 2),
        ("ext set 101 --forward-always 12", 2),
        ("ext set 101 --forward-offline 112", 2),
        ("ext set 101 --no-answer-after 4", 2),
        ("ext set 101 --no-answer-after 99999999999", 2),
        ("ext list --search 102", 0),
        ("ext show 101", 0),
        ("ext set 101 --forward-always none --dnd off", 0),
        ("ext passwd 101", 0),
        ("ext passwd 999", 3),
        (&format!("ext import {bad}"), 2),
        (&format!("ext import {good} --dry-run"), 0),
        (&format!("ext import {good}"), 0),
        (&format!("ext import {good}"), 2),
        (&format!("ext import {good} --update"), 0),
        ("ext import /nonexistent", 1),
        ("ext export", 0),
        ("ext remove 104", 2),
        ("ext remove 104 --dry-run", 0),
        ("ext remove 104 --yes", 0),
        ("ext remove 104 --yes", 3),
        ("reg drop 101", 3),
        ("reg ping 101", 3),
        ("tenant list", 0),
        ("tenant add branch --domain Sip.Example.com --policy min_length=10", 0),
        ("tenant add other --domain sip.example.com", 2),
        ("tenant add other --policy min_length=7", 2),
        ("ext add 101 --tenant branch", 0),
        ("ext show 101 --tenant branch", 0),
        ("tenant remove branch", 2),
        ("tenant remove branch --yes", 7),
        ("tenant remove default --yes", 7),
        ("tenant set branch --policy min_length=9 --name twig", 0),
        ("tenant remove twig --yes --force", 0),
        ("tenant remove twig --yes", 3),
        ("transport list", 0),
        ("transport status", 0),
        ("transport status udp:5060 --json", 0),
        ("transport status udp:5099", 3),
        ("transport add udp 5070 --dry-run", 0),
        ("transport add udp 5070", 0),
        ("transport add udp 5070", 2),
        ("transport add tcp 50000", 2),
        ("transport add tls 5071 --verification REQUIRE", 2),
        ("transport set udp:5070 --port 5072 --external-port 5060", 0),
        ("transport set udp:5072 --algorithms sha1", 2),
        ("transport certificate udp:5060", 2),
        ("transport certificate tls:5061", 0),
        ("transport certificate tls:5061 --self-signed", 0),
        (&format!("transport certificate tls:5061 --certificate {chain} --key {other}"), 2),
        (&format!("transport certificate tls:5061 --certificate {chain} --key {key}"), 0),
        ("web status", 0),
        ("web certificate", 3),
        ("web certificate --self-signed", 7),
        (&format!("web certificate --certificate {chain} --key {key}"), 7),
        ("audit list", 0),
        ("audit list --filter \"what\"", 2),
        ("audit verify", 0),
        ("audit verify --json", 0),
        ("audit export", 0),
        ("audit export /nowhere/file", 1),
        ("transport remove udp:5072", 2),
        ("transport remove udp:5072 --yes", 0),
    ] {
        assert_eq!(machine.pbx(line).await, expected, "pbx {line}");
    }
    machine.bench.signalling.register("phone", 1, "198.51.100.77:5062");
    machine.bench.signalling.fail(true);
    for (line, expected) in [
        ("reg list", 0),
        ("reg list --json --search 198.51.100.0/24", 0),
        ("ext show 101", 0),
        ("explain 198.51.100.77", 0),
        ("transport add udp 5074", 7),
        ("block add 198.51.100.77", 7),
        ("reg drop 101 --dry-run", 0),
        ("reg ping 101", 0),
        ("reg ping --id nobody", 3),
        ("reg drop --id phone", 0),
        ("reg drop --id phone", 3),
    ] {
        assert_eq!(machine.pbx(line).await, expected, "pbx {line}");
    }
}

#[tokio::test]
async fn commands_about_calls_end_with_the_code_that_says_what_happened() {
    let machine = Machine::of(Some(Role::Admin)).await;
    for line in ["call list", "call list --json", "cdr list", "cdr list --json", "cdr export"] {
        assert_eq!(machine.pbx(line).await, 0, "nothing is there: {line}");
    }
    machine.bench.fill().await;
    machine.bench.signalling.talk("00000000000000ac");
    let csv = machine.bench.folder.path().join("calls.csv");
    for (line, expected) in [
        ("call list", 0),
        ("call list --json --sort -id", 0),
        ("call show 00000000000000ab", 0),
        ("call show 00000000000000AB --json", 0),
        ("call show 00000000000000a", 3),
        ("call show x", 2),
        ("call show 1", 3),
        ("call hangup 00000000000000ab", 2),
        ("call hangup 00000000000000ab --dry-run", 0),
        ("call hangup 00000000000000ab --yes", 0),
        ("call hangup 00000000000000ab --yes", 3),
        ("call show c", 0),
        ("trace --call 1", 3),
        ("trace --call me", 2),
        ("cdr list", 0),
        ("cdr list --from 1d --to 2026-11-24 --number 101 --disposition answered --json", 0),
        ("cdr list --from never", 2),
        ("cdr list --number 1'or'1", 0),
        ("cdr list --sort colour", 2),
        ("cdr show 00000000000000cd", 0),
        ("cdr show d --json", 0),
        ("cdr show 1", 3),
        ("cdr show cd!", 2),
        (&format!("cdr export {}", csv.display()), 0),
        ("cdr export --csv --json", 2),
        ("cdr export --filter colour_eq_1", 2),
        ("cdr export /nonexistent/calls.csv", 1),
        ("cdr export /dev/full", 1),
    ] {
        assert_eq!(machine.pbx(line).await, expected, "pbx {line}");
    }
    let written = std::fs::read_to_string(&csv).unwrap();
    assert!(written.lines().nth(1).unwrap().starts_with("00000000000000cd,default,101,Alice,102,102,"), "{written}");
    // A filter that means nothing is told before the file is touched.
    let line = format!("cdr export {} --filter colour_eq_1", csv.display());
    assert_eq!(machine.pbx(&line).await, 2);
    assert_eq!(std::fs::read_to_string(&csv).unwrap(), written);
}

#[tokio::test]
async fn a_failing_filter_is_1_and_a_broken_doctor_too() {
    let machine = Machine::of(Some(Role::Admin)).await;
    machine.bench.filter.fail(true);
    assert_eq!(machine.pbx("block add 198.51.100.7").await, 1);
    machine.bench.filter.fail(false);
    machine.bench.store().close().await;
    assert_eq!(machine.pbx("doctor").await, 1);
}

#[tokio::test]
async fn a_viewer_looks_and_a_stranger_does_nothing() {
    let viewer = Machine::of(Some(Role::View)).await;
    assert_eq!(viewer.pbx("status").await, 0);
    assert_eq!(viewer.pbx("block add 198.51.100.7").await, 4);
    for line in ["trace", "call list", "call show ab", "call hangup ab --yes", "cdr list", "cdr show ab", "cdr export"]
    {
        assert_eq!(viewer.pbx(line).await, 4, "{line}");
    }
    let stranger = Machine::of(None).await;
    assert_eq!(stranger.pbx("status").await, 4);
}

#[tokio::test]
async fn messages_are_shown_until_the_daemon_ends() {
    let machine = Machine::of(Some(Role::Admin)).await;
    assert_eq!(machine.pbx("trace --ip 10.0.0.300").await, 2);
    let trace = &machine.bench.signalling.trace;
    let end = async {
        while !trace.is_followed() {
            tokio::task::yield_now().await;
        }
        machine.ending.send(true).unwrap();
    };
    let (code, ()) = tokio::join!(machine.pbx("trace --ip 198.51.100.0/24 --sip"), end);
    assert_eq!((code, trace.is_followed()), (5, false));
}

#[tokio::test]
async fn without_a_daemon_it_is_5() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("pbx.sock");
    assert_eq!(code(&socket, "status").await, 5);
    // A socket that nobody listens on any more.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert_eq!(code(&socket, "status").await, 5);
    assert_eq!(code(&socket, "serve --config /nonexistent/pbx.toml").await, 2);
}

#[tokio::test]
async fn a_list_longer_than_a_page_is_fetched_whole() {
    let machine = Machine::of(Some(Role::Admin)).await;
    let text: String = (0..250).map(|host| format!("198.51.100.{host}\n")).collect();
    let request = crate::ops::ImportRequest { text, ..crate::ops::ImportRequest::default() };
    machine.bench.operations.import(&crate::ops::Context::daemon(), request).await.unwrap();
    let session = Session { client: Client::new(machine.socket.clone()), json: true };
    let Cli { command: Command::Block(args::Block::List(args)), .. } =
        Cli::try_parse_from(["pbx", "block", "list", "--limit", "230", "--sort", "cidr"]).unwrap()
    else {
        panic!("not a list")
    };
    let listed = session.list("/api/security/blocks", &args, &[], None, &[]).await.unwrap();
    assert_eq!((listed.count, listed.items.len()), (250, 230));
    assert_eq!(listed.items[229]["cidr"], "198.51.100.229");
    assert_eq!(listed.rest().unwrap(), "20 more; --limit 250 shows all");
}

#[test]
fn completions_and_manual_pages_are_made_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    man(folder.path()).unwrap();
    for page in ["pbx.1", "pbx-block-add.1", "pbx-guard-set.1", "pbx-ext-add.1", "pbx-transport-certificate.1"] {
        assert!(folder.path().join(page).exists(), "{page}");
    }
    for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "pbx", &mut script);
        assert!(String::from_utf8(script).unwrap().contains("allow-for"), "{shell}");
    }
}
