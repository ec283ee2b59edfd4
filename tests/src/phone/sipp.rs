//! SIPp as a crowd of phones in a namespace: one scenario, one row of a table a phone.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::sandbox::Namespace;

/// What SIPp counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Scenarios that went through.
    pub successful: u64,
    /// Scenarios that did not.
    pub failed: u64,
    /// Messages that it sent again.
    pub repeated: u64,
}

/// REGISTER, 401, REGISTER with credentials, 200.
const REGISTER: &str = r#"<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="register">
  <send retrans="500"><![CDATA[
REGISTER sip:[remote_ip] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
Max-Forwards: 70
From: <sip:[field0]@[remote_ip]>;tag=[call_number]
To: <sip:[field0]@[remote_ip]>
Call-ID: [call_id]
CSeq: 1 REGISTER
Contact: <sip:[field0]@[local_ip]:[local_port];transport=[transport]>
Expires: 300
User-Agent: SIPp
Content-Length: 0

]]></send>
  <recv response="401" auth="true"/>
  <send retrans="500"><![CDATA[
REGISTER sip:[remote_ip] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
Max-Forwards: 70
From: <sip:[field0]@[remote_ip]>;tag=[call_number]
To: <sip:[field0]@[remote_ip]>
Call-ID: [call_id]
CSeq: 2 REGISTER
Contact: <sip:[field0]@[local_ip]:[local_port];transport=[transport]>
[field1]
Expires: 300
User-Agent: SIPp
Content-Length: 0

]]></send>
  <recv response="200"/>
</scenario>
"#;

/// Registers these extensions from one address at so many a second, and waits for the end.
pub fn register(
    network: &Namespace,
    directory: &Path,
    source: SocketAddr,
    server: SocketAddr,
    phones: impl IntoIterator<Item = (u32, String)>,
    rate: u32,
) -> Result<Counted> {
    fs::create_dir_all(directory)?;
    let (scenario, table) = (directory.join("register.xml"), directory.join("phones.csv"));
    fs::write(&scenario, REGISTER)?;
    let mut rows = String::from("SEQUENTIAL\n");
    let mut count = 0;
    for (number, password) in phones {
        rows += &format!("{number};[authentication username={number} password={password}]\n");
        count += 1;
    }
    fs::write(&table, rows)?;
    let mut command = Command::new("sipp");
    command
        .arg(server.to_string())
        .arg("-sf")
        .arg(&scenario)
        .arg("-inf")
        .arg(&table)
        .args(["-i", &source.ip().to_string(), "-p", &source.port().to_string()])
        .args(["-m", &count.to_string(), "-r", &rate.to_string(), "-l", "200"])
        .args(["-nostdin", "-trace_stat", "-fd", "1", "-trace_err", "-timeout", "120"])
        .current_dir(directory)
        .stdin(Stdio::null());
    network.put(&mut command)?;
    let output = command.output().context("sipp does not start; `cargo xtask setup` installs it")?;
    let stats = fs::read_dir(directory)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "csv") && *path != table)
        .with_context(|| format!("sipp left no figures:\n{}", String::from_utf8_lossy(&output.stderr)))?;
    let stats = fs::read_to_string(stats)?;
    let mut lines = stats.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split(';').collect();
    let last: Vec<&str> = lines.last().unwrap_or_default().split(';').collect();
    let cell = |name: &str| -> Result<u64> {
        let column = names.iter().position(|column| *column == name).with_context(|| format!("no column {name}"))?;
        Ok(last.get(column).and_then(|cell| cell.parse().ok()).unwrap_or(0))
    };
    let counted = Counted {
        successful: cell("SuccessfulCall(C)")?,
        failed: cell("FailedCall(C)")?,
        repeated: cell("Retransmissions(C)")?,
    };
    ensure!(counted.successful + counted.failed > 0, "sipp did nothing:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(counted)
}
