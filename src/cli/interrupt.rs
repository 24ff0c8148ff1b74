//! Ctrl-C, and the signals that ask a process to end.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex};

use super::error::{CliError, Exit};
use super::output::note;
use super::{counting, terminal};
use crate::generate::CancelHandle;

/// From now on Ctrl-C stops the answer after the current token; a second one ends the process at once.
///
/// Called only once the model is loaded: until then Ctrl-C ends the process as it does for any program.
///
/// # Errors
/// If the system refuses.
pub(super) fn cancel_on_interrupt() -> Result<CancelHandle, CliError> {
    let handle = CancelHandle::new();
    let shared = handle.clone();
    if !can_start_threads() {
        return Ok(handle);
    }
    ctrlc::set_handler(move || {
        if shared.is_cancelled() {
            end(Exit::Interrupted);
        }
        shared.cancel();
    })
    .map_err(CliError::Interrupt)?;
    Ok(handle)
}

/// Whether the system lets this process start threads, without which nobody can wait for signals; says so if not. Then
/// they end the process as they do for any program.
fn can_start_threads() -> bool {
    let started = std::thread::Builder::new().spawn(|| ());
    match started.map(std::thread::JoinHandle::join) {
        Ok(_) => true,
        Err(error) => {
            note(format_args!("the system refuses a thread ({error}), so Ctrl-C ends the process at once"));
            false
        }
    }
}

#[cfg(feature = "serve")]
/// From now on calls `ask` with how the process is to end, for Ctrl-C and the other signals, each time.
///
/// # Errors
/// If the system refuses.
pub(super) fn on_signals(
    signals: Signals,
    ask: impl Fn(Exit) + Clone + Send + 'static,
) -> Result<(), CliError> {
    if !can_start_threads() {
        signals.let_go();
        return Ok(());
    }
    let on_interrupt = ask.clone();
    ctrlc::set_handler(move || on_interrupt(Exit::Interrupted)).map_err(CliError::Interrupt)?;
    signals.watch(ask).map_err(CliError::Signals)
}

/// Ends the process at once.
pub(super) fn end(exit: Exit) -> ! {
    terminal::restore();
    counting::count_end(exit);
    std::process::exit(exit as i32);
}

