//! Why a datagram was dropped. Each reason is a metric's label.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal),+ $(,)?) => {
        /// Why a datagram was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $name),+
        }

        impl Reason {
            /// All reasons, in order of their discriminants.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),+];

            /// As metrics call it.
            pub fn label(self) -> &'static str {
                match self {
                    $(Reason::$name => $label),+
                }
            }
        }
    };
}

reasons! {
    /// No room for header and tag.
    TooShort = "too_short",
    /// Longer than any datagram of ours.
    TooLong = "too_long",
    /// A wire version that we do not speak.
    BadVersion = "bad_version",
    /// Sealed by a key that we do not have.
    UnknownKey = "unknown_key",
    /// Of another cluster.
    BadLabel = "bad_label",
    /// Plaintext that was corrupted, or meant for another node.
    BadChecksum = "bad_checksum",
    /// A seal that does not hold: another key of that name, another label, another recipient, forged
    /// or corrupted.
    BadSeal = "bad_seal",
    /// Sealed, and heard before or too late.
    Replay = "replay",
    /// Sealed by a boot that has not passed its challenge.
    UnknownBoot = "unknown_boot",
    /// Sealed for whoever hears it, and not a first join.
    Unaddressed = "unaddressed",
    /// Plaintext, where keys are demanded: by this node, or by what is said.
    Plaintext = "plaintext",
    /// Whole, but of a type that we do not know.
    UnknownType = "unknown_type",
    /// Whole, but its content is not what its type says.
    Undecodable = "undecodable",
    /// Our own datagram came back.
    Own = "own",
    /// Counters or verdicts of a node that is not a member.
    UnknownSender = "unknown_sender",
    /// More per second than a peer may send.
    RateLimited = "rate_limited",
    /// Plaintext from a public address.
    PublicAddress = "public_address",
    /// An identity, or an act, from more than a day ahead, or a ticket secret from beyond the next
    /// epoch.
    FutureGeneration = "future_generation",
    /// There are as many members as there may be.
    MembersFull = "members_full",
    /// The answer to a challenge that was not ours, or was made long ago.
    BadNonce = "bad_nonce",
    /// A node that claims an address or a name that another one holds.
    Duplicate = "duplicate",
}

/// Datagrams dropped, by reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drops(Vec<u64>);

impl Default for Drops {
    fn default() -> Self {
        Drops(vec![0; Reason::ALL.len()])
    }
}

impl Drops {
    /// One more.
    pub fn count(&mut self, reason: Reason) {
        self.0[reason as usize] += 1;
    }

    /// How many were dropped for `reason`.
    pub fn of(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    /// All, labelled.
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        Reason::ALL.iter().map(|reason| (reason.label(), self.of(*reason))).collect()
    }
}
