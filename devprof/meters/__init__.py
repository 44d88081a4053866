"""Power sources of a device.

- ``probe``: which sources a device has and, for the others, why not. ``devprof doctor`` shows it.

No source is read into measurements yet: rows say ``energy_source = none`` and leave energy empty, because nothing is ever
estimated from a data sheet. Standard library only; imports no other island.
"""
