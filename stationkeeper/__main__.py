"""``python -m stationkeeper``: the same as the ``stationkeeper`` command."""

from stationkeeper.cli import main

if __name__ == "__main__":
    main()
