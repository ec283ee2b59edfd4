//! SIPp as a crowd of phones in a namespace: one scenario, one row of a table a phone.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
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

/// INVITE, 407 or 401, INVITE with credentials, 180, 200, ACK, a pause, BYE, 200. A row: number, credentials, whom.
const CALL: &str = r#"<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="call">
  <send retrans="500"><![CDATA[
INVITE sip:[field2]@[remote_ip] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
Max-Forwards: 70
From: <sip:[field0]@[remote_ip]>;tag=[pid]-[call_number]
To: <sip:[field2]@[remote_ip]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:[field0]@[local_ip]:[local_port];transport=[transport]>
User-Agent: SIPp
Content-Type: application/sdp
Content-Length: [len]

v=0
o=- 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
]]></send>
  <recv response="100" optional="true"/>
  <recv response="407" auth="true" optional="true" next="1"/>
  <recv response="401" auth="true"/>
  <label id="1"/>
  <send><![CDATA[
ACK sip:[field2]@[remote_ip] SIP/2.0
[last_Via:]
Max-Forwards: 70
From: <sip:[field0]@[remote_ip]>;tag=[pid]-[call_number]
[last_To:]
Call-ID: [call_id]
CSeq: 1 ACK
Content-Length: 0

]]></send>
  <send retrans="500" start_rtd="setup"><![CDATA[
INVITE sip:[field2]@[remote_ip] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
Max-Forwards: 70
From: <sip:[field0]@[remote_ip]>;tag=[pid]-[call_number]
To: <sip:[field2]@[remote_ip]>
Call-ID: [call_id]
CSeq: 2 INVITE
Contact: <sip:[field0]@[local_ip]:[local_port];transport=[transport]>
[field1]
User-Agent: SIPp
Content-Type: application/sdp
Content-Length: [len]

v=0
o=- 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
]]></send>
  <recv response="100" optional="true"/>
  <recv response="180" optional="true"/>
  <recv response="183" optional="true"/>
  <recv response="200" rrs="true" rtd="setup"/>
  <send><![CDATA[
ACK [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
Max-Forwards: 70
[routes]
From: <sip:[field0]@[remote_ip]>;tag=[pid]-[call_number]
[last_To:]
Call-ID: [call_id]
CSeq: 2 ACK
Content-Length: 0

]]></send>
  <pause/>
  <send retrans="500"><![CDATA[
BYE [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
Max-Forwards: 70
[routes]
From: <sip:[field0]@[remote_ip]>;tag=[pid]-[call_number]
[last_To:]
Call-ID: [call_id]
CSeq: 3 BYE
Content-Length: 0

]]></send>
  <recv response="200"/>
</scenario>
"#;

/// The same without a proof: for a phone that asks for none.
fn call_without_proof() -> String {
    let (before, rest) = CALL.split_once("  <send retrans=\"500\">").unwrap_or_default();
    let (_, after) = rest.split_once("  <send retrans=\"500\" start_rtd").unwrap_or_default();
    format!("{before}  <send retrans=\"500\" start_rtd{after}").replace("[field1]\n", "")
}

/// INVITE, 180, 200, ACK, BYE, 200.
const ANSWER: &str = r#"<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="answer">
  <recv request="INVITE" rrs="true"/>
  <send><![CDATA[
SIP/2.0 180 Ringing
[last_Via:]
[last_Record-Route:]
[last_From:]
[last_To:];tag=[pid]-[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:sipp@[local_ip]:[local_port];transport=[transport]>
Content-Length: 0

]]></send>
  <send retrans="500"><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_Record-Route:]
[last_From:]
[last_To:];tag=[pid]-[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:sipp@[local_ip]:[local_port];transport=[transport]>
Content-Type: application/sdp
Content-Length: [len]

v=0
o=- 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
]]></send>
  <recv request="ACK"/>
  <recv request="BYE"/>
  <send><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>
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
    let rows = phones.into_iter().map(|(number, password)| format!("{number};{}", credentials(number, &password)));
    let run = Run { network, directory, source, server, rate, at_once: 200 };
    let rows: Vec<String> = rows.collect();
    run.wait(REGISTER, &rows, rows.len(), &[])
}

/// Calls, each with a digest, so many a second from one address: each row of `calls` in turn is who calls, its password
/// and whom. Waits for the end of all of them; each lasts for `talk`.
pub fn call(
    run: &Run,
    calls: impl IntoIterator<Item = (u32, String, u32)>,
    count: usize,
    talk: Duration,
) -> Result<Counted> {
    let row =
        |(number, password, whom): (u32, String, u32)| format!("{number};{};{whom}", credentials(number, &password));
    let rows: Vec<String> = calls.into_iter().map(row).collect();
    run.wait(CALL, &rows, count, &["-d", &talk.as_millis().to_string()])
}

