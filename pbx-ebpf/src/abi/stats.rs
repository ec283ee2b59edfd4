//! `STATS`: packets and bytes by reason, per CPU and interface.

/// Name of the map: a per-CPU array of [`INTERFACES`] elements [[packets, bytes]; [`REASONS`]].
pub const NAME: &str = "STATS";
/// Elements; 0 is for interfaces without one of their own.
pub const INTERFACES: u32 = 64;
/// Room for reasons; they are append-only.
pub const REASONS: usize = 32;

/// Why a packet passed or was dropped.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Passed: not IP.
    NotIp = 0,
    /// Passed: more than two VLAN tags.
    ManyTags = 1,
    /// Passed: neighbour discovery.
    NeighbourDiscovery = 2,
    /// Passed: multicast listener discovery.
    MulticastListener = 3,
    /// Passed: DHCP answer.
    Dhcp = 4,
    /// Passed: from an address of the appliance.
    Own = 5,
    /// Dropped: version, header length or total length contradict the frame.
    Malformed = 6,
    /// Passed: a manual rule allows the source.
    Allowed = 7,
    /// Dropped: a manual rule blocks the source.
    Manual = 8,
    /// Passed: a media flow in progress.
    MediaFlow = 9,
    /// Passed: a known source within its budget.
    Known = 10,
    /// Dropped: a known source over its budget.
    KnownBudget = 11,
    /// Dropped: an automatic block.
    Automatic = 12,
    /// Dropped: the packet that reached level 1.
    Level1 = 13,
    /// Dropped: the packet that reached level 2.
    Level2 = 14,
    /// Dropped: over a level, and no block may be made.
    Policed = 15,
    /// Dropped: over the limit of TCP segments.
    TcpLimit = 16,
    /// Dropped: over the limit of later fragments.
    FragmentLimit = 17,
    /// Dropped: a media port that no call holds.
    MediaPort = 18,
    /// Passed: to a protected port, counted.
    Counted = 19,
    /// Passed: nothing spoke against it.
    Passed = 20,
    /// Would have been dropped: malformed.
    WouldMalformed = 21,
    /// Would have been dropped: a manual rule in monitor.
    WouldManual = 22,
    /// Would have been dropped: an automatic block made in monitor.
    WouldAutomatic = 23,
    /// Would have been dropped: a rate level in monitor.
    WouldLevel = 24,
    /// Would have been dropped: a budget in monitor.
    WouldPolice = 25,
    /// Would have been dropped: a media port in monitor.
    WouldMediaPort = 26,
    /// Dropped: to a protected port, from a source that default deny does not know.
    DefaultDeny = 27,
    /// Would have been dropped: default deny in monitor.
    WouldDefaultDeny = 28,
}

impl Reason {
    /// From its number; what is none passes.
    #[inline(always)]
    pub const fn of(number: u64) -> Reason {
        if number < Self::ALL.len() as u64 {
            // SAFETY: `ALL` names every number below its length, without a gap.
            unsafe { core::mem::transmute::<u8, Reason>(number as u8) }
        } else {
            Reason::Passed
        }
    }
    /// All reasons, by their number.
    pub const ALL: [Reason; 29] = [
        Reason::NotIp,
        Reason::ManyTags,
        Reason::NeighbourDiscovery,
        Reason::MulticastListener,
        Reason::Dhcp,
        Reason::Own,
        Reason::Malformed,
        Reason::Allowed,
        Reason::Manual,
        Reason::MediaFlow,
        Reason::Known,
        Reason::KnownBudget,
        Reason::Automatic,
        Reason::Level1,
        Reason::Level2,
        Reason::Policed,
        Reason::TcpLimit,
        Reason::FragmentLimit,
        Reason::MediaPort,
        Reason::Counted,
        Reason::Passed,
        Reason::WouldMalformed,
        Reason::WouldManual,
        Reason::WouldAutomatic,
        Reason::WouldLevel,
        Reason::WouldPolice,
        Reason::WouldMediaPort,
        Reason::DefaultDeny,
        Reason::WouldDefaultDeny,
    ];
    /// Short name, as the API and the command line print it.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::NotIp => "not-ip",
            Reason::ManyTags => "many-tags",
            Reason::NeighbourDiscovery => "neighbour-discovery",
            Reason::MulticastListener => "multicast-listener",
            Reason::Dhcp => "dhcp",
            Reason::Own => "own-address",
            Reason::Malformed => "malformed",
            Reason::Allowed => "allowed",
            Reason::Manual => "manual-block",
            Reason::MediaFlow => "media-flow",
            Reason::Known => "known-source",
            Reason::KnownBudget => "known-budget",
            Reason::Automatic => "automatic-block",
            Reason::Level1 => "level1",
            Reason::Level2 => "level2",
            Reason::Policed => "policed",
            Reason::TcpLimit => "tcp-limit",
            Reason::FragmentLimit => "fragment-limit",
            Reason::MediaPort => "media-port",
            Reason::Counted => "counted",
            Reason::Passed => "passed",
            Reason::WouldMalformed => "would-malformed",
            Reason::WouldManual => "would-manual-block",
            Reason::WouldAutomatic => "would-automatic-block",
            Reason::WouldLevel => "would-level",
            Reason::WouldPolice => "would-police",
            Reason::WouldMediaPort => "would-media-port",
            Reason::DefaultDeny => "default-deny",
            Reason::WouldDefaultDeny => "would-default-deny",
        }
    }
    /// Whether a packet with this reason would have been dropped by a rule in monitor.
    #[inline(always)]
    pub const fn would_drop(self) -> bool {
        self as u8 >= Reason::WouldMalformed as u8 && self as u8 != Reason::DefaultDeny as u8
    }
    /// Whether a packet with this reason is dropped.
    #[inline(always)]
    pub const fn drops(self) -> bool {
        matches!(
            self,
            Reason::Malformed
                | Reason::Manual
                | Reason::KnownBudget
                | Reason::Automatic
                | Reason::Level1
                | Reason::Level2
                | Reason::Policed
                | Reason::TcpLimit
                | Reason::FragmentLimit
                | Reason::MediaPort
                | Reason::DefaultDeny
        )
    }
}
