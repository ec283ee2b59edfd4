//! Kamailio as a peer: the shortest registrar and proxy that its documentation leads to, with the same digest
//! check.

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// Where it listens in this bench.
pub(crate) const ADDRESS: &str = "127.0.0.1:5070";

/// A running Kamailio; ended when it is dropped.
pub(crate) struct Kamailio {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Kamailio {
    /// Starts it with this password for everybody.
    pub(crate) fn start(directory: &Path, address: SocketAddr, password: &str) -> Result<Self> {
        Self::start_as(directory, address, &configuration(address, password, ("", "")))
    }

    /// As [`start`](Self::start), with pike and a table of who is banned, as its shipped configuration has them; who is
    /// trusted is not asked, because pike would take an office behind one address for an attacker.
    pub(crate) fn start_with_pike(
        directory: &Path,
        address: SocketAddr,
        password: &str,
        trusted: &[IpAddr],
    ) -> Result<Self> {
        let not_trusted: String = trusted.iter().map(|address| format!(" && $si != \"{address}\"")).collect();
        let route = PIKE_ROUTE.replace("TRUSTED", &not_trusted);
        Self::start_as(directory, address, &configuration(address, password, (PIKE_MODULES, &route)))
    }

    fn start_as(directory: &Path, address: SocketAddr, configuration: &str) -> Result<Self> {
        let config = directory.join("kamailio.cfg");
        fs::write(&config, configuration)?;
        let log = fs::File::create(directory.join("kamailio.log"))?;
        let child = Command::new("kamailio")
            .args(["-DD", "-E", "-m", "512", "-M", "32"])
            .arg("-f")
            .arg(&config)
            .arg("-Y")
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("kamailio does not start; `cargo xtask setup` installs it")?;
        let mut kamailio = Self { child, address };
        kamailio.wait_until_it_answers(directory)?;
        Ok(kamailio)
    }

    /// Its main process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_it_answers(&mut self, directory: &Path) -> Result<()> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let local = socket.local_addr()?;
        let options = format!(
            "OPTIONS sip:{0} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bKready;rport\r\nMax-Forwards: 5\r\n\
             From: <sip:bench@{0}>;tag=1\r\nTo: <sip:{0}>\r\nCall-ID: ready\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
            self.address
        );
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            let _ = socket.send_to(options.as_bytes(), self.address);
            if socket.recv(&mut [0; 4096]).is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(directory.join("kamailio.log")).unwrap_or_default();
                bail!("kamailio ended ({status}):\n{log}");
            }
        }
        bail!("kamailio does not answer")
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        // Its children end with it only when it may end in order.
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// As in `WITH_ANTIFLOOD` of the configuration that is shipped.
const PIKE_MODULES: &str = r#"loadmodule "htable.so"
loadmodule "pike.so"
modparam("pike", "sampling_time_unit", 2)
modparam("pike", "reqs_density_per_unit", 16)
modparam("pike", "remove_latency", 4)
modparam("htable", "htable", "ipban=>size=8;autoexpire=300;")"#;

const PIKE_ROUTE: &str = r#"if (src_ip != myselfTRUSTED) {
        if ($sht(ipban=>$si) != $null) { exit; }
        if (!pike_check_req()) {
            $sht(ipban=>$si) = 1;
            exit;
        }
    }"#;

/// With these modules, and this before anything else of a request.
fn configuration(address: SocketAddr, password: &str, (modules, first): (&str, &str)) -> String {
    format!(
        r#"#!KAMAILIO
debug=0
log_stderror=yes
children=2
disable_tcp=yes
auto_aliases=no
listen=udp:{address}
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
loadmodule "kex.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
loadmodule "rr.so"
{modules}
modparam("usrloc", "db_mode", 0)
modparam("auth", "qop", "auth")
modparam("auth", "nonce_expire", 300)

request_route {{
    {first}
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (is_method("REGISTER")) {{
        if (!pv_www_authenticate("$td", "{password}", "0")) {{ www_challenge("$td", "1"); exit; }}
        if (!save("location")) {{ sl_reply_error(); }}
        exit;
    }}
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK")) {{
            if (t_check_trans()) {{ t_relay(); }}
            exit;
        }}
        sl_send_reply("404", "Not Here");
        exit;
    }}
    if (is_method("INVITE")) {{
        if (!pv_proxy_authenticate("$fd", "{password}", "0")) {{ proxy_challenge("$fd", "1"); exit; }}
        consume_credentials();
        record_route();
        if (!lookup("location")) {{ sl_send_reply("404", "Not Found"); exit; }}
        t_relay();
        exit;
    }}
    if (is_method("ACK|CANCEL")) {{
        if (t_check_trans()) {{ t_relay(); }}
        exit;
    }}
    sl_send_reply("404", "Not Found");
}}
"#
    )
}
