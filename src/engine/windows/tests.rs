//! Which task gets which window when, and what makes space for what.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn range(from: u64, to: u64) -> ByteRange {
    ByteRange::new(from, to - from).unwrap()
}

fn begin(windows: &Windows, id: WindowId) -> Option<AlignedBuf> {
    windows.begin(id, range(0, 4096), |_| false).unwrap()
}

/// Reads a window for a task, and marks it as being of this window. `None`: there is no space.
fn try_read(windows: &Windows, task: usize, id: WindowId) -> Option<()> {
    let mut buf = begin(windows, id)?;
    buf[0] = u8::try_from(id.1).unwrap();
    windows.register(task, vec![id]);
    windows.finish(id, Ok(Window { source: id.0, at: 0, len: 4096, buf }));
    Some(())
}

fn read(windows: &Windows, task: usize, id: WindowId) {
    try_read(windows, task, id).expect("room");
}

fn marks(staged: &Staged<'_>) -> Vec<u8> {
    staged.windows().iter().map(|w| w.bytes()[0]).collect()
}

#[test]
fn a_task_gets_its_windows_when_they_are_read() {
    let windows = Windows::new(2, 4096);
    assert!(windows.poll(0).is_none(), "nobody has looked at it yet");
    windows.register(0, Vec::new());
    assert!(marks(&windows.poll(0).unwrap()).is_empty());
    let mut buf = begin(&windows, (0, 7)).unwrap();
    windows.register(1, vec![(0, 7)]);
    assert!(windows.poll(1).is_none(), "it is being read");
    buf[0] = 7;
    windows.finish((0, 7), Ok(Window { source: 0, at: 0, len: 4096, buf }));
    assert_eq!(marks(&windows.poll(1).unwrap()), [7]);
    assert!(windows.poll(2).is_none());
}

#[test]
fn a_window_that_could_not_be_read_is_left_to_the_mapping() {
    let windows = Windows::new(1, 4096);
    let buf = begin(&windows, (0, 7)).unwrap();
    assert!(windows.claim((0, 7), range(0, 1)), "a second task waits for the same");
    windows.register(0, vec![(0, 7)]);
    windows.register(1, vec![(0, 7)]);
    windows.finish((0, 7), Err(buf));
    let staged = windows.poll(0).unwrap();
    assert!(marks(&staged).is_empty());
    // Its space is free at once, and nothing is left of it in the end.
    drop((staged, windows.poll(1)));
    assert!(!windows.claim((0, 7), range(0, 1)));
    read(&windows, 2, (0, 8));
    assert_eq!(marks(&windows.poll(2).unwrap()), [8]);
}

#[test]
fn room_is_made_by_what_nobody_uses_the_oldest_first_and_what_is_needed_soon_last() {
    let windows = Windows::new(3, 4096);
    for number in 0..3 {
        read(&windows, number, (0, number as u64));
    }
    assert!(begin(&windows, (0, 9)).is_none(), "all are wanted");
    let (zero, one, two) = (windows.poll(0), windows.poll(1), windows.poll(2));
    drop(one);
    drop(zero);
    assert!(windows.claim((0, 0), range(0, 4096)), "it was kept");
    windows.register(3, vec![(0, 0)]);
    drop(windows.poll(3));
    drop(two);
    // Let go in the order 1, 0, 2; 1 is needed soon.
    assert!(windows.begin((0, 5), range(0, 1), |id| id == (0, 1)).unwrap().is_some());
    assert!(!windows.claim((0, 0), range(0, 1)), "given up");
    assert!(windows.claim((0, 1), range(0, 1)));
    assert!(windows.claim((0, 2), range(0, 1)));
}

#[test]
fn a_window_that_holds_another_part_is_read_anew_unless_it_is_used() {
    let windows = Windows::new(1, 4096);
    let buf = windows.begin((0, 0), range(0, 2048), |_| false).unwrap().unwrap();
    windows.register(0, vec![(0, 0)]);
    windows.finish((0, 0), Ok(Window { source: 0, at: 0, len: 2048, buf }));
    assert!(windows.claim((0, 0), range(1000, 4096)), "in use: the rest is in the mapping");
    windows.register(1, vec![(0, 0)]);
    drop((windows.poll(0), windows.poll(1)));
    assert!(!windows.claim((0, 0), range(1000, 4096)));
    assert!(begin(&windows, (0, 0)).is_some());
}

#[test]
fn nobody_waits_when_the_run_is_over() {
    let windows = Windows::new(1, 4096);
    read(&windows, 0, (0, 0));
    let over = AtomicBool::new(false);
    let stop = || over.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| windows.wait(5, stop).is_none());
        let reader = scope.spawn(|| windows.wait_for_room(stop));
        over.store(true, Ordering::Relaxed);
        windows.wake();
        assert!(worker.join().unwrap());
        reader.join().unwrap();
    });
}

#[test]
fn a_thread_is_woken_by_what_it_waits_for() {
    let windows = Windows::new(1, 4096);
    std::thread::scope(|scope| {
        let worker = scope
            .spawn(|| (0..100).map(|task| marks(&windows.wait(task, || false).expect("not over"))).collect::<Vec<_>>());
        for task in 0..100 {
            let id = (0, task as u64);
            while try_read(&windows, task, id).is_none() {
                windows.wait_for_room(|| false);
            }
        }
        assert_eq!(worker.join().unwrap(), (0..100).map(|mark| vec![mark]).collect::<Vec<_>>());
    });
}
