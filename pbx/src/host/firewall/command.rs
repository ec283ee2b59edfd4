//! Runs a firewall's own command to read from it. Below the judges. Bounded in time and size.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_BYTES: u64 = 16 << 20;
/// A service's PATH may lack the sbin folders.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The command is not installed.
    Missing,
    /// It failed or took too long: in its own words.
    Refused(String),
    /// What it printed.
    Text(String),
}

/// Runs `program` in the C locale and waits for it, at most five seconds.
pub(super) async fn run(program: &str, words: &[&str]) -> Answer {
    match timeout(TIMEOUT, output(program, words)).await {
        Err(_) => Answer::Refused(format!("{program} did not answer in {} s", TIMEOUT.as_secs())),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Answer::Missing,
        Ok(Err(error)) => Answer::Refused(format!("{program}: {error}")),
        Ok(Ok(answer)) => answer,
    }
}

async fn output(program: &str, words: &[&str]) -> io::Result<Answer> {
    let mut child = Command::new(program)
        .args(words)
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = tokio::try_join!(text(stdout), text(stderr))?;
    let status = child.wait().await?;
    Ok(match status.success() {
        true => Answer::Text(stdout),
        // ufw complains on its standard output.
        false => Answer::Refused(format!("{stderr}{stdout}").trim().to_owned()),
    })
}

async fn text(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(MAX_BYTES).read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_answers_refuses_or_is_missing() {
        assert_eq!(run("echo", &["open"]).await, Answer::Text("open\n".into()));
        let refused = run("sh", &["-c", "echo no >&2; exit 1"]).await;
        assert_eq!(refused, Answer::Refused("no".into()));
        assert_eq!(run("no-such-firewall", &[]).await, Answer::Missing);
    }
}
