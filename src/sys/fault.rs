//! Reads of mapped files that fail: a bad disk, a server that hiccups, a file that is truncated.
//!
//! The kernel announces them by SIGBUS, which ends a process that does not handle it. Here it is handled: the mapping takes note
//! of where it was, the rest of it becomes zeros, and the access goes on. A reader of a mapping asks it before it believes
//! what it read ([`Watch::first`]).
//!
//! **What the handler may do.** It runs in the middle of anything, so it takes no lock, allocates nothing and touches only
//! atomics and memory that is never freed. It makes one call, mmap(2), which the C library makes of the system call alone, and
//! where the fault is none of ours a second one, sigaction(2), or the handler that was there before. The signal is caused by the
//! access itself: it runs on the thread that reads, while that thread holds the mapping, so that the mapping's slot stays what it
//! is as long as the handler looks at it. It needs some hundred bytes of stack; on threads with a stack for signals (all that Rust
//! starts) it takes that, elsewhere the thread's own, which is not what has run out.
//!
//! **The handler is there only while something is mapped.** The one that was there before gets every fault that is not ours, and
//! its place back after the last mapping is gone, unless other code has set another meanwhile.

use std::io;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, PoisonError};

use libc::{c_int, c_void, sigaction, siginfo_t};

/// No fault was seen.
const NONE: usize = usize::MAX;
/// Slots that are made at once.
const SLOTS: usize = 256;

/// The addresses of a mapping. Changed only under [`LIVE`].
struct Slot {
    /// Odd while it is changed. A slot that a fault belongs to does not change, for its mapping is in use.
    version: AtomicUsize,
    /// The first address; 0: the slot is free.
    start: AtomicUsize,
    /// The address after the last page.
    end: AtomicUsize,
    /// The smallest offset at which a read failed.
    first: AtomicUsize,
}

/// Slots, never freed, and the next ones.
struct Slots {
    slots: [Slot; SLOTS],
    next: AtomicPtr<Slots>,
}

static TABLE: Slots = Slots::new();
/// How many mappings there are.
static LIVE: Mutex<usize> = Mutex::new(0);
/// What handled the signal before; null: nothing was there yet. Never freed.
static BEFORE: AtomicPtr<sigaction> = AtomicPtr::new(null_mut());
/// What the handler cannot ask for.
static PAGE: AtomicUsize = AtomicUsize::new(4096);
static INSTALLED: AtomicBool = AtomicBool::new(false);

impl Slot {
    const fn new() -> Self {
        Self {
            version: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            first: AtomicUsize::new(NONE),
        }
    }

    fn set(&self, start: usize, end: usize) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.start.store(start, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
        self.first.store(NONE, Ordering::Relaxed);
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// Where it begins and ends, if an address lies in it.
    fn range_of(&self, address: usize) -> Option<(usize, usize)> {
        let version = self.version.load(Ordering::Acquire);
        let (start, end) = (self.start.load(Ordering::Relaxed), self.end.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let whole = version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version;
        (whole && start != 0 && (start..end).contains(&address)).then_some((start, end))
    }
}

impl Slots {
    const fn new() -> Self {
        Self { slots: [const { Slot::new() }; SLOTS], next: AtomicPtr::new(null_mut()) }
    }

    fn next(&self) -> Option<&'static Slots> {
        // SAFETY: the pointer is null or that of a `Slots` that was leaked before it was stored here, and is never freed.
        unsafe { self.next.load(Ordering::Acquire).as_ref() }
    }

    /// A slot that is free, made where there is none. Called under [`LIVE`].
    fn free(&'static self) -> &'static Slot {
        let mut slots = self;
        loop {
            if let Some(slot) = slots.slots.iter().find(|slot| slot.start.load(Ordering::Relaxed) == 0) {
                return slot;
            }
            slots = slots.next().unwrap_or_else(|| {
                let made: &'static Slots = Box::leak(Box::new(Slots::new()));
                slots.next.store(std::ptr::from_ref(made).cast_mut(), Ordering::Release);
                made
            });
        }
    }

    /// The slot in which an address lies, with its range.
    fn find(&'static self, address: usize) -> Option<(&'static Slot, usize, usize)> {
        let mut slots = self;
        loop {
            for slot in &slots.slots {
                if let Some((start, end)) = slot.range_of(address) {
                    return Some((slot, start, end));
                }
            }
            slots = slots.next()?;
        }
    }
}

/// A mapping whose faults are handled, until it is dropped. That must be before its pages are given back.
pub(super) struct Watch(&'static Slot);

impl Watch {
    /// Watches the pages of a mapping.
    ///
    /// # Errors
    /// Where the system refuses the handler.
    pub(super) fn new(map: &[u8]) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let start = map.as_ptr() as usize;
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        if *live == 0 {
            PAGE.store(page, Ordering::Relaxed);
            install()?;
        }
        *live += 1;
        let slot = TABLE.free();
        slot.set(start, start + map.len().next_multiple_of(page));
        Ok(Self(slot))
    }

    /// The smallest offset at which a page could not be read. From there on the mapping may hold zeros that the file does not.
    pub(super) fn first(&self) -> Option<usize> {
        Some(self.0.first.load(Ordering::SeqCst)).filter(|first| *first != NONE)
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Watch").field(&self.first()).finish()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.set(0, 0);
        *live -= 1;
        if *live == 0 {
            remove();
        }
    }
}

/// What handles the signal now.
fn current() -> io::Result<sigaction> {
    // SAFETY: all bytes zero are a value of the C struct `sigaction`: numbers, and a pointer that may be null.
    let mut now: sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: with a null pointer for the new action sigaction(2) only writes the current one to `now`.
    let answer = unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut now) };
    if answer == 0 { Ok(now) } else { Err(io::Error::last_os_error()) }
}

