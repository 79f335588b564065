#!/usr/bin/env python3
"""Keeps free memory of a virtual machine backed by its host, for as long as it runs.

    tools/bench/ballast.py GIB

Some hosts take back memory that the guest has freed, in blocks of 2 MiB, within seconds; the next program to touch it then pays
for every page, whichever program that is. This touches GIB of memory once, keeps one page of every MiB locked, and gives the
rest back: what is free is then in blocks too small to be taken away. Prints "ready" and waits for the end of its input.
"""
import ctypes
import mmap
import resource
import sys

PAGE = mmap.PAGESIZE
STEP = 1 << 20


def main():
    size = int(float(sys.argv[1]) * (1 << 30)) // STEP * STEP
    libc = ctypes.CDLL(None, use_errno=True)
    # Ten GiB of ballast lock 40 MiB. Root may lock what it likes.
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    area = mmap.mmap(-1, size)
    # Pages one by one: a huge page could not be given back but for one small page of it.
    area.madvise(mmap.MADV_NOHUGEPAGE)
    for at in range(0, size, PAGE):
        area[at] = 1
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    for at in range(0, size, STEP):
        if libc.mlock(ctypes.c_void_p(start + at), ctypes.c_size_t(PAGE)) != 0:
            raise OSError(ctypes.get_errno(), "mlock")
        area.madvise(mmap.MADV_DONTNEED, at + PAGE, STEP - PAGE)
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
