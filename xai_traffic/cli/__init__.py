"""The `xai-traffic` command: flags to calls, nothing else; one file a verb."""

from xai_traffic.cli.main import main

__all__ = ["main"]
