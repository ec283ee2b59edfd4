//! A file from the daemon, onto the disk or the terminal.

use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    path::Path,
};

use super::{Session, failure::Failure, render::plain};

/// Writes what is at `path` to `file`; `-` is standard output.
pub(super) async fn save(session: &Session, path: &str, file: &Path) -> Result<(), Failure> {
    if file == Path::new("-") {
        let stdout = io::stdout();
        return match stdout.is_terminal() {
            true => session.client.download(path, &mut Plainly(Vec::new())).await,
            false => session.client.download(path, &mut stdout.lock()).await,
        };
    }
    let failed = |error: io::Error| Failure::Failed(format!("cannot write {}: {error}", file.display()));
    // Nothing is written over before the daemon has said yes.
    let mut whole = session.client.open(path).await?;
    let mut written = File::create(file).map_err(failed)?;
    whole.write_to(&mut written).await
}

/// A terminal: whole lines, without anything that it obeys.
struct Plainly(Vec<u8>);

impl Write for Plainly {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        if let Some(end) = self.0.iter().rposition(|byte| *byte == b'\n') {
            let lines: Vec<u8> = self.0.drain(..=end).collect();
            io::stdout().lock().write_all(plain(&String::from_utf8_lossy(&lines)).as_bytes())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().lock().flush()
    }
}
