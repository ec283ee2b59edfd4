//! Rules as CSV with a header, as other programs export them. Names of columns and actions are those that are met.

use pbx_core::{
    address,
    rule::{self, Action, Import, ImportError, NewRule},
    time::Timestamp,
};

use super::csv;

/// Columns that are read, each with the names that it has elsewhere.
const COLUMNS: [(&str, &[&str]); 5] = [
    ("cidr", &["cidr", "ip", "address", "ip_address", "ip address", "prefix", "range", "network", "source"]),
    ("mask", &["mask", "netmask"]),
    ("target", &["target", "action", "policy", "type"]),
    ("description", &["description", "comment", "reason", "note", "notes"]),
    ("expire_at", &["expire_at", "expires_at", "expires", "expiry", "until", "end"]),
];
/// Names of columns that a note repeats.
const NAMED: usize = 5;

/// The rules of a text, or its bad rows; and a note about columns that mean nothing here. The error of the whole says
/// why it is no CSV.
pub(super) fn parse(text: &str, now: Timestamp) -> Result<(Result<Import, ImportError>, Option<String>), String> {
    let rows = csv::parse(text).map_err(|bad| format!("the list is no CSV: row {}: {}", bad.row, bad.what))?;
    let mut rows = rows.into_iter();
    let header = rows.next().ok_or("the list is empty: its first row names the columns, cidr at least")?;
    let mut places = [None; COLUMNS.len()];
    let mut unread = Vec::new();
    for (place, field) in header.fields.iter().enumerate() {
        let name = field.to_ascii_lowercase();
        match COLUMNS.iter().position(|(_, names)| names.contains(&name.as_str())) {
            Some(column) if places[column].is_none() => places[column] = Some(place),
            Some(column) => return Err(format!("two columns are the {}: leave one out", COLUMNS[column].0)),
            None => unread.push(field.chars().take(40).collect::<String>()),
        }
    }
    if places[0].is_none() {
        return Err(
            "no column is the address: the first row names the columns, cidr,target,description,expire_at".into()
        );
    }
    let rules = rows.map(|row| {
        let field = |column: usize| {
            let place: Option<usize> = places[column];
            place.and_then(|place| row.fields.get(place)).map_or("", |field| field.trim())
        };
        (row.number, rule(std::array::from_fn(field), now))
    });
    let note = (!unread.is_empty()).then(|| {
        let named = unread[..unread.len().min(NAMED)].join(", ");
        format!("{} columns were not read: {named}", unread.len())
    });
    Ok((rule::collect(rules), note))
}

fn rule([cidr, mask, target, description, end]: [&str; 5], now: Timestamp) -> Result<(NewRule, bool), String> {
    let text = if mask.is_empty() { cidr.to_owned() } else { format!("{cidr} {mask}") };
    let typed = address::parse(&text).map_err(|error| error.to_string())?;
    let rule = NewRule::new(typed.prefix, action(target)?, expiry(end)?, description, now);
    Ok((rule.map_err(|error| error.to_string())?, typed.host_bits_cleared))
}

/// What becomes of the packets; nothing is a block.
fn action(text: &str) -> Result<Action, String> {
    match text.to_ascii_lowercase().as_str() {
        "" | "drop" | "reject" | "ban" | "blacklist" => Ok(Action::Block),
        "permit" | "pass" | "whitelist" => Ok(Action::Allow),
        other => other.parse().map_err(|error: rule::RuleError| error.to_string()),
    }
}

/// A time, or seconds since 1970; nothing for what lasts.
fn expiry(text: &str) -> Result<Option<Timestamp>, String> {
    match text.to_ascii_lowercase().as_str() {
        "" | "-" | "-1" | "0" | "never" | "permanent" => return Ok(None),
        _ => {}
    }
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Some(Timestamp::from_millis(i64::from(seconds) * 1000)));
    }
    text.parse().map(Some).map_err(|error: pbx_core::time::TimeError| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_412_400_000);

    fn lines(text: &str) -> Vec<String> {
        let import = parse(text, NOW).unwrap().0.unwrap();
        rule::export(import.rules.iter().map(NewRule::parts)).lines().map(str::to_owned).collect()
    }

    #[test]
    fn rows_are_rules_whatever_the_columns_are_called() {
        let text = "cidr,target,description,expire_at\n192.0.2.0/24,DENY,\"a, b\",2027-01-01T00:00:00Z\n198.51.100.1,ACCEPT,,\n";
        let expected = ["192.0.2.0/24 block until 2027-01-01T00:00:00Z # a, b", "198.51.100.1 allow"];
        assert_eq!(lines(text), expected);
        let other =
            "Id;IP;Action;Comment;Expires\r\n7;192.0.2.0/24;drop;a, b;1798761600\r\n8;198.51.100.1;permit;;never\r\n";
        assert_eq!(lines(other), expected);
        assert_eq!(parse(other, NOW).unwrap().1.unwrap(), "1 columns were not read: Id");
        assert_eq!(lines("network,netmask\n41.202.0.0,255.255.0.0\n"), ["41.202.0.0/16 block"]);
        assert_eq!(lines("ip\n192.0.2.9\n192.0.2.9\n"), ["192.0.2.9 block"]);
    }

    #[test]
    fn bad_rows_are_named_by_their_number() {
        let text =
            "ip,action,until\n192.0.2.1,block,\n192.0.2.300,block,\n192.0.2.2,wave,\n192.0.2.3,,2020-01-01T00:00:00Z\n";
        let error = parse(text, NOW).unwrap().0.unwrap_err();
        let told: Vec<usize> = error.bad.iter().map(|bad| bad.line).collect();
        assert_eq!((told, error.total), (vec![3, 4, 5], 3));
    }

    #[test]
    fn a_text_without_a_header_that_names_the_address_is_refused() {
        assert!(parse("192.0.2.1\n", NOW).unwrap_err().starts_with("no column is the address"));
        assert!(parse("", NOW).unwrap_err().starts_with("the list is empty"));
        assert!(parse("ip,address\n", NOW).unwrap_err().starts_with("two columns are the cidr"));
        assert!(parse("ip\n\"192\n", NOW).unwrap_err().starts_with("the list is no CSV: row 2"));
    }
}
