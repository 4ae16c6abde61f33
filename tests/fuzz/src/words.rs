//! What people type and nodes print: addresses of backends and peers, an admin listener. What was
//! understood is printed as something that is understood as the same.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use tidegate::admin::Target;
use tidegate::base::Endpoint;

/// Takes a word for each of the readers.
pub fn take(bytes: &[u8]) {
    let Ok(word) = std::str::from_utf8(bytes) else { return };
    returns::<Endpoint>(word);
    returns::<Target>(word);
}

fn returns<T: FromStr + Display + PartialEq + Debug>(word: &str) {
    let Ok(read) = word.parse::<T>() else { return };
    let printed = read.to_string();
    assert_eq!(printed.parse::<T>().ok().as_ref(), Some(&read), "{printed:?} of {word:?}");
}
