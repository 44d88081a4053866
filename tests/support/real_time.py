"""Fakes that show what their device would show, as time passes, and what they have shown."""

import bisect
import contextlib
import threading
import time


class Shown:
    """What a fake showed when: the truth that a reader can have seen, however late the fake was for its own clock."""

    def __init__(self, fake):
        self.fake = fake
        self.stamps_ns = []
        self.times_s = []

    def show(self, t_s):
        self.fake.advance(t_s)
        self.stamps_ns.append(time.monotonic_ns())
        self.times_s.append(t_s)

    def true_j(self, begin_ns, end_ns):
        """Joules between two moments, by what was shown last before each."""
        first, last = (self.times_s[max(0, bisect.bisect(self.stamps_ns, t) - 1)] for t in (begin_ns, end_ns))
        return self.fake.true_j(last) - self.fake.true_j(first)


@contextlib.contextmanager
def advancing(fake, period_s=0.002):
    """The fake shows what its device would show, in real time."""
    shown, over = Shown(fake), threading.Event()
    begin_s = time.monotonic()

    def show():
        while not over.wait(period_s):
            shown.show(time.monotonic() - begin_s)

    shown.show(0.0)
    thread = threading.Thread(target=show)
    thread.start()
    try:
        yield shown
    finally:
        over.set()
        thread.join()