/// SIGTERM and SIGHUP, kept back until somebody waits for them.
pub(super) struct Signals(#[cfg(unix)] nix::sys::signal::SigSet);

impl Signals {
    /// Keeps them back from now on; to be called before other threads start. One that is ignored, as under nohup, stays
    /// so.
    #[cfg(unix)]
    pub(super) fn block() -> Signals {
        use nix::sys::signal::{SigSet, Signal};
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGHUP] {
            if !is_ignored(signal) {
                set.add(signal);
            }
        }
        // Not kept back, they end the process as they do for any program.
        Signals(set.thread_block().map_or(SigSet::empty(), |()| set))
    }

    #[cfg(not(unix))]
    pub(super) fn block() -> Signals {
        Signals()
    }

    /// Keeps them back no more.
    fn let_go(self) {
        #[cfg(unix)]
        let _ = self.0.thread_unblock();
    }

    /// Calls `ask` with what each signal makes of the process's end.
    #[cfg(unix)]
    fn watch(self, ask: impl Fn(Exit) + Send + 'static) -> std::io::Result<()> {
        use nix::sys::signal::{SigSet, Signal};
        if self.0 == SigSet::empty() {
            return Ok(());
        }
        let watch = move || {
            while let Ok(signal) = self.0.wait() {
                ask(if signal == Signal::SIGHUP { Exit::HungUp } else { Exit::Terminated });
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(watch).map(drop)
    }

    #[cfg(not(unix))]
    fn watch(self, _: impl Fn(Exit) + Send + 'static) -> std::io::Result<()> {
        Ok(())
    }
}

/// Whether the process was told to ignore a signal, where the system says so.
#[cfg(unix)]
fn is_ignored(signal: nix::sys::signal::Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal as u32 - 1) & 1 == 1
}

/// What is done before the process ends because it was asked to.
type Last = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Shared {
    cancel: CancelHandle,
    /// Whether there has been an answer, or there is something to do at the end: before, a signal ends the process at
    /// once.
    begun: AtomicBool,
    answering: AtomicBool,
    /// The exit code that was asked for; 0 for none.
    ending: AtomicI32,
    last: Mutex<Option<Last>>,
}

impl Shared {
    /// Stops the answer, and ends the process: after [`Interrupts::at_end`]'s work if there is any, else whoever waits
    /// for the answer does it. Asked again, at once.
    fn end(&self, exit: Exit) {
        if !self.begun.load(Ordering::SeqCst) {
            end(exit);
        }
        if self.ending.swap(exit as i32, Ordering::SeqCst) != 0 {
            end(exit);
        }
        self.cancel.cancel();
        self.run_last(exit);
    }

    /// Does the last work, if there is any, and ends the process.
    fn run_last(&self, exit: Exit) {
        let Some(last) = self.last.lock().ok().and_then(|mut last| last.take()) else { return };
        // Another thread, so that a second signal is heard.
        let run = std::thread::Builder::new().spawn(move || {
            last();
            end(exit);
        });
        if run.is_err() {
            end(exit);
        }
    }
}

/// Ctrl-C and other signals in a program that gives one answer or more.
pub(super) struct Interrupts(Arc<Shared>);

impl Interrupts {
    /// From now on Ctrl-C stops an answer after the current token. Where a person is there to go on
    /// (`interactive`), that is all it does; else it ends the process between answers, and the second time.
    /// The other signals stop an answer and end the process. Before the first answer every signal ends it at once:
    /// nothing need be waited for.
    ///
    /// # Errors
    /// If the system refuses.
    pub(super) fn new(interactive: bool, signals: Signals) -> Result<Interrupts, CliError> {
        terminal::remember();
        let shared = Arc::new(Shared::default());
        if !can_start_threads() {
            signals.let_go();
            return Ok(Interrupts(shared));
        }
        let on_interrupt = Arc::clone(&shared);
        ctrlc::set_handler(move || {
            if !on_interrupt.begun.load(Ordering::SeqCst) {
                end(Exit::Interrupted);
            } else if interactive {
                on_interrupt.cancel.cancel();
            } else if on_interrupt.cancel.is_cancelled() {
                end(Exit::Interrupted);
            } else if on_interrupt.answering.load(Ordering::Relaxed) {
                on_interrupt.cancel.cancel();
            } else {
                on_interrupt.end(Exit::Interrupted);
            }
        })
        .map_err(CliError::Interrupt)?;
        let on_signal = Arc::clone(&shared);
        signals.watch(move |exit| on_signal.end(exit)).map_err(CliError::Signals)?;
        Ok(Interrupts(shared))
    }

    /// What is done before a signal ends the process.
    pub(super) fn at_end(&self, last: impl FnOnce() + Send + 'static) {
        self.0.begun.store(true, Ordering::SeqCst);
        if let Ok(mut place) = self.0.last.lock() {
            *place = Some(Box::new(last));
        }
        // A signal that came before.
        if let Some(exit) = self.ending() {
            self.0.run_last(exit);
        }
    }

    /// How the process is to end, if it was asked to.
    pub(super) fn ending(&self) -> Option<Exit> {
        let asked = self.0.ending.load(Ordering::SeqCst);
        [Exit::Interrupted, Exit::Terminated, Exit::HungUp].into_iter().find(|exit| *exit as i32 == asked)
    }

    /// Calls `answer` with the handle that Ctrl-C cancels.
    pub(super) fn during<T>(&self, answer: impl FnOnce(&CancelHandle) -> T) -> T {
        let shared = &self.0;
        shared.begun.store(true, Ordering::SeqCst);
        shared.cancel.reset();
        shared.answering.store(true, Ordering::Relaxed);
        // A signal that came before the reset.
        if self.ending().is_some() {
            shared.cancel.cancel();
        }
        let result = answer(&shared.cancel);
        shared.answering.store(false, Ordering::Relaxed);
        result
    }
}
