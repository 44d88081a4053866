import json
from types import SimpleNamespace

import pytest


@pytest.fixture
def pyperf_document():
    """Two runs and a calibration of one benchmark, as pyperf lays them out."""

    def make(name="resnet18/full/16", **metadata):
        return {
            "version": "1.0",
            "metadata": {
                "name": name,
                "unit": "second",
                "loops": 1,
                "hostname": "bench-host",
                "cpu_model_name": "Cortex-A76",
                "platform": "Linux-6.6-aarch64",
                "python_version": "3.11.2 (64-bit)",
                "perf_version": "2.7.0",
                "cpu_config": "0-3=governor:performance",
                "devprof_processor": "cpu",
                **metadata,
            },
            "benchmarks": [
                {
                    "runs": [
                        {"metadata": {"calibrate_loops": 1, "uptime": 1.0}, "warmups": [[1, 0.9]]},
                        {
                            "metadata": {
                                "date": "2024-05-01 10:00:00.5",
                                "duration": 3.5,
                                "load_avg_1min": 0.25,
                                "mem_max_rss": 1000,
                            },
                            "warmups": [[1, 0.5]],
                            "values": [0.25, 0.27, 0.26],
                        },
                        {"metadata": {"date": "2024-05-01 10:00:09.5"}, "values": [0.3]},
                    ]
                }
            ],
        }

    return make


@pytest.fixture
def write(tmp_path):
    """Write a file (a text, or content for JSON) and give its path and the folder to import into."""

    def write_file(content, name="file"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return SimpleNamespace(path=path, folder=tmp_path / "out")

    return write_file
