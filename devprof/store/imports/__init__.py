"""Measurements that other tools made, translated into the columns of ``runs``. A module per format.

- ``detect``: which format a file is in.
- ``canonical``: CSV with devprof's own column names.
- ``timm``: CSV of timm's ``benchmark.py``.
- ``pyperf``: JSON of pyperf.
- ``columns``: reading CSV, and from texts to the values of columns.
- ``collect``: what came of an import, and its way into a folder.

Only what a file says is taken over: nothing is guessed, and what has no honest place is named in the report.
"""
