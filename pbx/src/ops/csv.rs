//! Comma-separated values (RFC 4180), as spreadsheet programs write them: quotes, semicolons instead of commas, a byte
//! order mark, any line ends. Total and bounded.

/// Fields of one row that are looked at; more are an error of the row.
const MOST_FIELDS: usize = 64;

/// A row: its number as a spreadsheet program shows it, and its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The first row is 1.
    pub number: usize,
    /// Without quotes, trimmed when there were none.
    pub fields: Vec<String>,
}

/// Why a text is no list of rows: in which row, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadCsv {
    pub row: usize,
    pub what: &'static str,
}

/// The rows; those without anything in them are counted and left out.
pub(super) fn parse(text: &str) -> Result<Vec<Row>, BadCsv> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first_line = text.lines().next().unwrap_or_default();
    let separator = if first_line.contains(';') && !first_line.contains(',') { ';' } else { ',' };
    let mut rows = Vec::new();
    let mut rest = text;
    let mut number = 0;
    while !rest.is_empty() {
        number += 1;
        let mut fields = Vec::new();
        loop {
            let (field, end, after) = field(rest, separator).map_err(|what| BadCsv { row: number, what })?;
            fields.push(field);
            rest = after;
            if fields.len() > MOST_FIELDS {
                return Err(BadCsv { row: number, what: "there are too many fields" });
            }
            if end != End::Field {
                break;
            }
        }
        if fields.iter().any(|field| !field.is_empty()) {
            rows.push(Row { number, fields });
        }
    }
    Ok(rows)
}

/// A field as it has to be written.
pub(super) fn quoted(field: &str) -> String {
    if field.contains([',', ';', '"', '\n', '\r']) || field.trim() != field {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// A field as it has to be written when strangers had a say in it: what a spreadsheet program would take for a formula
/// has an apostrophe before it, which makes it a text.
pub(super) fn cell(field: &str) -> String {
    if field.starts_with(['=', '+', '-', '@', '\t', '\r']) { quoted(&format!("'{field}")) } else { quoted(field) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Field,
    Row,
}

fn field(text: &str, separator: char) -> Result<(String, End, &str), &'static str> {
    let start = text.trim_start_matches([' ', '\t']);
    let Some(inside) = start.strip_prefix('"') else {
        let length = text.find([separator, '\n', '\r']).unwrap_or(text.len());
        let (field, after) = text.split_at(length);
        if field.contains('"') {
            return Err("a quotation mark stands inside a field that does not begin with one");
        }
        let (end, after) = ended(after, separator)?;
        return Ok((field.trim().to_owned(), end, after));
    };
    let mut field = String::new();
    let mut rest = inside;
    loop {
        let Some(mark) = rest.find('"') else { return Err("a quotation mark is not closed") };
        field.push_str(&rest[..mark]);
        rest = &rest[mark + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => break,
        }
    }
    let (end, after) = ended(rest.trim_start_matches([' ', '\t']), separator)?;
    Ok((field, end, after))
}

fn ended(text: &str, separator: char) -> Result<(End, &str), &'static str> {
    if let Some(after) = text.strip_prefix(separator) {
        return Ok((End::Field, after));
    }
    let line_end = ["\r\n", "\n", "\r"].iter().find_map(|end| text.strip_prefix(end));
    match line_end {
        Some(after) => Ok((End::Row, after)),
        None if text.is_empty() => Ok((End::Row, text)),
        None => Err("something stands between a closing quotation mark and the next field"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<(usize, Vec<String>)> {
        parse(text).unwrap().into_iter().map(|row| (row.number, row.fields)).collect()
    }

    fn row(number: usize, fields: &[&str]) -> (usize, Vec<String>) {
        (number, fields.iter().map(|field| (*field).to_owned()).collect())
    }

    #[test]
    fn rows_are_read_as_spreadsheet_programs_write_them() {
        assert_eq!(rows("a,b\n1, 2 \n"), [row(1, &["a", "b"]), row(2, &["1", "2"])]);
        assert_eq!(rows("\u{feff}a;b\r\n1;2"), [row(1, &["a", "b"]), row(2, &["1", "2"])]);
        assert_eq!(rows("a,b\r1,2\r"), [row(1, &["a", "b"]), row(2, &["1", "2"])]);
        let quotes = "a,b\n\"x, \"\"y\"\"\" ,\" z\"\n\n,\n1,\n";
        assert_eq!(rows(quotes), [row(1, &["a", "b"]), row(2, &["x, \"y\"", " z"]), row(5, &["1", ""])]);
        assert_eq!(rows("a\n\"two\nlines\"\nb"), [row(1, &["a"]), row(2, &["two\nlines"]), row(3, &["b"])]);
        assert_eq!(rows(""), []);
    }

    #[test]
    fn a_broken_row_is_named() {
        for (text, row) in
            [("a\n\"b", 2), ("a\nb\"c\"\n", 2), ("a\n\"b\"c\n", 2), (&format!("a\n{}", ",".repeat(99)), 2)]
        {
            assert_eq!(parse(text).unwrap_err().row, row, "{text:.20}");
        }
    }

    #[test]
    fn a_formula_is_a_text() {
        assert_eq!(cell("=1+2"), "'=1+2");
        assert_eq!(cell("+4930123456"), "'+4930123456");
        assert_eq!(cell("-1"), "'-1");
        assert_eq!(cell("@SUM(A1,A2)"), "\"'@SUM(A1,A2)\"");
        assert_eq!(cell("\t=1"), "'\t=1");
        assert_eq!(cell("a=1"), "a=1");
        assert_eq!(cell(""), "");
    }

    #[test]
    fn what_is_quoted_is_read_back() {
        for field in ["plain", "a,b", "a;b", "say \"x\"", " blank ", "two\nlines", ""] {
            let text = format!("head,other\n{},x\n", quoted(field));
            assert_eq!(rows(&text)[1].1[0], field);
        }
    }
}
