//! Why a command did not do it, and the exit code that says so to scripts.

use std::{io, path::Path, process::ExitCode};

use hyper::StatusCode;

use crate::{api::ErrorBody, ops::OpError};

/// Why a command did not do it.
#[derive(Debug)]
pub(super) enum Failure {
    /// Went wrong.
    Failed(String),
    /// Means nothing.
    Usage(String),
    /// No daemon answers.
    NoDaemon(String),
    /// The socket may not be opened.
    Denied(String),
    /// The daemon says no.
    Answer {
        /// With this status.
        status: StatusCode,
        /// For these reasons.
        errors: Vec<OpError>,
    },
    /// It would do harm now.
    Refused(String),
    /// Everything was printed; only the code is left to give.
    Code(u8),
}

impl Failure {
    /// 1 failed, 2 usage, 3 not found, 4 denied, 5 no daemon, 7 refused.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Denied(_) => 4,
            Self::NoDaemon(_) => 5,
            Self::Refused(_) => 7,
            Self::Code(code) => *code,
            Self::Answer { status, .. } => match status.as_u16() {
                400 | 405 | 413 | 415 => 2,
                404 => 3,
                401 | 403 => 4,
                409 => 7,
                _ => 1,
            },
        }
    }

    /// Says it on stderr, in words or as JSON, and gives the code.
    pub(super) fn report(self, json: bool) -> ExitCode {
        let code = self.code();
        let errors = match self {
            Self::Code(_) => return code.into(),
            Self::Answer { errors, .. } => errors,
            Self::Failed(message) => vec![OpError::internal(message)],
            Self::Usage(message) => vec![OpError::usage(message)],
            Self::Denied(message) => vec![OpError::denied(message)],
            Self::Refused(message) => vec![OpError::refused(message)],
            Self::NoDaemon(message) => vec![OpError::internal(message).with_code("NO_DAEMON")],
        };
        if json {
            eprintln!("{}", serde_json::to_string(&ErrorBody { errors }).unwrap_or_default());
            return code.into();
        }
        for error in errors {
            eprintln!("pbx: {}", error.message);
            for line in error.detail.iter().flat_map(|detail| detail.lines()) {
                eprintln!("  {line}");
            }
        }
        code.into()
    }

    /// The socket did not open.
    pub(super) fn connecting(socket: &Path, error: &io::Error) -> Self {
        let socket = socket.display();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Self::NoDaemon(format!(
                "no daemon answers at {socket}: start it (`systemctl start pbx`), or name its socket with --socket PATH"
            )),
            io::ErrorKind::PermissionDenied => {
                Self::Denied(format!("{socket} may not be opened: ask root, or join the group pbx-view or pbx-admin"))
            }
            _ => Self::Failed(format!("cannot connect to {socket}: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_its_exit_code() {
        for (status, code) in [(400, 2), (404, 3), (403, 4), (409, 7), (422, 1), (500, 1), (413, 2), (405, 2)] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Failure::Answer { status, errors: Vec::new() }.code(), code, "{status}");
        }
        assert_eq!(Failure::Failed(String::new()).code(), 1);
        assert_eq!(Failure::Usage(String::new()).code(), 2);
    }

    #[test]
    fn a_socket_that_does_not_open_says_what_helps() {
        let path = Path::new("/run/x.sock");
        let missing = Failure::connecting(path, &io::ErrorKind::NotFound.into());
        assert_eq!(missing.code(), 5);
        assert!(matches!(missing, Failure::NoDaemon(message) if message.contains("systemctl start pbx")));
        assert_eq!(Failure::connecting(path, &io::ErrorKind::PermissionDenied.into()).code(), 4);
        assert_eq!(Failure::connecting(path, &io::ErrorKind::TimedOut.into()).code(), 1);
    }
}
