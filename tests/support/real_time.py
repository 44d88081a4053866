"""Fakes that show what their device would show, as time passes."""

import contextlib
import threading
import time


@contextlib.contextmanager
def advancing(fake):
    """The fake shows what its device would show, in real time."""
    begin_s, over = time.monotonic(), threading.Event()

    def show():
        while not over.wait(0.002):
            fake.advance(time.monotonic() - begin_s)

    thread = threading.Thread(target=show)
    thread.start()
    try:
        yield begin_s
    finally:
        over.set()
        thread.join()
