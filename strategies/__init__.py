"""Flower strategies that plan rounds from predictions. Everything that imports flwr lives here.

- ``client``: the client's ``Budget``. ``telemetry``: what a client says of its round, and how far it is believed.
- ``grid``: ``DeadlineGrid``, per-client deadlines and a round log around any grid.
- ``planned``: ``PlannedStrategy``. ``cutoff``: ``CutoffStrategy``, one tau per processor. Both wrap any Flower strategy.
- ``aggregation``: what bad replies cannot do, with ``screening`` (arrays), ``metrics``, ``plausibility`` (telemetry against
  the plan), ``weights`` and ``statistics`` (batch norm).
- ``virtual``: federated training in virtual time, in one process.
- ``baselines`` and ``compare``: the usual strategies and a fair comparison with them on the virtual clock.
- ``processes``: a whole federation of real processes on this machine (``commandlines``, ``processtree``).
- ``app``: the Flower app of this repository.
- ``fleet``: the app of ``devprof fleet``, which measures on every SuperNode.
- ``compat``: every private touch of Flower, in one place.
"""
