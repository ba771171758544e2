"""The command `agentmesh`. What it can answer by itself, it answers before anything else is imported."""

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command in `sys.argv`; returns its exit code."""
    if sys.argv[1:] == ["--version"]:
        from . import __version__

        sys.stdout.write(f"agentmesh {__version__}\n")
        return 0
    from .app.cli import main as run_command

    return run_command(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
