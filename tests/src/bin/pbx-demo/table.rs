//! What a person reads: two lines an act, with the filter and without it. At most [`WIDTH`] columns wide.

use crate::{figures::Row, scene::Pass, verdict};

/// Columns of a terminal that a person gives it.
const WIDTH: usize = 120;

/// An act's figures as one sentence, while the demo goes on.
pub(crate) fn sentence(row: &Row) -> String {
    let blocked = match &row.blocked {
        Some(blocked) => format!("blocked after {} by {}", milliseconds(blocked.after_ms), blocked.by),
        None => "nobody blocked".to_owned(),
    };
    format!(
        "{}: {blocked}; {} packets, {} read; call lost {:.2} %; registered {}/{}",
        row.act,
        grouped(row.attack_packets),
        grouped(row.read_by_daemon),
        row.loss_percent,
        row.registered,
        row.registrations
    )
}

/// The table of these passes, the enforcing one first, and what came of it.
pub(crate) fn report(passes: &[Pass], failed: &[String]) -> String {
    let mut said = verdict::stopped_otherwise(&passes[0]);
    match failed {
        [] => said.push("The call survived, every attacker that can be was blocked, and nobody else was.".to_owned()),
        failed => said.extend(failed.iter().map(|line| format!("FAILED {line}"))),
    }
    let said = said.iter().map(|line| wrapped(line) + "\n").collect::<String>();
    format!("{}\n{said}", table(passes))
}

/// Two lines a row, one a pass.
fn table(passes: &[Pass]) -> String {
    let rows: Vec<(usize, &Pass, &Row)> = (0..passes[0].rows.len())
        .flat_map(|row| passes.iter().enumerate().map(move |(place, pass)| (place, pass, &pass.rows[row])))
        .collect();
    let act = |(place, _, row): &(usize, &Pass, &Row)| if *place == 0 { row.act } else { "" }.to_owned();
    let filter = |(_, pass, _): &(usize, &Pass, &Row)| if pass.mode == "off" { "off" } else { "on" }.to_owned();
    let mut columns = vec![left(["", "act"], rows.iter().map(act)), left(["", "filter"], rows.iter().map(filter))];
    columns.push(right(["blocked", "after"], rows.iter().map(|(_, _, row)| after(row))));
    columns.push(left(["", "by"], rows.iter().map(|(_, _, row)| by(row))));
    for (title, figure) in FIGURES {
        columns.push(right(title, rows.iter().map(|(_, _, row)| figure(row))));
    }
    let lines = columns[0].len();
    let line = |number: usize| columns.iter().map(|column| column[number].as_str()).collect::<Vec<_>>().join("  ");
    (0..lines).map(|number| line(number).trim_end().to_owned() + "\n").collect()
}

type Figure = fn(&Row) -> String;

const FIGURES: [([&str; 2], Figure); 8] = [
    (["packets", "sent"], |row| grouped(row.attack_packets)),
    (["", "read"], |row| grouped(row.read_by_daemon)),
    (["call", "lost %"], |row| format!("{:.2}", row.loss_percent)),
    (["jitter", "ms"], |row| format!("{:.2}", row.call.jitter_ms)),
    (["regis-", "tered"], |row| format!("{}/{}", row.registered, row.registrations)),
    (["", "again"], |row| grouped(row.sent_again)),
    (["wrong", "blocks"], |row| row.wrongly_blocked.len().to_string()),
    (["CPU", "%"], |row| format!("{:.0}", row.cpu_percent)),
];

fn after(row: &Row) -> String {
    match &row.blocked {
        Some(blocked) => milliseconds(blocked.after_ms),
        None => "–".to_owned(),
    }
}

/// The time of a block is kept in whole milliseconds.
fn milliseconds(number: u64) -> String {
    if number == 0 { "< 1 ms".to_owned() } else { format!("{} ms", grouped(number)) }
}

fn by(row: &Row) -> String {
    row.blocked.as_ref().map_or_else(String::new, |blocked| blocked.by.clone())
}

pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn left(title: [&str; 2], cells: impl Iterator<Item = String>) -> Vec<String> {
    padded(title, cells, false)
}

fn right(title: [&str; 2], cells: impl Iterator<Item = String>) -> Vec<String> {
    padded(title, cells, true)
}

fn padded(title: [&str; 2], cells: impl Iterator<Item = String>, right: bool) -> Vec<String> {
    let cells: Vec<String> = title.map(str::to_owned).into_iter().chain(cells).collect();
    let width = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
    let pad = |cell: String| {
        let space = " ".repeat(width - cell.chars().count());
        if right { space + &cell } else { cell + &space }
    };
    cells.into_iter().map(pad).collect()
}

/// In lines of [`WIDTH`], broken between words.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("the first one");
        match line.chars().count() {
            0 => line.push_str(word),
            long if long + 1 + word.chars().count() <= WIDTH => *line += &format!(" {word}"),
            _ => lines.push(format!("  {word}")),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{acts::Act, audio::Sound, figures::Blocked};

    fn pass(mode: &'static str) -> Pass {
        let row = |act: Act| Row {
            act: act.name(),
            attacker: None,
            to_be_blocked: true,
            attack_packets: 9_999_999,
            dropped_in_kernel: 9_999_999,
            read_by_daemon: 999_999,
            answered: 999_999,
            blocked: Some(Blocked { by: "authentication".to_owned(), after_ms: 25_000 }),
            call: Sound { sent: 700, lost: 700, jitter_ms: 199.99 },
            loss_percent: 100.0,
            foreign_media: 9_999,
            refused_media: 9_999,
            registrations: 99,
            registered: 99,
            sent_again: 99,
            wrongly_blocked: vec!["198.51.100.2/32".to_owned()],
            cpu_percent: 200.0,
        };
        let rows = Act::ALL.into_iter().map(row).collect();
        Pass { mode, rows, hung_up: Some(200), call_problem: None, complaints: Vec::new() }
    }

    #[test]
    fn the_report_is_no_wider_than_a_terminal_whatever_the_figures() {
        let passes = [pass("enforce"), pass("off")];
        let report = report(&passes, &verdict::failures(&passes[0], 1.0));
        let widest = report.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(widest.chars().count() <= WIDTH, "{}: {widest}", widest.chars().count());
        assert!(report.contains("FAILED"), "{report}");
    }

    #[test]
    fn long_numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1 000", "1 234 567"]);
    }
}
