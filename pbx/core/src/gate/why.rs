//! Why a message ends at the gate: what operators see as counters.

/// Why a message goes no further: a counter each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// No SIP message.
    Garbage,
    /// A message with a fault.
    Malformed,
    /// A message after whose fault the stream cannot be read.
    Broken,
    /// Challenged: there were no credentials.
    Challenged,
    /// Challenged again: wrong credentials of a user that exists.
    WrongPassword,
    /// Challenged again: wrong credentials of a user that does not exist, or is disabled.
    WrongUser,
    /// Challenged again: right credentials with an old nonce.
    Stale,
    /// Challenged again: right credentials with a nonce that is not ours.
    ForeignNonce,
    /// Challenged again: credentials that cannot be judged.
    Unusable,
    /// Right credentials of somebody else than the message says.
    NotTheirs,
    /// It would have been answered, and its source has had enough answers.
    SourceSpent,
    /// It would have been answered, and all strangers together have had enough answers.
    AllSpent,
    /// A stranger's that would have been answered, or have gone to the core, and there is more than can be done.
    Overload,
    /// An OPTIONS, answered.
    Options,
    /// An OPTIONS of a stranger.
    Silent,
    /// A request for a dialog that does not exist.
    NoDialog,
    /// There is no tenant.
    NoTenant,
    /// A forbidden User-Agent.
    Agent,
    /// Credentials that are not judged now, because others for the same account just failed from the same known source.
    Throttled,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Garbage,
        Self::Malformed,
        Self::Broken,
        Self::Challenged,
        Self::WrongPassword,
        Self::WrongUser,
        Self::Stale,
        Self::ForeignNonce,
        Self::Unusable,
        Self::NotTheirs,
        Self::SourceSpent,
        Self::AllSpent,
        Self::Overload,
        Self::Options,
        Self::Silent,
        Self::NoDialog,
        Self::NoTenant,
        Self::Agent,
        Self::Throttled,
    ];

    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Garbage => "garbage",
            Self::Malformed => "malformed",
            Self::Broken => "broken",
            Self::Challenged => "challenged",
            Self::WrongPassword => "wrong_password",
            Self::WrongUser => "wrong_user",
            Self::Stale => "stale_nonce",
            Self::ForeignNonce => "foreign_nonce",
            Self::Unusable => "unusable_credentials",
            Self::NotTheirs => "not_theirs",
            Self::SourceSpent => "source_over_limit",
            Self::AllSpent => "strangers_over_limit",
            Self::Overload => "overload",
            Self::Options => "options",
            Self::Silent => "options_of_strangers",
            Self::NoDialog => "no_dialog",
            Self::NoTenant => "no_tenant",
            Self::Agent => "forbidden_agent",
            Self::Throttled => "throttled",
        }
    }
}
