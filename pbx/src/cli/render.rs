//! Answers for people: tables without borders, numbers with blanks, times as "12m ago".

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    net::IpAddr,
    time::{Duration, SystemTime},
};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use pbx_core::{address::Prefix, time::Timestamp};

/// Columns of a table when nobody knows how wide the screen is.
const WIDTH: u16 = 100;
/// A wider screen does not make a table easier to read.
const WIDEST: u16 = 120;
const NARROWEST: u16 = 60;

/// A table with a header; columns whose number is in `right` are numbers.
pub(super) struct Columns {
    table: Table,
    right: &'static [usize],
}

impl Columns {
    pub(super) fn new(header: &[&str], right: &'static [usize]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(width());
        table.set_header(header.iter().map(|name| name.to_uppercase()));
        Self { table, right }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.table.add_row(cells.into_iter().collect::<Vec<_>>());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

impl std::fmt::Display for Columns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = self.table.clone();
        let right = self.right;
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 1));
            if right.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for (index, line) in table.lines().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            f.write_str(line.trim_end())?;
        }
        Ok(())
    }
}

/// A text without anything that a terminal obeys but line ends and tabs: messages of strangers are shown. What is
/// taken out is written as JSON writes it, so that JSON means the same as before.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if is_obeyed(char) {
            plain.push_str(&format!("\\u{:04x}", u32::from(char)));
        } else {
            plain.push(char);
        }
    }
    plain.into()
}

/// Control characters (C0, C1, DEL), and those that turn the direction of writing round. All are in the plane that
/// four digits can name.
fn is_obeyed(char: char) -> bool {
    char.is_control() && !matches!(char, '\n' | '\t')
        || matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Prints a text and a line's end, [`plain`]. A reader that went away (`| head`) is no error.
pub(super) fn say(text: impl std::fmt::Display) {
    let written = writeln!(io::stdout().lock(), "{}", plain(&text.to_string()));
    if written.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        // Nobody will read the rest, and what is watched would go on for ever.
        std::process::exit(0);
    }
}

/// The same as indented JSON.
pub(super) fn say_json(value: &serde_json::Value) {
    say(serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Empties the screen between two looks, when there is a screen.
pub(super) fn clear() {
    if io::stdout().is_terminal() {
        let _ = write!(io::stdout().lock(), "\x1b[H\x1b[2J");
    }
}

/// 65 536
pub(super) fn number(number: u64) -> String {
    grouped(&number.to_string())
}

/// Digits in groups of three.
pub(super) fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// 3.4 MiB
pub(super) fn bytes(bytes: u64) -> String {
    let mut rest = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if rest < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{rest:.1} {unit}") };
        }
        rest /= 1024.0;
    }
    format!("{rest:.1} TiB")
}

/// 12m, 3h 20m, 5d 2h: the two largest units, of the nearest second.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.saturating_add(Duration::from_millis(500)).as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let two = |large: u64, a: &str, small: u64, b: &str| {
        if small == 0 { format!("{large}{a}") } else { format!("{large}{a} {small}{b}") }
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => two(minutes, "m", seconds % 60, "s"),
        (0, hours, minutes) => two(hours, "h", minutes, "m"),
        (days, hours, _) => two(days, "d", hours, "h"),
    }
}

/// The time of day of this machine.
pub(super) fn now() -> Timestamp {
    SystemTime::now().into()
}

/// 12m ago
pub(super) fn ago(at: Timestamp) -> String {
    format!("{} ago", span(now().saturating_since(at)))
}

/// What is left until then; a dash when there is no end.
pub(super) fn left(end: Option<Timestamp>) -> String {
    end.map_or_else(|| "-".to_owned(), |end| span(end.saturating_since(now())))
}

/// "41.202.0.0 - 41.202.255.255, 65 536 addresses"; nothing for a single address.
pub(super) fn range(prefix: &Prefix, addresses: &str) -> Option<String> {
    let (first, last): (IpAddr, IpAddr) = (prefix.first(), prefix.last());
    (!prefix.is_host()).then(|| format!("{first} - {last}, {} addresses", grouped(addresses)))
}

fn width() -> u16 {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let screen = || io::stdout().is_terminal().then(|| Table::new().width()).flatten();
    columns.or_else(screen).unwrap_or(WIDTH).clamp(NARROWEST, WIDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_spans_have_two_units() {
        assert_eq!(number(0), "0");
        assert_eq!(number(65_536), "65 536");
        assert_eq!(number(1_204_331), "1 204 331");
        assert_eq!(span(Duration::from_secs(59)), "59s");
        assert_eq!(span(Duration::from_secs(720)), "12m");
        assert_eq!(span(Duration::from_secs(12_000)), "3h 20m");
        assert_eq!(span(Duration::from_secs(439_200)), "5d 2h");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(3_565_158), "3.4 MiB");
    }

    #[test]
    fn what_a_terminal_obeys_is_written_out() {
        assert_eq!(plain("é → 1\t2\n"), "é → 1\t2\n");
        assert_eq!(plain("\x1b[2J\r\x7f\u{9b}\u{202e}"), r"\u001b[2J\u000d\u007f\u009b\u202e");
    }

    #[test]
    fn a_range_is_shown_with_its_ends_and_a_single_address_is_not() {
        let prefix: Prefix = "41.202.0.0/16".parse().unwrap();
        assert_eq!(range(&prefix, "65536").unwrap(), "41.202.0.0 - 41.202.255.255, 65 536 addresses");
        assert_eq!(range(&"192.0.2.1".parse().unwrap(), "1"), None);
    }

    #[test]
    fn a_table_has_no_borders_and_no_line_is_too_wide() {
        let mut table = Columns::new(&["address", "reason", "packets"], &[2]);
        table.row(["192.0.2.1".to_owned(), "long ".repeat(60), "5".to_owned()]);
        let text = table.to_string();
        assert!(text.starts_with("ADDRESS"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(WIDEST)), "{text}");
        assert!(!text.contains('|') && !text.contains('─'), "{text}");
    }
}
