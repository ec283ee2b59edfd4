//! The notation in which RFC 4475 §2 prints messages, and how it becomes their bytes.
//!
//! A line of the file is a line of the message, ended with CR LF. `<allOneLine>` joins lines, `<hex>0a</hex>` stands
//! for bytes, `<repeat count=3>x</repeat>` for repetition.

use std::{fs, path::PathBuf};

/// The bytes of the message in `conformance/<folder>/<name>.sip`.
pub(crate) fn load(folder: &str, name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conformance").join(folder).join(format!("{name}.sip"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    bytes(&text)
}

/// The names of all messages in a folder.
pub(crate) fn names(folder: &str) -> Vec<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conformance").join(folder);
    let mut names: Vec<String> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn bytes(text: &str) -> Vec<u8> {
    let mut joined = String::new();
    let mut one_line = false;
    for line in text.lines() {
        match line {
            "<allOneLine>" => one_line = true,
            "</allOneLine>" => {
                one_line = false;
                joined.push_str("\r\n");
            }
            _ => {
                joined.push_str(line);
                if !one_line {
                    joined.push_str("\r\n");
                }
            }
        }
    }
    let mut out = Vec::new();
    let mut rest = joined.as_str();
    while let Some(at) = [rest.find("<hex>"), rest.find("<repeat count=")].into_iter().flatten().min() {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("<hex>") {
            let (digits, after) = after.split_once("</hex>").unwrap();
            for pair in digits.as_bytes().chunks(2) {
                out.push(u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
            }
            rest = after;
        } else {
            let (count, after) = rest["<repeat count=".len()..].split_once('>').unwrap();
            let (what, after) = after.split_once("</repeat>").unwrap();
            out.extend_from_slice(what.repeat(count.parse().unwrap()).as_bytes());
            rest = after;
        }
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

#[test]
fn the_notation_becomes_bytes() {
    let text = "a<hex>00ff</hex>\n<allOneLine>\nb\n c<repeat count=3>de</repeat>\n</allOneLine>\n\nend\n";
    assert_eq!(bytes(text), b"a\0\xff\r\nb cdedede\r\n\r\nend\r\n");
}
