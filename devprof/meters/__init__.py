"""Power sources of a device, and energy made of what they say.

- ``base``: what every source is: channels, readings, one way to open and to read. ``catalogue``: all of them by name.
- One module per source: ``ina``, ``jtop``, ``rapl``, ``nvml``, ``pmic``, ``hwmon``, ``battery``. Meters outside of the device:
  ``csvfile``, ``pipe``, ``lines``, ``serialline``, ``described`` (rows), ``scpi``, ``shelly``, ``tasmota``, ``httpjson``.
  ``remote`` and ``serve`` are for one on another host.
- ``sieve`` rejects what cannot be true, ``energy`` integrates with a bound of the error, ``sampler`` is the process that reads,
  ``sampling`` the caller's side of it.

Nothing is ever estimated from a data sheet: what no meter saw stays empty. Imports no other island; libraries of meters are
imported by the driver that needs them, in the sampler's process.
"""
