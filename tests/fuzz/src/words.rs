//! What people type and nodes print: addresses of backends and peers, an admin listener, the bodies of
//! calls that change the cluster. What was understood is printed as something that is understood as
//! the same; what was not says why.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use tidegate::admin::Target;
use tidegate::admin::orders::Kind;
use tidegate::base::Endpoint;

const ORDERS: [Kind; 7] =
    [Kind::Ban, Kind::Unban, Kind::Drain, Kind::Undrain, Kind::Add, Kind::Remove, Kind::Weigh];

/// Takes a word for each of the readers.
pub fn take(bytes: &[u8]) {
    for kind in ORDERS {
        if let Err(denied) = kind.read(bytes) {
            assert!(!denied.text().is_empty());
        }
    }
    let Ok(word) = std::str::from_utf8(bytes) else { return };
    returns::<Endpoint>(word);
    returns::<Target>(word);
}

fn returns<T: FromStr + Display + PartialEq + Debug>(word: &str) {
    let Ok(read) = word.parse::<T>() else { return };
    let printed = read.to_string();
    assert_eq!(printed.parse::<T>().ok().as_ref(), Some(&read), "{printed:?} of {word:?}");
}
