//! A payload of records: what is read can be written, and is then read as the same.

use tidegate::cluster::wire::records::records;

/// Takes a payload.
pub fn take(payload: &[u8]) {
    let Ok(all) = records(payload) else { return };
    let mut again = Vec::new();
    all.iter().for_each(|record| record.put(&mut again));
    assert!(again.len() <= payload.len(), "what was read became longer");
    // By their bytes, for a level that is no number is not equal to itself.
    let mut once_more = Vec::new();
    let reread = records(&again).expect("what was written can be read");
    reread.iter().for_each(|record| record.put(&mut once_more));
    assert_eq!(again, once_more);
}
