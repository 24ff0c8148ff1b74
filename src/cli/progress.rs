//! How far long work is: one line of a terminal, with the time that is left.

use std::time::{Duration, Instant};

use super::output::is_quiet;
use super::terminal;
use crate::console::{Code, Screen, Stream};

/// Time after which it is said that a prompt is being read.
const PATIENCE: Duration = Duration::from_millis(500);
/// Time between two lines.
const TICK: Duration = Duration::from_millis(200);

/// Writes nothing if standard error is not a terminal, or one that cannot take a line away again.
pub(super) struct Progress {
    /// What is done; nothing where that is clear.
    what: &'static str,
    /// Nothing is shown before.
    from: Option<Instant>,
    can_show: bool,
    shown: bool,
    last: Option<Instant>,
    /// When the count began, and where.
    start: Option<(Instant, u64)>,
}

impl Progress {
    pub(super) fn new() -> Self {
        let can_show = Stream::Err.is_terminal() && !terminal::is_dumb() && !is_quiet();
        Self { what: "", from: None, can_show, shown: false, last: None, start: None }
    }

    /// Of a prompt, which is read fast unless it is long.
    pub(super) fn reading() -> Self {
        Self { what: "reading: ", from: Some(Instant::now() + PATIENCE), ..Self::new() }
    }

    /// Shows `done` of `total`, as `show` writes amounts.
    pub(super) fn show(&mut self, done: u64, total: Option<u64>, show: impl Fn(u64) -> String) {
        let now = Instant::now();
        let (start, before) = *self.start.get_or_insert((now, done));
        if self.from.is_some_and(|from| now < from) {
            return;
        }
        if !self.can_show || self.last.is_some_and(|last| now - last < TICK) {
            return;
        }
        self.last = Some(now);
        let speed = done.saturating_sub(before) as f64 / (now - start).as_secs_f64().max(1e-3);
        let mut line = show(done);
        if let Some(total) = total.filter(|total| *total > 0) {
            line = format!("{:>3} %  {line} of {}", done * 100 / total, show(total));
            if speed > 0.0 {
                let seconds = (total.saturating_sub(done) as f64 / speed).ceil();
                line += &format!(", {} left", duration(seconds as u64));
            }
        }
        // A line that is broken could not be taken away.
        let room = terminal::width().map_or(usize::MAX, |width| width.saturating_sub(1));
        let line = if self.what.is_empty() { &line } else { line.trim_start() };
        let line: String = self.what.chars().chain(line.chars()).take(room).collect();
        Screen::new().code(Code::ClearLine).text(&line).say();
        self.shown = true;
    }

    /// The work stood still or began anew: its speed is measured from here.
    #[cfg(feature = "pull")]
    pub(super) fn restart(&mut self) {
        self.start = None;
    }

    /// Takes the line away again.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            Screen::new().code(Code::ClearLine).say();
        }
    }
}

/// As people read it: `59 s`, `5 min 2 s`, `3 h 7 min`.
fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_are_readable() {
        assert_eq!(
            [0, 59, 60, 3599, 3600, 90_061].map(duration),
            ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "25 h 1 min"]
        );
    }
}