fn handler() -> usize {
    on_fault as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as usize
}

/// Called under [`LIVE`].
fn install() -> io::Result<()> {
    let before = current()?;
    if before.sa_sigaction == handler() {
        // Other code, which had found it there, has put it back.
        return Ok(());
    }
    // SAFETY: the pointer is null or that of a value that was leaked before it was stored, and is never freed.
    let known = unsafe { BEFORE.load(Ordering::Acquire).as_ref() };
    if known.is_none_or(|known| (known.sa_sigaction, known.sa_flags) != (before.sa_sigaction, before.sa_flags)) {
        // Known before the first fault can come. The old one may still be in use by a handler that runs.
        BEFORE.store(Box::leak(Box::new(before)), Ordering::Release);
    }
    // SAFETY: as in `current`.
    let mut ours: sigaction = unsafe { std::mem::zeroed() };
    ours.sa_sigaction = handler();
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: `ours` is an action whose handler has the signature that SA_SIGINFO asks for and, as the head of this file says,
    // does only what a handler may. The old action was taken above.
    let answer = unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, null_mut()) };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    INSTALLED.store(true, Ordering::Relaxed);
    Ok(())
}

/// Called under [`LIVE`]. A handler that was set after ours may hand on to it, so that both stay.
fn remove() {
    if !current().is_ok_and(|now| now.sa_sigaction == handler()) || !INSTALLED.swap(false, Ordering::Relaxed) {
        return;
    }
    let before = BEFORE.load(Ordering::Acquire);
    if !before.is_null() {
        // SAFETY: `before` is what sigaction(2) gave, and is never freed. Where it is refused ours stays, and hands on to it.
        let _ = unsafe { libc::sigaction(libc::SIGBUS, before, null_mut()) };
    }
}

extern "C" fn on_fault(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a `siginfo_t`, which no other code has.
    let about = unsafe { &*info };
    // SAFETY: the kernel sets `si_addr` for the codes with which it is looked at; for others it is some number.
    let (code, address) = (about.si_code, unsafe { about.si_addr() } as usize);
    let failed_read = matches!(code, libc::BUS_ADRERR | libc::BUS_OBJERR | libc::BUS_MCEERR_AR);
    if !(failed_read && put_zeros(address)) {
        hand_on(signal, info, context, code);
    }
}

