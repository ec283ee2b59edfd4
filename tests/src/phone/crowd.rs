//! A crowd of phones in one thread: each registers with digest (MD5, RFC 2617) over UDP, so many at a time. Counts what
//! became of each and how long each answer took.

use std::{
    collections::HashMap,
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::digest;

/// Who registers where.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// The address that all of them share; port 0: any.
    pub source: SocketAddr,
    /// The registrar.
    pub server: SocketAddr,
    /// Host part of their URIs.
    pub domain: String,
    /// Their numbers, in this order.
    pub numbers: Vec<u32>,
    /// What all of them have as a password.
    pub password: String,
    /// Requests that may be unanswered at once.
    pub window: usize,
    /// Whether a challenge is answered; if not, the challenge is the end.
    pub answers: bool,
    /// Part of their Call-IDs and branches: another one each time that the same phones register, as after a restart.
    pub run: u32,
}

/// What became of them.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Got 200.
    pub registered: usize,
    /// Challenges that came.
    pub challenged: usize,
    /// Final answers but 200: number and status.
    pub refused: Vec<(u32, u16)>,
    /// Numbers that never got an answer.
    pub silent: Vec<u32>,
    /// Requests that were sent again.
    pub repeated: usize,
    /// Number and time from a request to its final answer.
    pub times: Vec<(u32, Duration)>,
}

/// A request is sent again after so long, and given up after [`TRIES`].
const PATIENCE: Duration = Duration::from_millis(500);
const TRIES: u32 = 6;

struct Waiting {
    message: String,
    sent: Instant,
    tries: u32,
    answered_challenge: bool,
}

impl Crowd {
    /// Lets all of them register, and waits until the last has an answer or gives up.
    pub fn register(&self) -> Result<Outcome> {
        let socket = UdpSocket::bind(self.source).with_context(|| format!("bind {}", self.source))?;
        socket.connect(self.server)?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        let local = socket.local_addr()?;
        let mut outcome = Outcome::default();
        let mut next = self.numbers.iter().copied();
        let mut waiting: HashMap<u32, Waiting> = HashMap::new();
        let mut buffer = vec![0; 65_536];
        loop {
            while waiting.len() < self.window {
                let Some(number) = next.next() else { break };
                let message = self.message(local, number, 1, "");
                let _ = socket.send(message.as_bytes());
                waiting.insert(number, Waiting { message, sent: Instant::now(), tries: 1, answered_challenge: false });
            }
            if waiting.is_empty() {
                return Ok(outcome);
            }
            match socket.recv(&mut buffer) {
                Ok(length) => self.answer(&socket, local, &buffer[..length], &mut waiting, &mut outcome)?,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) =>
                {
                    repeat(&socket, &mut waiting, &mut outcome);
                }
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    repeat(&socket, &mut waiting, &mut outcome)
                }
                Err(error) => return Err(error).context("receive"),
            }
        }
    }

    fn answer(
        &self,
        socket: &UdpSocket,
        local: SocketAddr,
        bytes: &[u8],
        waiting: &mut HashMap<u32, Waiting>,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let text = std::str::from_utf8(bytes).context("an answer that is no text")?;
        let status: u16 = text.get(8..11).and_then(|status| status.parse().ok()).context("an answer without status")?;
        let number = digest::header(text, "Call-ID").and_then(|id| id.split('-').next()?.parse().ok());
        let number: u32 = number.with_context(|| format!("an answer to nobody:\n{text}"))?;
        let Some(state) = waiting.get_mut(&number) else { return Ok(()) };
        let to_second = digest::header(text, "CSeq").is_some_and(|cseq| cseq.starts_with('2'));
        if status < 200 || to_second != state.answered_challenge {
            return Ok(());
        }
        if status == 401 && !state.answered_challenge {
            outcome.challenged += 1;
            if self.answers {
                state.message = self.message(
                    local,
                    number,
                    2,
                    &digest::authorization(&number.to_string(), &self.password, &self.domain, text)?,
                );
                state.answered_challenge = true;
                (state.sent, state.tries) = (Instant::now(), 1);
                let _ = socket.send(state.message.as_bytes());
                return Ok(());
            }
        }
        outcome.times.push((number, state.sent.elapsed()));
        match status {
            200 => outcome.registered += 1,
            _ if self.answers => outcome.refused.push((number, status)),
            _ => {}
        }
        waiting.remove(&number);
        Ok(())
    }

    fn message(&self, local: SocketAddr, number: u32, cseq: u32, credentials: &str) -> String {
        let Self { domain, run, .. } = self;
        format!(
            "REGISTER sip:{domain} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bK-{number}-{run}-{cseq};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{number}@{domain}>;tag=crowd-{number}\r\n\
             To: <sip:{number}@{domain}>\r\n\
             Call-ID: {number}-{run}-{local}\r\n\
             CSeq: {cseq} REGISTER\r\n\
             Contact: <sip:{number}@{local}>\r\n\
             Expires: 300\r\n\
             User-Agent: crowd\r\n\
             {credentials}Content-Length: 0\r\n\r\n"
        )
    }
}

fn repeat(socket: &UdpSocket, waiting: &mut HashMap<u32, Waiting>, outcome: &mut Outcome) {
    waiting.retain(|number, state| {
        if state.sent.elapsed() < PATIENCE * state.tries {
            return true;
        }
        if state.tries == TRIES {
            outcome.silent.push(*number);
            return false;
        }
        state.tries += 1;
        outcome.repeated += 1;
        let _ = socket.send(state.message.as_bytes());
        true
    });
}
