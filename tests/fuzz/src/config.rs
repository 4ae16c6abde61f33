//! A configuration file: it loads and can be summed up, or every fault says what it is.

use std::path::Path;

use tidegate::config::{parse, summary};

/// Takes a file's text.
pub fn take(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // Files that a configuration names are sought where there are none.
    match parse(text, "lb.yaml", Path::new("/nonexistent")) {
        Ok(loaded) => assert!(!summary(&loaded, "lb.yaml").is_empty()),
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a fault");
            assert!(faults.to_string().contains("lb.yaml"), "{faults}");
        }
    }
}
