//! The node: boot, build, reload, drain.
