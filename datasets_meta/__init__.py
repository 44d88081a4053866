"""Descriptions of data sets and models, one TOML file each."""
