"""Measuring: one configuration, one fresh child process; the parent stays small and never imports torch.

- ``sweep``: which configurations a command asks for, which are finished already, and the loop over the rest.
- ``harness``: starts one child, waits for it, and makes a row of whatever happened.
- ``worker``: the child; the only module here that imports torch.
- ``outcome``: what a child's end means (out of memory, killed, crashed, timed out).
- ``statistics``: from raw step times to a row's figures. ``checks``: the warnings a row can carry.

Layer 2: imports islands, returns records; storing and showing them is the command line's part.
"""
