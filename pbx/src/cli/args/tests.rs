use clap::{CommandFactory, error::ErrorKind};

use super::*;

#[test]
fn the_tree_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_is_understood() {
    for line in [
        "serve",
        "serve --config /etc/pbx/other.toml",
        "status",
        "status --watch",
        "--json status",
        "--socket /tmp/s doctor",
        "top --once --limit 3",
        "top --interval 500ms",
        "events --follow --since 1h",
        "events --limit 5 --filter kind eq",
        "explain 192.0.2.1",
        "firewall status",
        "firewall mode enforce --dry-run",
        "firewall mode enforce --force",
        "firewall attach eth0",
        "firewall detach eth0",
        "firewall stats --watch=2s",
        "firewall test -",
        "block list --sort -packets --limit 10 --watch",
        "block add 192.0.2.1",
        "block add 41.202.0.0 255.255.0.0 --for 2h --reason flood --force --dry-run --json",
        "block add 192.0.2.1 --until 2027-01-01T00:00:00Z",
        "block remove 192.0.2.1 --allow-for 1d",
        "block rm 192.0.2.1",
        "block show 192.0.2.0/24",
        "block import - --dry-run",
        "block import list.csv --csv",
        "block import --fail2ban",
        "block import --fail2ban=/var/lib/fail2ban/fail2ban.sqlite3 --dry-run",
        "feed list",
        "feed add spamhaus-drop https://www.example.com/drop.txt --every 12h --max-entries 5000",
        "feed add local /etc/pbx/blocked.txt --force --dry-run",
        "feed set local --every 5m --source /etc/pbx/other.txt",
        "feed show local",
        "feed refresh local --restore",
        "feed disable local",
        "feed enable local --dry-run",
        "feed remove local",
        "notify show",
        "notify set mail --host smtp.example.com --security tls --user pbx --password-stdin --from a@example.com --to b@example.com,c@example.com",
        "notify set mail --port 25 --dry-run",
        "notify set webhook https://example.com/hook --key-stdin",
        "notify set webhook --no-key",
        "notify test mail",
        "notify on mail",
        "notify off webhook --dry-run",
        "notify remove webhook",
        "notify history --limit 5",
        "block export --all",
        "block flush --yes",
        "block flush --automatic --dry-run",
        "allow list",
        "allow add 2001:db8::/64 --for 1d",
        "allow remove 192.0.2.1",
        "allow remove 192.0.2.1 --force",
        "guard list --changed",
        "guard get guard.level1.packets",
        "guard set guard.level1.packets 100",
        "guard set guard.level1.packets=100 guard.level2.packets=200 --dry-run",
        "guard reset guard.level1.packets",
        "guard reset --all --force",
        "guard set guard.manual.enforcement enforce --force",
        "guard profile",
        "guard profile strict --force",
        "ext list --filter enabled --limit 5",
        "ext add 101 --name Alice --caller-id 5550101 --tenant second --disabled --dry-run",
        "ext add 101 --password-stdin",
        "ext add 101 --ask-password",
        "extension show 101 --json",
        "ext set 101 --new-number 102 --name Bob --disable",
        "ext set 101 --enable",
        "ext remove 101 --yes",
        "ext rm 101",
        "ext passwd 101 --password-stdin",
        "ext import - --update --dry-run",
        "ext export --tenant second",
        "ext set 101 --forward-always 200 --forward-busy none --forward-no-answer 201 --forward-offline 202",
        "ext set 101 --no-answer-after 20 --dnd on",
        "ext set 101 --dnd off",
        "call list --watch",
        "call show 00ab --json",
        "call hangup 00ab --yes",
        "call hangup 00ab --dry-run",
        "cdr list",
        "cdr list --from 7d --to 2026-11-23 --number 101 --disposition no-answer --limit 5 --json",
        "cdr list --disposition no_answer --sort -billed_seconds --search alice",
        "cdr show 00cd",
        "cdr export",
        "cdr export --csv /tmp/calls.csv --from 1d",
        "cdr export --json - --disposition failed --filter why eq",
        "reg list --watch",
        "reg drop 101 --dry-run",
        "reg drop --id 5",
        "reg ping 101",
        "reg ping --id 5 --json",
        "transport list",
        "transport add tls 5071 --external-port 443 --algorithms sha256,md5 --certificate a --key b",
        "transport set udp:5060 --port 5070 --dry-run",
        "transport remove 2 --yes",
        "transport status",
        "transport status tls:5061 --watch",
        "transport certificate tls:5061",
        "transport certificate 3 --self-signed",
        "trace",
        "trace --ip 192.0.2.1 --ip 2001:db8::/32 --sip --json",
        "trace --call 00ab --sip",
        "tenant list",
        "tenant add branch --domain a.example --domain b.example --realm x --policy min_length=10",
        "tenant set branch --default --no-domains",
        "tenant remove branch --force --yes",
        "completions bash",
        "man /tmp/man",
    ] {
        let words = std::iter::once("pbx").chain(line.split(' '));
        // A condition has blanks and is one argument; only its first word matters here.
        let words = words.filter(|word| *word != "eq");
        assert!(Cli::try_parse_from(words).is_ok(), "{line}");
    }
}

