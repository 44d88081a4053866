"""The fleet's Flower app: ``devprof measure`` on every connected SuperNode, and the rows back in one folder.

On the operator's machine:

- ``launch``: starts the run with Flower's own command, follows its log, and returns the result.

On the SuperLink, in the ServerApp:

- ``server_app``: the app. ``conduct``: who is asked what, and for how long. ``ledger``: what replies are worth, and the rows.

On each node, in the ClientApp:

- ``client_app``: the app. ``nodestatus``: what a node says of itself. ``work``: runs the commands, ``watched`` is their
  process.

Between them: ``order`` (operator to ServerApp), ``wire`` (ServerApp to node and back), ``tables`` (measured rows as bytes), and
``lines`` (ServerApp to operator, through the log).
"""
