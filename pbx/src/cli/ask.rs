//! What a command asks whoever sits at the terminal: whether to go on, and passwords.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Write},
    path::Path,
};

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

use super::{
    args::{PassphraseFrom, PasswordFrom},
    failure::Failure,
};

/// Bytes of a password that are read; the daemon says what it takes.
const LONGEST: u64 = 1024;

/// Asks before something goes. Without a terminal nobody can answer: `does` says what then needs --yes.
pub(super) fn confirm(question: &str, does: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("{does}: repeat it with --yes, or see with --dry-run what would go")));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::Failed("nothing was changed".to_owned()))
}

impl PasswordFrom {
    /// The password, or nothing: then the daemon makes one.
    pub(super) fn read(self) -> Result<Option<String>, Failure> {
        if self.password_stdin {
            return line(io::stdin().lock()).map(Some);
        }
        if !self.ask_password {
            return Ok(None);
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::Usage(
                "there is no terminal to ask at: --password-stdin reads a password from a pipe".to_owned(),
            ));
        }
        let first = hidden("Password: ")?;
        if hidden("Again: ")? != first {
            return Err(Failure::Usage("the two are not the same; nothing was changed".to_owned()));
        }
        Ok(Some(first))
    }
}

impl PassphraseFrom {
    /// The passphrase, or nothing. A new one is asked for twice.
    pub(super) fn read(self, new: bool) -> Result<Option<String>, Failure> {
        match self.passphrase_file {
            Some(path) if path == Path::new("-") => return line(io::stdin().lock()).map(Some),
            Some(path) => {
                let file = File::open(&path);
                let file = file.map_err(|error| Failure::Failed(format!("cannot read {}: {error}", path.display())))?;
                return line(BufReader::new(file)).map(Some);
            }
            None if !self.ask_passphrase => return Ok(None),
            None => {}
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::Usage(
                "there is no terminal to ask at: --passphrase-file - reads a passphrase from a pipe".to_owned(),
            ));
        }
        let first = hidden("Passphrase: ")?;
        if new && hidden("Again: ")? != first {
            return Err(Failure::Usage("the two are not the same; nothing was changed".to_owned()));
        }
        Ok(Some(first))
    }
}

/// The first line, without its end.
fn line(input: impl BufRead) -> Result<String, Failure> {
    let mut text = String::new();
    input.take(LONGEST).read_line(&mut text).map_err(failed)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(Failure::Usage("there is no password in it, or no line on standard input".to_owned()));
    }
    Ok(text.to_owned())
}

/// A line that the terminal does not show.
fn hidden(prompt: &str) -> Result<String, Failure> {
    let stdin = io::stdin();
    let shown = tcgetattr(&stdin).map_err(|error| failed(error.into()))?;
    let mut without = shown.clone();
    without.local_flags.remove(LocalFlags::ECHO);
    eprint!("{prompt}");
    let _ = io::stderr().flush();
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &without).map_err(|error| failed(error.into()))?;
    let typed = line(stdin.lock());
    let restored = tcsetattr(&stdin, SetArg::TCSAFLUSH, &shown);
    eprintln!();
    restored.map_err(|error| failed(error.into()))?;
    typed
}

fn failed(error: io::Error) -> Failure {
    Failure::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line_without_its_end_and_with_its_blanks() {
        assert_eq!(line("kT7wq2mz\n".as_bytes()).unwrap(), "kT7wq2mz");
        assert_eq!(line(" a b \r\nsecond".as_bytes()).unwrap(), " a b ");
        assert_eq!(line("\n".as_bytes()).unwrap_err().code(), 2);
        assert_eq!(line("".as_bytes()).unwrap_err().code(), 2);
    }
}
