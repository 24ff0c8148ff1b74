//! The terminal: its width, its colours, and how it is while an answer comes.

use std::ffi::OsString;

/// Whether the terminal is one that can do nothing but show characters.
pub(super) fn is_dumb() -> bool {
    std::env::var("TERM").is_ok_and(|term| term.eq_ignore_ascii_case("dumb"))
}

/// Columns of the terminal that standard output is, else of the one that standard error is.
pub(super) fn width() -> Option<usize> {
    use terminal_size::{Width, terminal_size_of};
    let size = terminal_size_of(std::io::stdout()).or_else(|| terminal_size_of(std::io::stderr()));
    size.map(|(Width(width), _)| usize::from(width)).filter(|width| *width > 0)
}

/// When there are colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum When {
    /// On a terminal that is not dumb, unless NO_COLOR is set.
    #[default]
    Auto,
    Always,
    Never,
}

impl When {
    /// Whether a stream has colours.
    pub(super) fn holds(self, is_terminal: bool) -> bool {
        let set = |value: OsString| !value.is_empty();
        match self {
            When::Always => true,
            When::Never => false,
            When::Auto => is_terminal && !is_dumb() && !std::env::var_os("NO_COLOR").is_some_and(set),
        }
    }
}

pub(super) use self::system::{Quiet, remember, restore};

#[cfg(unix)]
mod system {
    use std::io;
    use std::sync::Mutex;

    use nix::sys::termios::{InputFlags, LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
    use nix::unistd::{getpgrp, tcgetpgrp};

    use crate::console::{Code, Screen, Stream};

    /// How the terminal was when the program began.
    static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

    /// Remembers how the terminal is, for [`restore`].
    pub(in crate::cli) fn remember() {
        if let Ok(mut before) = BEFORE.lock() {
            *before = before.take().or_else(get);
        }
    }

    /// Makes the terminal what it was when [`remember`] was called, however the program ends.
    pub(in crate::cli) fn restore() {
        let before = BEFORE.lock().ok().and_then(|before| before.clone());
        let Some(before) = before.filter(|_| is_ours()) else { return };
        let _ = set(&before);
        if Stream::Out.is_terminal() && !super::is_dumb() {
            let _ = Screen::new().code(Code::PasteOff).write(Stream::Out);
        }
    }

    /// Whether this process may change the terminal: one in the background would be stopped.
    fn is_ours() -> bool {
        tcgetpgrp(io::stdin()).or_else(|_| tcgetpgrp(io::stdout())).is_ok_and(|group| group == getpgrp())
    }

    /// How the terminal is that standard input is, else standard output.
    fn get() -> Option<Termios> {
        tcgetattr(io::stdin()).or_else(|_| tcgetattr(io::stdout())).ok()
    }

    fn set(how: &Termios) -> Option<()> {
        let set = tcsetattr(io::stdin(), SetArg::TCSADRAIN, how);
        set.or_else(|_| tcsetattr(io::stdout(), SetArg::TCSADRAIN, how)).ok()
    }

    /// While it lives, what is typed does not appear in the answer; it stays to be read afterwards. Ctrl-C works.
    pub(in crate::cli) struct Quiet {
        before: Option<Termios>,
        /// Whether pasted text comes between marks.
        has_marks: bool,
    }

    impl Quiet {
        /// `reads_marks` says that who reads afterwards knows the marks of pasted text.
        pub(in crate::cli) fn new(reads_marks: bool) -> Quiet {
            let is_seen = Stream::Out.is_terminal() && is_ours();
            let Some(before) = is_seen.then(get).flatten() else {
                return Quiet { before: None, has_marks: false };
            };
            let mut quiet = before.clone();
            // Not by lines: of a long line the system would drop the end. Ctrl-C leaves what was typed before.
            quiet.local_flags.remove(LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ICANON);
            quiet.local_flags.insert(LocalFlags::ISIG | LocalFlags::NOFLSH);
            if reads_marks {
                quiet.input_flags.remove(InputFlags::ICRNL);
            }
            let before = set(&quiet).map(|()| before);
            let has_marks = reads_marks && before.is_some() && !super::is_dumb();
            if has_marks {
                let _ = Screen::new().code(Code::PasteOn).write(Stream::Out);
            }
            Quiet { before, has_marks }
        }
    }

    impl Drop for Quiet {
        fn drop(&mut self) {
            if let Some(before) = &self.before {
                let _ = set(before);
            }
            if self.has_marks {
                let _ = Screen::new().code(Code::PasteOff).write(Stream::Out);
            }
        }
    }
}

#[cfg(not(unix))]
mod system {
    pub(in crate::cli) fn remember() {}

    pub(in crate::cli) fn restore() {}

    /// Does nothing here.
    pub(in crate::cli) struct Quiet;

    impl Quiet {
        pub(in crate::cli) fn new(_: bool) -> Quiet {
            Quiet
        }
    }
}
