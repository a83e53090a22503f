"""``python -m edge_tta.cli``."""

from edge_tta.cli.start import main

if __name__ == "__main__":
    main()
