//! What the kernel says of this process, from `/proc`; what it does not say is not shown.

use std::fs;

/// Clock ticks per second in `/proc/*/stat`: fixed by the kernel's interface on every platform we
/// build for.
const TICKS: f64 = 100.0;

/// Figures of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// User and system time, seconds.
    pub cpu_seconds: Option<f64>,
    /// Unix seconds.
    pub start_time: Option<f64>,
    /// Resident memory, bytes.
    pub resident_bytes: Option<u64>,
    /// Address space, bytes.
    pub virtual_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// Most descriptors (soft limit); `None` also when unlimited.
    pub max_fds: Option<u64>,
}

impl Process {
    /// Reads `/proc/self`; a few hundred microseconds, done once per scrape.
    pub fn read() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (stat, status) = (read("/proc/self/stat"), read("/proc/self/status"));
        let booted = read("/proc/stat").lines().find_map(|line| {
            line.strip_prefix("btime ").and_then(|seconds| seconds.trim().parse::<f64>().ok())
        });
        let after_boot = stat_field(&stat, 22).map(|ticks| ticks / TICKS);
        Process {
            cpu_seconds: stat_field(&stat, 14)
                .zip(stat_field(&stat, 15))
                .map(|(user, system)| (user + system) / TICKS),
            start_time: booted.zip(after_boot).map(|(boot, after)| boot + after),
            resident_bytes: status_field(&status, "VmRSS:").map(|kib| kib * 1024),
            virtual_bytes: status_field(&status, "VmSize:").map(|kib| kib * 1024),
            threads: status_field(&status, "Threads:"),
            // The directory's own descriptor is one of those it lists.
            open_fds: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|entries| entries.count().saturating_sub(1) as u64),
            max_fds: read("/proc/self/limits").lines().find_map(|line| {
                line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok()
            }),
        }
    }
}

/// Field `number` of `/proc/*/stat`, counted from 1 as in proc(5). The second is the program's
/// name in parentheses and may itself hold blanks and parentheses.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn status_field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_or_a_parenthesis_in_the_program_name_shifts_nothing() {
        let stat = "12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 700 50 0 0 20 0 4 0 4200 1 2";
        assert_eq!(stat_field(stat, 14), Some(700.0));
        assert_eq!(stat_field(stat, 15), Some(50.0));
        assert_eq!(stat_field(stat, 22), Some(4200.0));
        assert_eq!(stat_field(stat, 80), None);
        assert_eq!(stat_field("", 14), None);
    }

    #[test]
    fn this_process_is_seen_as_it_is() {
        let before = Process::read();
        let _file = fs::File::open("/proc/self/stat").unwrap();
        let seen = Process::read();
        assert!(seen.resident_bytes.unwrap() > 1 << 20);
        assert!(seen.virtual_bytes >= seen.resident_bytes);
        assert!(seen.threads.unwrap() >= 1 && before.open_fds.unwrap() >= 3);
        let age = crate::base::time::unix_ms() as f64 / 1e3 - seen.start_time.unwrap();
        assert!((-2.0..86_400.0).contains(&age), "started {age} s ago");
    }
}
