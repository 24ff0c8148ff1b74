//! How a process ends when the system takes away what it stands on: with a message and an exit code, not with a signal.
//!
//! Memory that is refused and files that are cut short while they are mapped show deep inside of anything. Where that
//! can be foreseen it is an error like any other; the rest ends here. Nothing is unwound: what was to be kept is on the
//! disk already.
#![allow(unsafe_code, reason = "an allocator and a signal handler can only be had so")]

use std::alloc::{GlobalAlloc, Layout, System};

/// Exit code of a process that does not fit into memory.
#[cfg(unix)]
const NO_MEMORY: i32 = 4;
/// Exit code of a process that lost its model.
#[cfg(unix)]
const NO_FILE: i32 = 3;

/// The system's allocator; a process to which it refuses memory says so and ends with exit code 4.
#[derive(Debug)]
pub struct EndingAllocator;

// SAFETY: every call is the system allocator's with the same arguments; of its results only null, which is no memory,
// is not returned.
unsafe impl GlobalAlloc for EndingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the rules of this function.
        checked(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the rules of this function.
        checked(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the rules of this function.
        checked(unsafe { System.realloc(pointer, layout, size) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the rules of this function.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[inline]
fn checked(pointer: *mut u8) -> *mut u8 {
    #[cfg(unix)]
    if pointer.is_null() {
        end(b"smolt: the system refuses more memory\n", NO_MEMORY);
    }
    pointer
}

/// Says a last word and ends the process at once. Allocates nothing and takes no lock.
#[cfg(unix)]
#[cold]
fn end(message: &[u8], code: i32) -> ! {
    // SAFETY: the message is readable memory of this length; what cannot be said is not said.
    unsafe { nix::libc::write(nix::libc::STDERR_FILENO, message.as_ptr().cast(), message.len()) };
    // SAFETY: ends the process, whatever state it is in.
    unsafe { nix::libc::_exit(code) }
}

#[cfg(unix)]
extern "C" fn on_bus_error(_: nix::libc::c_int) {
    end(
        b"smolt: a model file was cut short while it was read, or its disk failed; fetch it again\n",
        NO_FILE,
    );
}

/// A signal that is heard and changes nothing: what was asked of the system fails with an error.
#[cfg(unix)]
extern "C" fn on_file_limit(_: nix::libc::c_int) {}

/// Makes refusals of the system errors: writing beyond the limit of file sizes, and reading a mapped file that was cut
/// short. Programs that this one starts have the signals as usual.
pub fn end_in_order() {
    #[cfg(unix)]
    {
        use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
        let handlers: [(Signal, extern "C" fn(nix::libc::c_int)); 2] =
            [(Signal::SIGBUS, on_bus_error), (Signal::SIGXFSZ, on_file_limit)];
        for (signal, handler) in handlers {
            let action = SigAction::new(SigHandler::Handler(handler), SaFlags::SA_RESTART, SigSet::empty());
            // SAFETY: the handlers do nothing, or write and end the process, which signal handlers may.
            // Where a signal cannot be handled, it ends the process as it does for any program.
            let _ = unsafe { sigaction(signal, &action) };
        }
    }
}
