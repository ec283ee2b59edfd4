//! `docs/TRACEABILITY.md` promises a test for each requirement; here every promise is looked up. A
//! promise is text between backticks: `tests/xdp/rates.rs::a_test`, `pbx_core::address::tests::a_test`,
//! or a file of tests or benches by its path. Other text between backticks is left alone.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use super::tree::{self, File};

const DOCUMENT: &str = "docs/TRACEABILITY.md";

pub(super) fn check() -> Result<()> {
    let files = tree::files(&crate::root())?;
    let document =
        files.iter().find(|file| file.path == DOCUMENT).with_context(|| format!("there is no {DOCUMENT}"))?;
    let faults = faults(&document.text, &Tests::find(&files));
    if faults.is_empty() {
        return Ok(());
    }
    bail!("promised and not there:\n    {}", faults.join("\n    "))
}

fn faults(document: &str, tests: &Tests) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in (1..).zip(document.lines()) {
        // Backticks come in pairs, so every second piece is between two.
        for promise in line.split('`').skip(1).step_by(2).filter_map(Promise::read) {
            if let Err(what) = promise.look_up(tests) {
                faults.push(format!("{DOCUMENT}:{number}: {what}"));
            }
        }
    }
    faults
}

/// What a piece of text promises.
#[derive(Debug, PartialEq)]
enum Promise<'a> {
    File(&'a str),
    TestInFile { file: &'a str, test: &'a str },
    Test(&'a str),
}

impl<'a> Promise<'a> {
    fn read(text: &'a str) -> Option<Self> {
        if text.contains(|c: char| c.is_whitespace() || "<>(){}*".contains(c)) {
            return None;
        }
        match text.rsplit_once("::") {
            Some((path, test)) => match path.split_once(".rs") {
                Some((file, _)) => Some(Self::TestInFile { file: &text[..file.len() + 3], test }),
                None => Some(Self::Test(test)),
            },
            None => (text.ends_with(".rs") || text.starts_with("tests/")).then_some(Self::File(text)),
        }
    }

    fn look_up(&self, tests: &Tests) -> Result<(), String> {
        match *self {
            Self::File(file) => match tests.paths.iter().any(|path| is_at(path, file)) {
                true => Ok(()),
                false => Err(format!("no file {file}")),
            },
            Self::TestInFile { file, test } => match tests.by_file.get(file) {
                None => Err(format!("no file {file}")),
                Some(names) if names.contains(test) => Ok(()),
                Some(_) => Err(format!("no test {test} in {file}")),
            },
            Self::Test(test) => match tests.by_file.values().any(|names| names.contains(test)) {
                true => Ok(()),
                false => Err(format!("no test {test}")),
            },
        }
    }
}

/// The file itself, or a folder that it is in.
fn is_at(path: &str, promised: &str) -> bool {
    let promised = promised.trim_end_matches('/');
    path.strip_prefix(promised).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The tests of the repository.
struct Tests {
    paths: BTreeSet<String>,
    by_file: BTreeMap<String, BTreeSet<String>>,
}

impl Tests {
    fn find(files: &[File]) -> Self {
        let paths = files.iter().map(|file| file.path.clone()).collect();
        let sources = files.iter().filter(|file| file.path.ends_with(".rs"));
        Self { paths, by_file: sources.map(|file| (file.path.clone(), test_names(&file.text))).collect() }
    }
}

/// The functions under an attribute that makes them tests: `#[test]`, `#[tokio::test(…)]`.
fn test_names(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim_start) {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[") && line.contains("::test");
        if is_test && let Some(name) = function_name(line) {
            names.insert(name.to_owned());
            is_test = false;
        }
    }
    names
}

fn function_name(line: &str) -> Option<&str> {
    let code = line.strip_prefix("#[test]").unwrap_or(line).trim_start();
    let code = code.strip_prefix("pub ").unwrap_or(code);
    let code = code.strip_prefix("async ").unwrap_or(code);
    code.strip_prefix("fn ")?.split(|c: char| !(c.is_alphanumeric() || c == '_')).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> Tests {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        Tests::find(&[
            file("tests/xdp/rates.rs", "#[test]\n#[ignore = \"long\"]\nfn a_level_is_exact() {}\nfn a_table() {}\n"),
            file(
                "pbx/src/api.rs",
                "    #[tokio::test(flavor = \"multi_thread\")]\n    async fn a_route_answers() {}\n",
            ),
            file("tests/fuzz/corpus/empty", ""),
        ])
    }

    #[test]
    fn what_is_there_is_no_fault() {
        let document = "| A65 | `tests/xdp/rates.rs::a_level_is_exact`, `pbx::api::tests::a_route_answers` |\n\
                        | A66 | `tests/fuzz/corpus`, `tests/xdp/rates.rs` |";
        assert_eq!(faults(document, &repository()), [""; 0]);
    }

    #[test]
    fn a_missing_test_is_named_with_its_line() {
        let document = "\n`tests/xdp/rates.rs::gone`";
        assert_eq!(faults(document, &repository()), ["docs/TRACEABILITY.md:2: no test gone in tests/xdp/rates.rs"]);
    }

    #[test]
    fn a_function_that_is_no_test_keeps_no_promise() {
        assert_eq!(faults("`tests/xdp/rates.rs::a_table`", &repository()).len(), 1);
        assert_eq!(faults("`xdp::rates::a_table`", &repository()).len(), 1);
    }

    #[test]
    fn a_missing_file_is_named() {
        assert_eq!(faults("`tests/e2e/gone.rs` `tests/gone.rs::a_test`", &repository()).len(), 2);
    }

    #[test]
    fn commands_and_keys_are_no_promises() {
        assert_eq!(faults("`cargo xtask bench filter` `guard.scope` `pbx explain IP`", &repository()), [""; 0]);
    }
}