/// As [`call`], to a phone that asks for no proof.
pub fn call_directly(run: &Run, whom: u32, count: usize, talk: Duration) -> Result<Counted> {
    run.wait(&call_without_proof(), &[format!("1;;{whom}")], count, &["-d", &talk.as_millis().to_string()])
}

/// A SIPp that answers calls at this address until it is dropped.
#[derive(Debug)]
pub struct Answering(Child);

impl Answering {
    /// Starts it. Nothing listens before it does, so phones that registered with this address can be called from now on.
    pub fn start(network: &Namespace, directory: &Path, source: SocketAddr) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let scenario = directory.join("answer.xml");
        fs::write(&scenario, ANSWER)?;
        let mut command = Command::new("sipp");
        command
            .arg("-sf")
            .arg(&scenario)
            .args(["-i", &source.ip().to_string(), "-p", &source.port().to_string(), "-mi", &source.ip().to_string()])
            .args(["-nostdin", "-timeout", "600", "-trace_err"])
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        network.put(&mut command)?;
        let child = command.spawn().context("sipp does not start; `cargo xtask setup` installs it")?;
        let answering = Self(child);
        let begin = Instant::now();
        // It says nothing when it is ready; its port is taken then.
        while network.enter(|| Ok(UdpSocket::bind(source).is_ok()))? {
            ensure!(begin.elapsed() < Duration::from_secs(20), "sipp does not listen on {source}");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(answering)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One SIPp that sends requests.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// Where it runs.
    pub network: &'a Namespace,
    /// Its own folder, which it makes.
    pub directory: &'a Path,
    /// Its address and port.
    pub source: SocketAddr,
    /// Whom it sends to.
    pub server: SocketAddr,
    /// Scenarios that it begins in a second.
    pub rate: u32,
    /// Scenarios that may go on at once.
    pub at_once: u32,
}

impl Run<'_> {
    fn wait(&self, scenario: &str, rows: &[String], count: usize, more: &[&str]) -> Result<Counted> {
        let Self { network, directory, source, server, rate, at_once } = self;
        fs::create_dir_all(directory)?;
        let (file, table) = (directory.join("scenario.xml"), directory.join("phones.csv"));
        fs::write(&file, scenario)?;
        fs::write(&table, format!("SEQUENTIAL\n{}\n", rows.join("\n")))?;
        let mut command = Command::new("sipp");
        command
            .arg(server.to_string())
            .arg("-sf")
            .arg(&file)
            .arg("-inf")
            .arg(&table)
            .args(["-i", &source.ip().to_string(), "-p", &source.port().to_string(), "-mi", &source.ip().to_string()])
            .args(["-m", &count.to_string(), "-r", &rate.to_string(), "-l", &at_once.to_string()])
            .args(["-nostdin", "-trace_stat", "-fd", "1", "-trace_err", "-timeout", "120"])
            .args(more)
            .current_dir(directory)
            .stdin(Stdio::null());
        network.put(&mut command)?;
        let output = command.output().context("sipp does not start; `cargo xtask setup` installs it")?;
        self.counted(&table, &String::from_utf8_lossy(&output.stderr))
    }

    /// Reads the figures that it left.
    fn counted(&self, table: &Path, said: &str) -> Result<Counted> {
        let stats = fs::read_dir(self.directory)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "csv") && *path != table)
            .with_context(|| format!("sipp left no figures:\n{said}"))?;
        let stats = fs::read_to_string(stats)?;
        let mut lines = stats.lines();
        let names: Vec<&str> = lines.next().unwrap_or_default().split(';').collect();
        let last: Vec<&str> = lines.last().unwrap_or_default().split(';').collect();
        let cell = |name: &str| -> Result<u64> {
            let column =
                names.iter().position(|column| *column == name).with_context(|| format!("no column {name}"))?;
            Ok(last.get(column).and_then(|cell| cell.parse().ok()).unwrap_or(0))
        };
        let counted = Counted {
            successful: cell("SuccessfulCall(C)")?,
            failed: cell("FailedCall(C)")?,
            repeated: cell("Retransmissions(C)")?,
        };
        ensure!(counted.successful + counted.failed > 0, "sipp did nothing:\n{said}");
        Ok(counted)
    }

    /// The first messages that it did not expect, for an error.
    pub fn complaints(&self) -> String {
        let files = fs::read_dir(self.directory).into_iter().flatten().flatten().map(|entry| entry.path());
        let errors = files.filter(|path| path.to_string_lossy().ends_with("_errors.log"));
        errors.filter_map(|path| fs::read_to_string(path).ok()).collect::<String>().chars().take(4000).collect()
    }
}

fn credentials(number: u32, password: &str) -> String {
    format!("[authentication username={number} password={password}]")
}