/// Takes note of a fault and puts zeros in the place of the page and of all after it, so that a file that is gone costs one fault
/// and not one for each page. `false`: the address is not ours, or there is no memory for that.
fn put_zeros(address: usize) -> bool {
    let Some((slot, start, end)) = TABLE.find(address) else { return false };
    let page = address & !(PAGE.load(Ordering::Relaxed) - 1);
    // Before anybody can see the zeros.
    slot.first.fetch_min(page - start, Ordering::SeqCst);
    // SAFETY: `page .. end` are pages of one of our mappings, which is alive: it is being read, and its slot is freed before it is
    // given back. They become other read-only pages, under shared references to their bytes; so they do whenever another process
    // writes to the file or truncates it, which is what has just happened or is as good as that. No reader believes what it read
    // there: each reader asks [`Watch::first`] afterwards. The pages are given back with the mapping, by address.
    let answer = unsafe {
        libc::mmap(
            page as *mut c_void,
            end - page,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    answer != libc::MAP_FAILED
}

/// What would have happened without us.
fn hand_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void, code: c_int) {
    // SAFETY: the pointer is null or that of a value that is never freed.
    let before = unsafe { BEFORE.load(Ordering::Acquire).as_ref() };
    let (action, flags) = before.map_or((libc::SIG_DFL, 0), |before| (before.sa_sigaction, before.sa_flags));
    // The kernel's own signals are of faults; a process's have no positive code.
    if action == libc::SIG_IGN && code <= 0 {
        return;
    }
    if action == libc::SIG_DFL || action == libc::SIG_IGN {
        // SAFETY: as in `current`; all bytes zero are the default action.
        let default: sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: sigaction(2) may be called in a handler, and reads only `default`. After the return a fault comes again, and
        // ends the process.
        unsafe { libc::sigaction(signal, &raw const default, null_mut()) };
        if code <= 0 {
            // What was sent does not come again by itself.
            // SAFETY: raise(3) may be called in a handler.
            unsafe { libc::raise(signal) };
        }
        return;
    }
    if flags & libc::SA_SIGINFO == 0 {
        // SAFETY: what sigaction(2) gave is neither SIG_DFL nor SIG_IGN, so it is the address of a handler, of the signature that
        // the flags say.
        let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(action) };
        handler(signal);
    } else {
        // SAFETY: as above.
        let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = unsafe { std::mem::transmute(action) };
        handler(signal, info, context);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    /// A mapping of a file of which only the first of so many pages is left.
    fn truncated(pages: usize) -> memmap2::Mmap {
        let file = tempfile::tempfile().unwrap();
        let page = rustix::param::page_size() as u64;
        file.set_len(page * pages as u64).unwrap();
        // SAFETY: no code uses the bytes that are gone.
        let map = unsafe { memmap2::MmapOptions::new().map(&file) }.unwrap();
        file.set_len(page).unwrap();
        map
    }

    #[test]
    fn each_mapping_knows_its_own_faults() {
        let page = rustix::param::page_size();
        // More than the first slots, and some of them free again.
        let maps: Vec<_> = (0..SLOTS + 10).map(|_| truncated(4)).collect();
        let mut watches: Vec<_> = maps.iter().map(|map| Watch::new(map).unwrap()).collect();
        watches.drain(20..40);
        let other = truncated(3);
        let watch = Watch::new(&other).unwrap();
        assert_eq!((maps[200][0], maps[200][page * 3 + 5]), (0, 0));
        assert_eq!(watches[180].first(), Some(page * 3));
        assert_eq!(maps[200][page], 0, "an earlier page is another fault");
        assert_eq!(watches[180].first(), Some(page));
        assert_eq!((other[page + 1], watch.first()), (0, Some(page)));
        let faulty = watches.iter().filter(|watch| watch.first().is_some()).count();
        assert_eq!(faulty, 1, "and nobody else's");
    }

    /// In a process of its own, which it ends: `what` runs this test again and does that.
    fn ends_by_signal(what: &str) -> Option<i32> {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "sys::fault::tests::a_fault_elsewhere_ends_the_process_as_before"]);
        again.env("CKPT_CONVERT_TEST_FAULT", what).output().unwrap().status.signal()
    }

    #[test]
    fn a_fault_elsewhere_ends_the_process_as_before() {
        match std::env::var("CKPT_CONVERT_TEST_FAULT").as_deref() {
            Ok("elsewhere") => {
                let (ours, other) = (truncated(2), truncated(2));
                let _watch = Watch::new(&ours).unwrap();
                std::hint::black_box(other[rustix::param::page_size()]);
            }
            Ok("later") => {
                let ours = truncated(2);
                let handled =
                    |map: &memmap2::Mmap| Watch::new(map).map(|_| current().unwrap().sa_sigaction == handler());
                assert!(handled(&ours).unwrap());
                assert!(current().unwrap().sa_sigaction != handler(), "the handler is gone with the last mapping");
                std::hint::black_box(ours[rustix::param::page_size()]);
            }
            _ => {
                assert_eq!(ends_by_signal("elsewhere"), Some(libc::SIGBUS));
                assert_eq!(ends_by_signal("later"), Some(libc::SIGBUS));
            }
        }
    }
}
