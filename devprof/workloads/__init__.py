"""What is trained: models by name, the one training step, its data, and the suites that list what to measure.

- ``names``: how a model is named; checking names without building anything.
- ``catalogue``: from a :class:`~devprof.records.Workload` to a model that can be trained.
- ``trainable``: what the catalogue hands over, and its batch in memory.
- ``seeds``: the small networks of published studies. ``own``: the user's own model and data.
- ``batches``: where a workload's batches come from. ``jpeg``: generated JPEG files, and the data set that reads them.
- ``training``: THE training step, shared by ``devprof measure`` and the Flower app.
- ``suites``: named lists of workloads, as TOML.
- ``compat``: what makes ``import timm`` work where torchvision lacks its compiled operators.

This island imports torch, torchvision and timm, inside the functions that need them or in modules of their own
(``seeds``, ``training``); it imports no other island.
"""
