"""Measuring: one configuration, one fresh child process; the parent stays small and never imports torch.

In the parent:

- ``sweep``: which configurations a command asks for, and the loop over them.
- ``harness``: measures one configuration and makes a row of whatever happened; ``rows`` fills its columns.
- ``child``: starts the child, waits for it, ends it. ``outcome``: what its end means.
- ``monitor``: reads the device's state meanwhile. ``cooldown``: waits for a cool start.
- ``statistics``: from raw step times to a row's figures, from ``series``, ``interval``, ``scales`` and ``changes``.
- ``checks``: the warnings a row can carry.
- ``metered``: what a meter says of a run. ``aligned``: the same out of a log, afterwards.

In the child, which alone imports torch:

- ``worker``: the order of things. ``job``: what is repeated. ``timing``: the clock. ``gauges``: memory and counters.
- ``spans``: when the parts of a run are (``runspans`` keeps them). ``pattern``: what a log shows of it.

A calibration, which times single operators, has a parent, ``calibrate``, and a child, ``calibrator``, which calls them again
with ``replay``; ``calibration`` is what they say to each other, ``operands`` how much memory a call needs. ``inside`` is what
every child does.

``protocol`` is what both sides say to each other.

Layer 2: imports islands, returns records; storing and showing them is the command line's part.
"""
