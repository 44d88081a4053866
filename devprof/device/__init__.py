"""The device that trains: who it is, how it is, and how much memory its processes take.

- ``identity``: the fingerprint of a board and the key under which its rows may be compared; its facts come from ``board``,
  ``cores``, ``jetson``, ``nvidia``, ``software`` and, in the measured process, ``torch_config``.
- ``state``: heat and clocks now, from ``heat``, ``clocks`` and vendors' ``tools``; ``throttle`` judges a series of states.
- ``load``: what the machine's CPUs did, and for whom.
- ``memory``: memory of this process and of the machine.
- ``limits``: what the control groups around this process leave it, from ``cgroup``; ``emulate`` sets such limits for a
  command, through ``confine``.

Standard library and psutil only; imports no other island.
"""
