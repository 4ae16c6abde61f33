//! Figures in the words that people read fastest: `3m12s`, `10.0 MiB`, `1.25M`.

/// A length of time given in seconds, with at most two units: `0s`, `42s`, `3m12s`, `2d4h`.
pub fn seconds(seconds: f64) -> String {
    // A cast saturates, and takes NaN for 0.
    let whole = seconds.max(0.0) as u64;
    let (minutes, hours, days) = (whole / 60, whole / 3_600, whole / 86_400);
    let two = |large: u64, unit: char, small: u64, lesser: char| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{lesser}") }
    };
    match whole {
        0..60 => format!("{whole}s"),
        60..3_600 => two(minutes, 'm', whole % 60, 's'),
        3_600..86_400 => two(hours, 'h', minutes % 60, 'm'),
        _ => two(days, 'd', hours % 24, 'h'),
    }
}

/// A size in bytes: `512 B`, `10.0 MiB`.
pub fn bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut size, mut unit) = (bytes as f64 / 1024.0, "KiB");
    for larger in ["MiB", "GiB", "TiB", "PiB", "EiB"] {
        // What would be rounded to 1024.0 is 1.0 of the next.
        if size < 1023.95 {
            break;
        }
        (size, unit) = (size / 1024.0, larger);
    }
    format!("{size:.1} {unit}")
}

/// A count: exact up to five digits, then three significant ones.
pub fn count(count: u64) -> String {
    if count < 100_000 {
        return count.to_string();
    }
    let (mut figure, mut unit) = (count as f64 / 1e3, 'k');
    for larger in ['M', 'G', 'T', 'P', 'E'] {
        if figure < 999.5 {
            break;
        }
        (figure, unit) = (figure / 1e3, larger);
    }
    match figure {
        f if f < 9.995 => format!("{f:.2}{unit}"),
        f if f < 99.95 => format!("{f:.1}{unit}"),
        f => format!("{f:.0}{unit}"),
    }
}

/// A rate or burst: whole when it is whole.
pub fn figure(value: f64) -> String {
    if value.fract() == 0.0 && (0.0..1e15).contains(&value) {
        count(value as u64)
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_takes_two_units_at_most() {
        for (given, want) in [
            (0.2, "0s"),
            (-1.0, "0s"),
            (f64::NAN, "0s"),
            (59.9, "59s"),
            (60.0, "1m"),
            (192.0, "3m12s"),
            (3_600.0, "1h"),
            (7_500.0, "2h5m"),
            (187_200.0, "2d4h"),
        ] {
            assert_eq!(seconds(given), want, "{given}");
        }
    }

    #[test]
    fn sizes_never_show_1024() {
        for (given, want) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (10 << 20, "10.0 MiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(given), want);
        }
    }

    #[test]
    fn counts_stay_short() {
        for (given, want) in [
            (99_999, "99999"),
            (100_000, "100k"),
            (999_499, "999k"),
            (999_500, "1.00M"),
            (12_345_678, "12.3M"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(count(given), want);
        }
        assert_eq!((figure(300.0), figure(0.5)), ("300".to_owned(), "0.50".to_owned()));
    }
}
