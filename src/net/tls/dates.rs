//! What holds for a time alone: certificates, authorities, revocation lists, OCSP responses.

use std::path::PathBuf;

use crate::base::time;

const DAY: u64 = 24 * 3600 * 1000;
/// A certificate is renewed at leisure within this.
const SOON: u64 = 14 * DAY;

/// Something in use that holds for a time alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dated {
    /// What it is.
    pub kind: DatedKind,
    /// Where it was read.
    pub file: PathBuf,
    /// Whose it is; of a revocation list: whose certificates it is about.
    pub name: String,
    /// The serial number of the certificate, hex; of a revocation list none.
    pub serial: String,
    /// From when on it is good, milliseconds since 1970.
    pub from_ms: u64,
    /// When it ends to be, milliseconds since 1970.
    pub until_ms: u64,
}

/// What has dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DatedKind {
    /// A certificate that is shown.
    Certificate,
    /// One whose word counts about others.
    Authority,
    /// A revocation list, until its next update.
    RevocationList,
    /// An OCSP response, until its next update.
    OcspResponse,
}

impl DatedKind {
    /// As metrics say it.
    pub fn label(self) -> &'static str {
        match self {
            DatedKind::Certificate => "certificate",
            DatedKind::Authority => "authority",
            DatedKind::RevocationList => "revocation_list",
            DatedKind::OcspResponse => "ocsp_response",
        }
    }
}

impl Dated {
    /// What it is, in words, to begin a sentence with.
    pub fn subject(&self) -> String {
        let (file, name) = (self.file.display(), &self.name);
        match self.kind {
            DatedKind::Certificate => format!("the certificate {file}"),
            DatedKind::Authority => format!("the authority `{name}` in {file}"),
            DatedKind::RevocationList => format!("the revocation list of `{name}` in {file}"),
            DatedKind::OcspResponse => format!("the OCSP response {file}"),
        }
    }

    /// What is to be said of its dates at `now_ms`, and what follows from it; `None`: nothing for the
    /// next two weeks. Lists and responses live for days only, and are told when they are over.
    pub fn trouble(&self, now_ms: u64) -> Option<String> {
        let day = |ms| time::rfc3339(ms)[..10].to_owned();
        let (from, until) = (self.from_ms, self.until_ms);
        let renewed = matches!(self.kind, DatedKind::Certificate | DatedKind::Authority);
        if until <= now_ms {
            let then = match self.kind {
                DatedKind::Certificate => "is believed no more",
                DatedKind::Authority => "is believed all the same until it is taken out",
                DatedKind::RevocationList => "holds on: whoever was revoked since then is let in",
                DatedKind::OcspResponse => "is shown no more",
            };
            Some(format!("has expired on {}, and {then}", day(until)))
        } else if from > now_ms {
            Some(format!("is not good before {}", day(from)))
        } else if renewed && until - now_ms < SOON {
            Some(format!("expires on {}, in {} days", day(until), (until - now_ms) / DAY))
        } else {
            None
        }
    }

    /// How to mend it.
    pub fn remedy(&self) -> &'static str {
        match self.kind {
            DatedKind::Certificate => "have it issued anew, and write it over the old one",
            DatedKind::Authority => {
                "have what it has signed issued anew by another, and put that one in its place"
            }
            DatedKind::RevocationList | DatedKind::OcspResponse => {
                "fetch the next one, and write it over this"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dated(kind: DatedKind) -> Dated {
        Dated {
            kind,
            file: PathBuf::from("file"),
            name: String::new(),
            serial: String::new(),
            from_ms: 1_000 * DAY,
            until_ms: 1_100 * DAY,
        }
    }

    #[test]
    fn the_last_two_weeks_and_what_lies_outside_are_trouble() {
        let certificate = dated(DatedKind::Certificate);
        let trouble = |ms| certificate.trouble(ms);
        assert_eq!(trouble(1_050 * DAY), None);
        assert_eq!(trouble(1_086 * DAY), None);
        let soon = trouble(1_086 * DAY + 1);
        assert_eq!(soon.as_deref(), Some("expires on 1973-01-05, in 13 days"));
        let over = trouble(1_100 * DAY);
        assert_eq!(over.as_deref(), Some("has expired on 1973-01-05, and is believed no more"));
        let early = trouble(999 * DAY);
        assert_eq!(early.as_deref(), Some("is not good before 1972-09-27"));
    }

    #[test]
    fn what_is_fetched_every_few_days_is_told_when_it_is_over() {
        for (kind, then) in [
            (DatedKind::RevocationList, "holds on"),
            (DatedKind::OcspResponse, "shown no more"),
            (DatedKind::Authority, "believed all the same"),
        ] {
            let fetched = kind != DatedKind::Authority;
            assert_eq!(dated(kind).trouble(1_100 * DAY - 1).is_none(), fetched, "{kind:?}");
            let over = dated(kind).trouble(1_100 * DAY).unwrap();
            assert!(over.contains(then), "{over}");
        }
    }
}
