//! What a person reads: a row an act, with the filter and without it side by side.

use crate::{figures::Row, scene::Pass};

/// An act's figures as one sentence, while the demo goes on.
pub(crate) fn sentence(row: &Row) -> String {
    let blocked = match &row.blocked {
        Some(blocked) => format!("blocked after {} ms by {}", blocked.after_ms, blocked.by),
        None => "nobody blocked".to_owned(),
    };
    format!(
        "{}: {blocked}; {} packets, {} read; the call lost {:.2} %, jitter {:.1} ms; {} of {} registrations",
        row.act,
        row.attack_packets,
        row.read_by_daemon,
        row.loss_percent,
        row.call.jitter_ms,
        row.registered,
        row.registrations
    )
}

/// The table of these passes, the enforcing one first.
pub(crate) fn table(passes: &[Pass]) -> String {
    let mut columns = vec![left("filter", passes[0].rows.iter().map(|row| row.act.to_owned()))];
    columns.push(right("blocked", "after", passes[0].rows.iter().map(after)));
    columns.push(left_of("by", passes[0].rows.iter().map(by)));
    for (title, figure) in FIGURES {
        for (place, pass) in passes.iter().enumerate() {
            let (title, mode) = (if place == 0 { title } else { "" }, if place == 0 { "on" } else { "off" });
            columns.push(right(title, mode, pass.rows.iter().map(figure)));
        }
    }
    let lines = columns[0].len();
    let line = |number: usize| columns.iter().map(|column| column[number].as_str()).collect::<Vec<_>>().join("  ");
    (0..lines).map(|number| line(number).trim_end().to_owned() + "\n").collect()
}

type Figure = fn(&Row) -> String;

const FIGURES: [(&str, Figure); 8] = [
    ("packets", |row| grouped(row.attack_packets)),
    ("read", |row| grouped(row.read_by_daemon)),
    ("loss %", |row| format!("{:.2}", row.loss_percent)),
    ("jitter ms", |row| format!("{:.2}", row.call.jitter_ms)),
    ("registered", |row| format!("{}/{}", row.registered, row.registrations)),
    ("repeated", |row| grouped(row.sent_again)),
    ("wrong", |row| row.wrongly_blocked.len().to_string()),
    ("CPU %", |row| format!("{:.0}", row.cpu_percent)),
];

fn after(row: &Row) -> String {
    match &row.blocked {
        Some(blocked) => format!("{} ms", grouped(blocked.after_ms)),
        None => "–".to_owned(),
    }
}

fn by(row: &Row) -> String {
    row.blocked.as_ref().map_or_else(String::new, |blocked| blocked.by.clone())
}

fn grouped(number: u64) -> String {
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

fn left(title: &str, cells: impl Iterator<Item = String>) -> Vec<String> {
    padded([title.to_owned(), String::new()].into_iter().chain(cells), false)
}

fn left_of(title: &str, cells: impl Iterator<Item = String>) -> Vec<String> {
    padded([String::new(), title.to_owned()].into_iter().chain(cells), false)
}

fn right(title: &str, under: &str, cells: impl Iterator<Item = String>) -> Vec<String> {
    padded([title.to_owned(), under.to_owned()].into_iter().chain(cells), true)
}

fn padded(cells: impl Iterator<Item = String>, right: bool) -> Vec<String> {
    let cells: Vec<String> = cells.collect();
    let width = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
    let pad = |cell: String| {
        let space = " ".repeat(width - cell.chars().count());
        if right { space + &cell } else { cell + &space }
    };
    cells.into_iter().map(pad).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1 000", "1 234 567"]);
    }
}
