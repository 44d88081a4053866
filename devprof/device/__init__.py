"""The device that trains: who it is, how it is, and how much memory its processes take.

- ``identity``: the fingerprint of a board and the key under which its rows may be compared.
- ``state``: temperature, load and frequency now.
- ``memory``: peak memory of this process.

Standard library and psutil only; imports no other island.
"""