#[test]
fn what_is_not_a_command_is_a_usage_error() {
    for (line, kind) in [
        ("block", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("block add", ErrorKind::MissingRequiredArgument),
        ("block add a b c", ErrorKind::TooManyValues),
        ("block add 192.0.2.1 --for 1h --until 2027-01-01T00:00:00Z", ErrorKind::ArgumentConflict),
        ("block flush --manual --automatic", ErrorKind::ArgumentConflict),
        ("block list --limit 0", ErrorKind::ValueValidation),
        ("firewall mode fast", ErrorKind::InvalidValue),
        ("guard set", ErrorKind::MissingRequiredArgument),
        ("guard reset", ErrorKind::MissingRequiredArgument),
        ("explain", ErrorKind::MissingRequiredArgument),
        ("ext add", ErrorKind::MissingRequiredArgument),
        ("ext add 101 --password x", ErrorKind::UnknownArgument),
        ("ext add 101 --password-stdin --ask-password", ErrorKind::ArgumentConflict),
        ("ext set 101 --enable --disable", ErrorKind::ArgumentConflict),
        ("reg drop", ErrorKind::MissingRequiredArgument),
        ("reg drop 101 --id 5", ErrorKind::ArgumentConflict),
        ("transport add tls 5071 --certificate a", ErrorKind::MissingRequiredArgument),
        ("transport certificate 3 --self-signed --certificate a --key b", ErrorKind::ArgumentConflict),
        ("trace 192.0.2.1", ErrorKind::UnknownArgument),
        ("trace --call", ErrorKind::InvalidValue),
        ("ext set 101 --dnd maybe", ErrorKind::InvalidValue),
        ("ext set 101 --no-answer-after soon", ErrorKind::ValueValidation),
        ("call show", ErrorKind::MissingRequiredArgument),
        ("call hangup", ErrorKind::MissingRequiredArgument),
        ("cdr list --disposition maybe", ErrorKind::InvalidValue),
        ("nonsense", ErrorKind::InvalidSubcommand),
    ] {
        let words = std::iter::once("pbx").chain(line.split(' '));
        let error = Cli::try_parse_from(words).expect_err(line);
        // clap has no kind of its own for too many positional words.
        let same =
            error.kind() == kind || (kind == ErrorKind::TooManyValues && error.kind() == ErrorKind::UnknownArgument);
        assert!(same, "{line}: {:?}", error.kind());
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn an_address_and_a_dotted_mask_are_one_range() {
    let cli = Cli::try_parse_from(["pbx", "block", "add", "41.202.0.0", "255.255.0.0"]).unwrap();
    let Command::Block(Block::Add(add)) = cli.command else { panic!("not block add") };
    assert_eq!(add.address.text(), "41.202.0.0 255.255.0.0");
}
