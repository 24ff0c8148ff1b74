//! A benchmark's results as a table, JSON or CSV.

use super::stats::Summary;
use serde::Serialize;
use std::fmt::{self, Write};

/// The speed of one test.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// For example `tg64@d1024`.
    pub name: String,
    /// Threads.
    pub threads: usize,
    /// Tokens per second.
    pub tok_s: Summary,
    /// Tokens per second of each run.
    pub samples: Vec<f64>,
    /// Bytes read per second as a share of what the memory gave to as many threads. Only where each token
    /// reads the weights once.
    pub bandwidth_share: Option<f64>,
}

/// Read bandwidth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Probe {
    /// Threads.
    pub threads: usize,
    /// In 10^9 bytes per second.
    pub read_gb_s: f64,
}

/// All results.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The tests.
    pub tests: Vec<Row>,
    /// Read bandwidth of the memory in 10^9 bytes per second, on an array of `weight_bytes_per_token`: the
    /// best of `probes`.
    pub read_gb_s: f64,
    /// The same for each number of threads.
    pub probes: Vec<Probe>,
    /// Most physical memory of the process, from the start to the end of the tests; null if the system does
    /// not tell.
    pub peak_rss_bytes: Option<u64>,
    /// Size of the file.
    pub model_bytes: u64,
    /// The instruction set.
    pub isa: &'static str,
    /// The file.
    pub model: String,
    /// Bytes of weights that each token reads.
    pub weight_bytes_per_token: u64,
    /// Positions of the KV cache.
    pub context: usize,
    /// How they are stored.
    pub kv: &'static str,
    /// Timed runs of each test.
    pub repetitions: usize,
    /// Opening and loading the file, in milliseconds.
    pub load_ms: f64,
    /// From the start of the command until the logits after a prompt of [`super::bench::FIRST_PROMPT`]
    /// tokens are known, in milliseconds, with the first of the numbers of threads.
    pub start_to_first_token_ms: Option<f64>,
}

impl Report {
    /// Comma-separated values: a header, then a line for each test.
    pub fn to_csv(&self) -> String {
        let mut csv = String::from(
            "name,threads,median_tok_s,min_tok_s,max_tok_s,bandwidth_share,read_gb_s,peak_rss_bytes,model_bytes,isa,model\n",
        );
        for row in &self.tests {
            let Summary { median, min, max } = row.tok_s;
            let share = row.bandwidth_share.map_or(String::new(), |share| format!("{share:.4}"));
            let bandwidth = self.probe(row.threads).map_or(String::new(), |gb_s| format!("{gb_s:.2}"));
            let peak = self.peak_rss_bytes.map_or(String::new(), |bytes| bytes.to_string());
            let _ = writeln!(
                csv,
                "{},{},{median:.3},{min:.3},{max:.3},{share},{bandwidth},{peak},{},{},{}",
                row.name,
                row.threads,
                self.model_bytes,
                self.isa,
                quoted(&self.model)
            );
        }
        csv
    }

    fn probe(&self, threads: usize) -> Option<f64> {
        self.probes.iter().find(|probe| probe.threads == threads).map(|probe| probe.read_gb_s)
    }
}

/// A field of a CSV file.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The table for people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, {:.1} MB, {}", self.model, megabytes(self.model_bytes), self.isa)?;
        writeln!(f)?;
        writeln!(
            f,
            "{:<14} {:>7} {:>10} {:>10} {:>10} {:>10}",
            "tokens/s", "threads", "median", "min", "max", "bandwidth"
        )?;
        for row in &self.tests {
            let Summary { median, min, max } = row.tok_s;
            let share = row.bandwidth_share.map_or(String::new(), |share| format!("{:.0} %", share * 100.0));
            let line = format!(
                "{:<14} {:>7} {median:>10.1} {min:>10.1} {max:>10.1} {share:>10}",
                row.name, row.threads
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        writeln!(f)?;
        let megabytes_read = megabytes(self.weight_bytes_per_token);
        for Probe { threads, read_gb_s } in &self.probes {
            let plural = if *threads == 1 { "" } else { "s" };
            writeln!(f, "reading {megabytes_read:.1} MB with {threads} thread{plural}: {read_gb_s:.1} GB/s")?;
        }
        if let Some(peak) = self.peak_rss_bytes {
            writeln!(
                f,
                "peak memory: {:.1} MB with {} positions in {}",
                megabytes(peak),
                self.context,
                self.kv
            )?;
        }
        if let Some(first) = self.start_to_first_token_ms {
            writeln!(f, "start to first token: {first:.0} ms, of which loading {:.0} ms", self.load_ms)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let row = |name: &str, threads, bandwidth_share| Row {
            name: name.to_owned(),
            threads,
            tok_s: Summary { median: 200.5, min: 100.0, max: 300.25 },
            samples: vec![100.0, 200.5, 300.25],
            bandwidth_share,
        };
        Report {
            tests: vec![row("pp128", 1, None), row("tg32@d1024", 2, Some(0.5))],
            read_gb_s: 80.0,
            probes: vec![Probe { threads: 1, read_gb_s: 50.0 }, Probe { threads: 2, read_gb_s: 80.0 }],
            peak_rss_bytes: Some(123_000_000),
            model_bytes: 90_000_000,
            isa: "avx512vnni",
            model: "a, \"b\".gguf".to_owned(),
            weight_bytes_per_token: 89_000_000,
            context: 1056,
            kv: "f16",
            repetitions: 3,
            load_ms: 40.0,
            start_to_first_token_ms: Some(55.0),
        }
    }

    #[test]
    fn json_has_the_fields_that_scripts_read() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["tests"][1]["name"], "tg32@d1024");
        assert_eq!(json["tests"][1]["threads"], 2);
        assert_eq!(
            json["tests"][1]["tok_s"],
            serde_json::json!({"median": 200.5, "min": 100.0, "max": 300.25})
        );
        assert_eq!(json["read_gb_s"], 80.0);
        assert_eq!(json["peak_rss_bytes"], 123_000_000);
        assert_eq!(json["model_bytes"], 90_000_000);
        assert_eq!(json["isa"], "avx512vnni");
        assert_eq!(json["kv"], "f16");
    }

    #[test]
    fn csv_has_a_line_for_each_test() {
        let csv = report().to_csv();
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0].split(',').count(), 11);
        let end = "123000000,90000000,avx512vnni,\"a, \"\"b\"\".gguf\"";
        assert_eq!(lines[1], format!("pp128,1,200.500,100.000,300.250,,50.00,{end}"));
        assert_eq!(lines[2], format!("tg32@d1024,2,200.500,100.000,300.250,0.5000,80.00,{end}"));
    }

    #[test]
    fn the_table_names_what_it_shows() {
        let table = report().to_string();
        assert!(table.contains("pp128                1      200.5      100.0      300.2\n"), "{table}");
        assert!(
            table.contains("tg32@d1024           2      200.5      100.0      300.2       50 %\n"),
            "{table}"
        );
        assert!(table.contains("reading 89.0 MB with 1 thread: 50.0 GB/s"));
        assert!(table.contains("peak memory: 123.0 MB with 1056 positions in f16"));
        assert!(table.contains("start to first token: 55 ms, of which loading 40 ms"));
    }
}
