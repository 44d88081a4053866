from devprof.measure.cooldown import wait_until_cool


class World:
    """A device that cools by one degree per second of waiting."""

    def __init__(self, temperature):
        self.start, self.now = temperature, 0.0

    def temperature(self):
        return None if self.start is None else self.start - self.now

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def wait(world, limit, timeout=100.0):
    return wait_until_cool(limit, timeout, temperature=world.temperature, clock=world.clock, sleep=world.sleep)


def test_a_cool_device_does_not_wait():
    assert wait(World(50.0), 55.0) == (0.0, True)


def test_a_hot_device_waits_until_it_is_cool():
    waited, cool = wait(World(60.0), 50.0)
    assert cool
    assert 10.0 <= waited <= 12.0


def test_waiting_ends_at_its_limit_and_says_that_the_device_is_hot():
    waited, cool = wait(World(90.0), 50.0, timeout=10.0)
    assert not cool
    assert waited >= 10.0


def test_a_device_without_a_zone_is_not_called_cool():
    assert wait(World(None), 50.0) == (0.0, False)
