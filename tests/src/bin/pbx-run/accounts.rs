//! The two extensions of a try-out: made through the daemon when they are not there, their passwords kept.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use pbx::ops::{ExtensionAnswer, User};
use pbx_tests::daemon::{Answer, Installation};
use serde::Serialize;

use super::place::{Kept, KeptExtension};

/// Their numbers.
const NUMBERS: [&str; 2] = ["100", "101"];
/// Exit code of `pbx` for what is not there.
const NOT_FOUND: i32 = 3;

/// An extension that a phone can use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Account {
    /// Its number, which is the phone's user name.
    pub(crate) number: String,
    /// Its password, where it is known.
    pub(crate) password: Option<String>,
    /// What is worth knowing about it.
    pub(crate) note: Option<String>,
}

/// Makes the extensions that are not there; all of them, with what is known of their passwords. `keep` is called before
/// anything is told, so that no password is lost.
pub(crate) fn ensure(pbx: &Installation, kept: &mut Kept, keep: impl Fn(&Kept) -> Result<()>) -> Result<Vec<Account>> {
    let mut accounts = Vec::new();
    for number in NUMBERS {
        let shown = pbx.try_pbx(&format!("ext show {number}"))?;
        accounts.push(match shown.code {
            Some(NOT_FOUND) => {
                let earlier = kept.extensions.get(number).map(|extension| extension.password.as_str());
                let made = add(pbx, number, earlier)?;
                let account = Account { number: number.to_owned(), password: Some(made.password.clone()), note: None };
                kept.extensions.insert(number.to_owned(), made);
                keep(kept)?;
                account
            }
            _ => known(&user(&shown)?, kept),
        });
    }
    keep(kept)?;
    Ok(accounts)
}

/// An extension that is there, with what this program knows of it.
fn known(user: &User, kept: &Kept) -> Account {
    let number = user.extension_number.clone();
    let other = format!("`pbx ext passwd {number}` makes another one");
    let extension = kept.extensions.get(&number);
    let note = match extension {
        _ if !user.enabled => Some(format!("disabled: `pbx ext set {number} --enable` lets it register")),
        None => Some(format!("its password is not known here; {other}")),
        Some(extension) if extension.made != user.updated_at => Some(format!(
            "as it was made; the extension was changed at {}. If it does not fit: {other}",
            user.updated_at
        )),
        Some(_) => None,
    };
    Account { number, password: extension.map(|extension| extension.password.clone()), note }
}

/// Adds one, with the password that it had before, so that phones of earlier runs fit, or a new one.
fn add(pbx: &Installation, number: &str, password: Option<&str>) -> Result<KeptExtension> {
    let mut command = Command::new(pbx.binary());
    command.arg("--socket").arg(pbx.socket()).args(["--json", "ext", "add", number]);
    command.args(password.map(|_| "--password-stdin"));
    let mut child = command
        .stdin(if password.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {}", pbx.binary().display()))?;
    if let (Some(mut input), Some(password)) = (child.stdin.take(), password) {
        // A command that ended before it read the password says why below.
        let _ = writeln!(input, "{password}");
    }
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "extension {number} cannot be made: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let answer: ExtensionAnswer = serde_json::from_slice(&output.stdout).context("the JSON of `pbx ext add`")?;
    let password = answer.generated_password.or_else(|| password.map(str::to_owned));
    Ok(KeptExtension { password: password.context("the daemon made no password")?, made: answer.item.updated_at })
}

fn user(shown: &Answer) -> Result<User> {
    let value = shown.clone().ok()?;
    serde_json::from_value(value).context("the JSON of `pbx ext show`")
}

#[cfg(test)]
mod tests {
    use pbx_core::time::Timestamp;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_790_000_000_000 + millis)
    }

    fn user(updated_at: Timestamp) -> User {
        User {
            id: Some("1".to_owned()),
            extension_number: "100".to_owned(),
            display_name: None,
            caller_id: None,
            tenant: "default".to_owned(),
            enabled: true,
            registered: Some(0),
            forward_always: None,
            forward_busy: None,
            forward_no_answer: None,
            forward_offline: None,
            no_answer_seconds: 20,
            do_not_disturb: false,
            created_at: at(0),
            updated_at,
        }
    }

    fn kept() -> Kept {
        let extension = KeptExtension { password: "kT7wq2mz#P".to_owned(), made: at(0) };
        Kept { extensions: [("100".to_owned(), extension)].into(), ..Kept::default() }
    }

    #[test]
    fn an_extension_as_it_was_made_has_its_password_again() {
        let account = known(&user(at(0)), &kept());
        assert_eq!((account.password.as_deref(), account.note), (Some("kT7wq2mz#P"), None));
    }

    #[test]
    fn a_password_that_may_be_another_now_is_marked() {
        let changed = known(&user(at(5)), &kept());
        assert!(changed.password.is_some() && changed.note.unwrap().contains("pbx ext passwd 100"));
        let foreign = known(&user(at(0)), &Kept::default());
        assert!(foreign.password.is_none() && foreign.note.unwrap().contains("not known"));
        let disabled = known(&User { enabled: false, ..user(at(5)) }, &kept());
        assert!(disabled.note.unwrap().contains("--enable"));
    }
}
