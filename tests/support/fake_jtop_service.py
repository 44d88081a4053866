"""The real service of jetson-stats, over a fake tree of sensors: a script, because jtop forces ``fork`` on its process.

It runs without root, without the group jtop and on any machine. It prints ``ready`` when clients may come, and ends when its
standard input does. ``fake_meters_jetson.JtopService`` starts it.
"""

import argparse
import grp
import os
import sys


def serve(arguments):
    from jtop import service
    from jtop.core import config, power

    find = power.find_all_i2c_power_monitor
    power.find_all_i2c_power_monitor = lambda _: find(arguments.i2c)
    power.find_all_system_monitor = lambda _: {}
    config.get_config_service = lambda *_args, **_kwargs: arguments.folder
    service.JTOP_PIPE = arguments.socket
    service.JTOP_USER = grp.getgrgid(os.getgid()).gr_name
    service.get_hardware = lambda: {"Model": "fake board", "SoC": arguments.soc, "L4T": "36.4.3"}
    if arguments.version:
        service.get_var = lambda _: arguments.version
    getuid, os.getuid = os.getuid, lambda: 0
    server = service.JtopServer(force=True)
    os.getuid = getuid
    server.start()
    if arguments.interval:
        _fix_interval(arguments.interval)
    print("ready", flush=True)
    sys.stdin.read()
    server.close()


def _fix_interval(interval_s):
    """Be the first client, which decides how often the service reads, and leave without a word."""
    import jtop

    client = jtop.jtop(interval=interval_s)
    client.start()
    client.close()
    client.join()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--i2c", required=True)
    parser.add_argument("--soc", default="")
    parser.add_argument("--version", default="")
    parser.add_argument("--interval", type=float, default=0.0)
    serve(parser.parse_args())
