//! Metric families built from values that are known already, rendered by the `prometheus` crate.
//!
//! The crate's own counters are things that count; here everything was counted elsewhere and is
//! only shown. So each scrape builds its families afresh and nothing process-wide is kept.

use std::collections::BTreeMap;

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Encoder, TextEncoder};

/// What a scrape shows, in the order it was added.
#[derive(Default)]
pub struct Families(Vec<MetricFamily>);

/// Label values that make up one series, in the order of the family's label names.
pub type Labels = Vec<String>;

impl Families {
    /// A counter without labels.
    pub fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.counters(name, help, &[], [(vec![], value)]);
    }

    /// A gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help, &[], [(vec![], value)]);
    }

    /// A counter per label set; series of the same labels are added up, because one duplicate
    /// would make Prometheus refuse the whole scrape.
    pub fn counters(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        series: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        let metrics = each(labels, series, |metric, value| {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        });
        self.add(name, help, MetricType::COUNTER, metrics);
    }

    /// A gauge per label set; series of the same labels are added up.
    pub fn gauges(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        series: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        let metrics = each(labels, series, |metric, value| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        });
        self.add(name, help, MetricType::GAUGE, metrics);
    }

    /// A histogram per label set, from counts per bucket that are *not* cumulative; a count
    /// without a bound is above all bounds. The first of several with the same labels is shown.
    pub fn histograms<'a>(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        series: impl IntoIterator<Item = (Labels, &'a [f64], &'a [u64], f64)>,
    ) {
        let mut by_labels = BTreeMap::new();
        for (values, bounds, counts, sum) in series {
            by_labels.entry(values).or_insert((bounds, counts, sum));
        }
        let metrics = by_labels.into_iter().map(|(values, (bounds, counts, sum))| {
            let mut below = 0;
            let buckets = bounds.iter().zip(counts).map(|(bound, count)| {
                below += count;
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(*bound);
                bucket.set_cumulative_count(below);
                bucket
            });
            let mut histogram = Histogram::default();
            histogram.set_bucket(buckets.collect());
            histogram.set_sample_count(counts.iter().sum());
            histogram.set_sample_sum(sum);
            let mut metric = Metric::from_label(pairs(labels, values));
            metric.set_histogram(histogram);
            metric
        });
        self.add(name, help, MetricType::HISTOGRAM, metrics.collect());
    }

    fn add(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        // The encoder takes a family without series for a fault; it is only silence.
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }

    /// The text format 0.0.4.
    ///
    /// # Errors
    /// Never for families that were added here; the encoder's own word otherwise.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.0, &mut text)?;
        Ok(text)
    }
}

/// A metric per label set, series of the same labels added up; `set` gives it its value.
fn each(
    labels: &[&str],
    series: impl IntoIterator<Item = (Labels, f64)>,
    set: impl Fn(&mut Metric, f64),
) -> Vec<Metric> {
    let mut by_labels: BTreeMap<Labels, f64> = BTreeMap::new();
    for (values, value) in series {
        *by_labels.entry(values).or_default() += value;
    }
    let metric = |(values, value)| {
        let mut metric = Metric::from_label(pairs(labels, values));
        set(&mut metric, value);
        metric
    };
    by_labels.into_iter().map(metric).collect()
}

fn pairs(names: &[&str], values: Labels) -> Vec<LabelPair> {
    debug_assert_eq!(names.len(), values.len());
    names
        .iter()
        .zip(values)
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value);
            pair
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(families: &Families) -> String {
        String::from_utf8(families.render().unwrap()).unwrap()
    }

    #[test]
    fn series_of_the_same_labels_become_one() {
        let mut families = Families::default();
        let twice = [(vec!["web".into()], 1.0), (vec!["web".into()], 2.0)];
        families.counters("a_total", "A.", &["rule"], twice);
        assert_eq!(
            text(&families),
            "# HELP a_total A.\n# TYPE a_total counter\na_total{rule=\"web\"} 3\n"
        );
    }

    #[test]
    fn a_histogram_is_shown_cumulative_and_ends_at_infinity() {
        let mut families = Families::default();
        let one = (vec![], &[0.1, 1.0][..], &[1, 2, 3][..], 9.5);
        families.histograms("h_seconds", "H.", &[], [one]);
        let want = "h_seconds_bucket{le=\"0.1\"} 1\nh_seconds_bucket{le=\"1\"} 3\n\
                    h_seconds_bucket{le=\"+Inf\"} 6\nh_seconds_sum 9.5\nh_seconds_count 6\n";
        assert!(text(&families).ends_with(want), "{}", text(&families));
    }

    #[test]
    fn a_label_cannot_break_out_of_its_quotes() {
        let mut families = Families::default();
        families.gauges("g", "G.", &["rule"], [(vec!["a\"} 1\nb{x=\"\\".into()], 1.0)]);
        assert!(text(&families).ends_with("g{rule=\"a\\\"} 1\\nb{x=\\\"\\\\\"} 1\n"));
    }

    #[test]
    fn a_family_without_series_is_silent() {
        let mut families = Families::default();
        families.counters("a_total", "A.", &["rule"], []);
        assert_eq!(text(&families), "");
    }
}
