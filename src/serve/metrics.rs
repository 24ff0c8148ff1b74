//! Counters and histograms, in Prometheus' text format. They hold numbers and names of the program's own; nothing of
//! what is asked or answered.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::generate::{Done, FinishReason, GenerateError, Load, Outcome};

use super::machine::Machine;

/// Seconds that whole requests take.
const REQUEST_SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];
/// Seconds until the first token of an answer.
const FIRST_SECONDS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 15.0, 60.0];
/// Seconds from one token to the next.
const INTERVAL_SECONDS: [f64; 12] =
    [0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.05, 0.08, 0.15, 0.3, 0.6, 2.0];

/// Where a request goes that no route has.
pub(super) const OTHER: &str = "other";

/// Where an answer was when it was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It waited for a slot.
    Queued,
    /// Its prompt was read.
    Prompt,
    /// It had tokens.
    Answer,
}

impl Phase {
    const ALL: [Phase; 3] = [Phase::Queued, Phase::Prompt, Phase::Answer];

    fn name(self) -> &'static str {
        match self {
            Phase::Queued => "queued",
            Phase::Prompt => "prompt",
            Phase::Answer => "answer",
        }
    }
}

type Label = [(&'static str, String); 1];
type Labels = [(&'static str, String); 2];

/// What is counted.
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    request_seconds: Histogram,
    first_seconds: Histogram,
    interval_seconds: Histogram,
    prompt_tokens: Counter,
    generated_tokens: Counter,
    cached_tokens: Counter,
    cancelled: Family<Label, Counter>,
    connections: Gauge,
    engine: EngineGauges,
}

/// What an engine says of itself, as of the last look.
#[derive(Clone, Default)]
struct EngineGauges {
    running: Gauge,
    queued: Gauge,
    slots: Gauge,
    used_tokens: Gauge,
}

impl Metrics {
    /// Begins to count, for a model of this name.
    pub(super) fn new(model: &str) -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("smolt"),
            requests: Family::default(),
            request_seconds: Histogram::new(REQUEST_SECONDS),
            first_seconds: Histogram::new(FIRST_SECONDS),
            interval_seconds: Histogram::new(INTERVAL_SECONDS),
            prompt_tokens: Counter::default(),
            generated_tokens: Counter::default(),
            cached_tokens: Counter::default(),
            cancelled: Family::default(),
            connections: Gauge::default(),
            engine: EngineGauges::default(),
        };
        metrics.register(model);
        metrics
    }

    fn register(&mut self, model: &str) {
        let registry = &mut self.registry;
        registry.register("requests", "Requests that were answered", self.requests.clone());
        let seconds = [
            ("request_duration_seconds", "Time of a whole request", &self.request_seconds),
            ("time_to_first_token_seconds", "Time until an answer begins", &self.first_seconds),
            ("inter_token_latency_seconds", "Time from one token to the next", &self.interval_seconds),
        ];
        for (name, help, histogram) in seconds {
            registry.register(name, help, histogram.clone());
        }
        let counters = [
            ("prompt_tokens", "Tokens of prompts", &self.prompt_tokens),
            ("generated_tokens", "Tokens of answers", &self.generated_tokens),
            ("cached_prefix_tokens", "Tokens of prompts that were known before", &self.cached_tokens),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "requests_cancelled",
            "Answers that nobody wanted any more",
            self.cancelled.clone(),
        );
        for phase in Phase::ALL {
            // There from the beginning, so that rates are right.
            _ = self.cancelled.get_or_create(&phase_label(phase));
        }
        let engine = &self.engine;
        let gauges: [(&str, &str, &Gauge<i64, AtomicI64>); 5] = [
            ("connections", "Connections that are open", &self.connections),
            ("requests_running", "Answers and scores that are computed", &engine.running),
            ("requests_queued", "Answers and scores that wait for a slot", &engine.queued),
            ("slots", "Answers and scores that can be computed at once", &engine.slots),
            ("context_tokens_used", "Tokens in the caches of what is computed", &engine.used_tokens),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        let version = [("version", env!("CARGO_PKG_VERSION").to_owned())];
        registry.register("build", "This program", Info::new(version));
        registry.register("model", "The model that answers", Info::new([("name", model.to_owned())]));
        registry.register_collector(Box::new(Machine));
    }

    /// Writes all of it, in the format of OpenMetrics.
    pub(super) fn text(&self, load: Load) -> String {
        let set = |gauge: &Gauge, value: usize| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.engine.running, load.running);
        set(&self.engine.queued, load.waiting);
        set(&self.engine.slots, load.slots);
        set(&self.engine.used_tokens, load.used_tokens);
        let mut text = String::new();
        // A text takes whatever is written to it.
        _ = encode(&mut text, &self.registry);
        text
    }

    /// Counts a request that was answered; `endpoint` is a route, or [`OTHER`].
    pub(super) fn answered(&self, endpoint: &str, code: u16) {
        let labels = [("endpoint", endpoint.to_owned()), ("code", code.to_string())];
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts the time of a request, to the last byte of its answer.
    pub(super) fn took(&self, time: Duration) {
        self.request_seconds.observe(time.as_secs_f64());
    }

    /// Counts an open connection until what is returned is dropped.
    pub(super) fn connected(&self) -> Connected {
        self.connections.inc();
        Connected(self.connections.clone())
    }

    /// Counts an answer that nobody wants any more.
    pub(super) fn cancelled(&self, phase: Phase) {
        self.cancelled.get_or_create(&phase_label(phase)).inc();
    }

    /// Counts the tokens of a prompt, and how many of them were known.
    pub(super) fn read_prompt(&self, tokens: usize, cached: usize) {
        self.prompt_tokens.inc_by(tokens as u64);
        self.cached_tokens.inc_by(cached as u64);
    }

    /// Counts what came of a job of the engine.
    pub(super) fn done(&self, result: &Result<Done, GenerateError>) {
        match result {
            Ok(Done::Generated(outcome) | Done::Chosen(outcome, _)) => self.generated(outcome),
            Ok(Done::Predicted) => {}
            // An answer that was begun ends with what it has; this one was not.
            Err(GenerateError::Model(crate::model::ModelError::Cancelled)) => self.cancelled(Phase::Queued),
            Err(_) => {}
        }
    }

    fn generated(&self, outcome: &Outcome) {
        self.read_prompt(outcome.prompt_tokens, outcome.cached_tokens);
        self.generated_tokens.inc_by(outcome.tokens.len() as u64);
        if outcome.finish == FinishReason::Cancelled {
            let is_begun = !outcome.tokens.is_empty();
            self.cancelled(if is_begun { Phase::Answer } else { Phase::Prompt });
        }
    }

    /// Begins to time the tokens of an answer.
    pub(super) fn time_tokens(self: &Arc<Self>) -> TokenTimes {
        TokenTimes { metrics: Arc::clone(self), last: Instant::now(), is_first: true }
    }
}

fn phase_label(phase: Phase) -> Label {
    [("phase", phase.name().to_owned())]
}

/// An open connection.
pub(super) struct Connected(Gauge<i64, AtomicI64>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Times the tokens of an answer.
pub(super) struct TokenTimes {
    metrics: Arc<Metrics>,
    last: Instant,
    is_first: bool,
}

impl TokenTimes {
    /// Counts the time since the token before, or since the answer was asked for.
    pub(super) fn token(&mut self) {
        let now = Instant::now();
        let seconds = now.duration_since(self.last).as_secs_f64();
        let histogram = match self.is_first {
            true => &self.metrics.first_seconds,
            false => &self.metrics.interval_seconds,
        };
        histogram.observe(seconds);
        (self.last, self.is_first) = (now, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Load = Load { slots: 2, running: 1, waiting: 3, queue: 4, used_tokens: 77 };

    #[test]
    fn what_was_counted_is_written() {
        let metrics = Arc::new(Metrics::new("a \"model\""));
        metrics.answered("/v1/models", 200);
        metrics.answered(OTHER, 404);
        metrics.took(Duration::from_millis(30));
        metrics.read_prompt(10, 4);
        metrics.cancelled(Phase::Prompt);
        let mut times = metrics.time_tokens();
        (0..3).for_each(|_| times.token());
        let connected = (metrics.connected(), metrics.connected());
        drop(connected.0);
        let text = metrics.text(IDLE);
        for line in [
            "smolt_requests_total{endpoint=\"/v1/models\",code=\"200\"} 1",
            "smolt_requests_total{endpoint=\"other\",code=\"404\"} 1",
            "smolt_request_duration_seconds_bucket{le=\"0.025\"} 0",
            "smolt_request_duration_seconds_bucket{le=\"0.05\"} 1",
            "smolt_time_to_first_token_seconds_count 1",
            "smolt_inter_token_latency_seconds_count 2",
            "smolt_prompt_tokens_total 10",
            "smolt_cached_prefix_tokens_total 4",
            "smolt_requests_cancelled_total{phase=\"queued\"} 0",
            "smolt_requests_cancelled_total{phase=\"prompt\"} 1",
            "smolt_connections 1",
            "smolt_requests_running 1",
            "smolt_requests_queued 3",
            "smolt_slots 2",
            "smolt_context_tokens_used 77",
            "smolt_model_info{name=\"a \\\"model\\\"\"} 1",
            concat!("smolt_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(text.lines().filter(|line| !line.starts_with('#')).all(|line| line.starts_with("smolt_")));
        #[cfg(target_os = "linux")]
        for name in [
            "smolt_panics_total ",
            "smolt_process_resident_memory_bytes ",
            "smolt_process_cpu_seconds_total ",
            "smolt_process_open_fds ",
        ] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} in\n{text}");
        }
    }
}
