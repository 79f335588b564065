//! Signals that a program was started to ignore.

/// Whether a signal is ignored: `nohup` starts programs so, and a shell those that it leaves in the background.
pub fn is_ignored(signal: i32) -> bool {
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: nothing is changed where the new action is null, and `now` is of the type that is written.
    let done = unsafe { libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) };
    // SAFETY: `sigaction` has written it where it returns 0.
    done == 0 && unsafe { now.assume_init() }.sa_sigaction == libc::SIG_IGN
}
