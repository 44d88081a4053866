"""The Flower app of this repository: what ``flwr run .`` starts.

- ``server_app``, ``client_app``: the two components. ``config``, ``node``: what they are told, checked. ``strategy``: by name.
- ``data``: a client's samples, from ``idx``, ``cifar`` (files, read through ``streams``) or ``hub``, by ``split``.
- ``batches``, ``task``: from samples to a trained model; torch. ``experiment``: the same in virtual time, for comparisons.
"""
