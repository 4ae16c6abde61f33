//! The command line of tidegate.

fn main() {}
