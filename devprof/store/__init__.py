"""The Parquet contract: folders of measurements and of federated runs that only grow.

- ``schema``: the tables, their columns and versions.
- ``files``: which files of a table count, how one is read and written.
- ``folder``: atomic writing, tolerant reading, and the loaders of the public API.
- ``compact``: many small files become few.
- ``complete``: what is known only later is written into the row of a finished run.
- ``summary``: a line per configuration, with ``intervals`` over processes and ``sampled`` power.
- ``imports``: measurements of other tools, a module per format.

This island imports pyarrow (and pandas in the loaders) inside functions, and no other island.
"""
