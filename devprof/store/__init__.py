"""The Parquet contract: folders of measurements and of federated runs that only grow.

- ``schema``: the tables, their columns and versions.
- ``folder``: atomic writing, tolerant reading, and the loaders of the public API.
- ``csv_import``: tables that other tools measured.

This island imports pyarrow (and pandas in the loaders) inside functions, and no other island.
"""
