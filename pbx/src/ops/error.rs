//! Why an operation did not happen: one type for API and command line, sorted by whose fault it is.

use pbx_core::{lockout::Refusal, rule::CapacityError};
use serde::{Deserialize, Serialize};

use crate::{secrets::SecretError, store::StoreError};

/// By whose fault, and what helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for means nothing: ask differently.
    Usage,
    /// It is not there.
    NotFound,
    /// Whoever asks may not.
    Denied,
    /// It would do harm; some of it can be forced.
    Refused,
    /// It does not fit.
    Full,
    /// It went wrong here.
    Failed,
}

/// Why an operation did not happen. The old state stands unless the message says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct OpError {
    /// Upper-case word for programs.
    pub code: String,
    /// What went wrong and what to do, for people.
    pub message: String,
    /// More of it: one line each.
    pub detail: Option<String>,
    #[serde(skip, default = "failed")]
    kind: Kind,
}

const fn failed() -> Kind {
    Kind::Failed
}

impl OpError {
    fn new(kind: Kind, code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), detail: None, kind }
    }

    /// What was asked for means nothing.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, "VALIDATE_FAILED", message)
    }

    /// It is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, "NOT_FOUND", message)
    }

    /// Whoever asks may not.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(Kind::Denied, "FORBIDDEN", message)
    }

    /// It would do harm, and cannot be forced.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, "REFUSED", message)
    }

    /// It would do harm, and can be forced.
    pub fn needs_force(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, "NEEDS_FORCE", message)
    }

    /// It does not fit.
    pub fn full(message: impl Into<String>) -> Self {
        Self::new(Kind::Full, "CAPACITY", message)
    }

    /// The filter did not take it.
    pub fn filter(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, "FILTER_FAILED", message)
    }

    /// The signalling side did not take it: a port in use, most often. Nobody's program is at fault.
    pub fn signalling(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, "SIGNALLING_REFUSED", message)
    }

    /// Something that should not be able to happen.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, "UNKNOWN", message)
    }

    /// The same with more lines to read.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The same under another word for programs.
    #[must_use]
    pub fn with_code(mut self, code: &str) -> Self {
        self.code = code.to_owned();
        self
    }

    /// The same in other words.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// By whose fault.
    pub const fn kind(&self) -> Kind {
        self.kind
    }
}

impl From<StoreError> for OpError {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::Full(_) => "STORE_FULL",
            StoreError::Busy(_) => "STORE_BUSY",
            _ => "STORE_FAILED",
        };
        Self::new(Kind::Failed, code, error.to_string())
    }
}

impl From<SecretError> for OpError {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::Store(error) => error.into(),
            error => Self::new(Kind::Failed, "SECRET_FAILED", error.to_string()),
        }
    }
}

impl From<CapacityError> for OpError {
    fn from(error: CapacityError) -> Self {
        Self::full(error.to_string())
    }
}

impl From<Refusal> for OpError {
    fn from(refusal: Refusal) -> Self {
        match &refusal {
            Refusal::Hard { .. } => Self::refused(refusal.to_string()),
            Refusal::NeedsForce { .. } => Self::needs_force(refusal.to_string()),
        }
    }
}
