//! A mail server on loopback for tests: a peer, that speaks as much of SMTP as a client needs to hand mail over.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// What it does with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Takes what it is given.
    Takes,
    /// Knows no user and no password.
    RefusesUser,
    /// Is busy: 451.
    Busy,
    /// Accepts the connection and says nothing.
    Silent,
}

/// A mail that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mail {
    /// Who signed in: the words of AUTH PLAIN, decoded.
    pub(crate) login: Option<String>,
    /// The mailboxes of RCPT TO.
    pub(crate) to: Vec<String>,
    /// Headers and body, as they came.
    pub(crate) text: String,
}

/// The server.
pub(crate) struct MailServer {
    pub(crate) port: u16,
    pub(crate) mood: Arc<Mutex<Mood>>,
    pub(crate) mails: mpsc::Receiver<Mail>,
    /// Connections that it saw.
    pub(crate) seen: Arc<Mutex<usize>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl MailServer {
    pub(crate) async fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (arrived, mails) = mpsc::channel(100);
        let (mood, seen) = (Arc::new(Mutex::new(mood)), Arc::new(Mutex::new(0)));
        let (is, count) = (Arc::clone(&mood), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *count.lock().unwrap() += 1;
                let mood = *is.lock().unwrap();
                let arrived = arrived.clone();
                tokio::spawn(async move {
                    // A client that hangs up is no fault of the test's.
                    let _ = serve(stream, mood, arrived).await;
                });
            }
        });
        Self { port, mood, mails, seen, task }
    }

    /// The next mail; it is an error when none comes.
    pub(crate) async fn next(&mut self) -> Mail {
        let next = tokio::time::timeout(std::time::Duration::from_secs(60), self.mails.recv());
        next.await.expect("no mail came").unwrap()
    }
}

async fn serve(stream: TcpStream, mood: Mood, arrived: mpsc::Sender<Mail>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    if mood == Mood::Silent {
        stream.read_line(&mut line).await?;
        return Ok(());
    }
    stream.write_all(b"220 peer ESMTP\r\n").await?;
    let mut mail = Mail { login: None, to: Vec::new(), text: String::new() };
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let words = line.trim_end().to_owned();
        let verb = words.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let answer = match verb.as_str() {
            "EHLO" => "250-peer\r\n250 AUTH PLAIN\r\n",
            "AUTH" if mood == Mood::RefusesUser => "535 5.7.8 no such user\r\n",
            "AUTH" => {
                mail.login = words.split(' ').nth(2).map(str::to_owned);
                "235 2.7.0 ok\r\n"
            }
            "MAIL" if mood == Mood::Busy => "451 4.3.0 too busy\r\n",
            "RCPT" => {
                mail.to.push(words["RCPT TO:<".len()..].trim_end_matches('>').to_owned());
                "250 ok\r\n"
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                loop {
                    line.clear();
                    stream.read_line(&mut line).await?;
                    if line == ".\r\n" {
                        break;
                    }
                    mail.text.push_str(line.strip_prefix('.').unwrap_or(&line));
                }
                let _ = arrived.send(mail.clone()).await;
                "250 taken\r\n"
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => "250 ok\r\n",
        };
        stream.write_all(answer.as_bytes()).await?;
    }
}
