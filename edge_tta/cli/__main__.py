"""``python -m edge_tta.cli``."""

from edge_tta.cli.main import main

if __name__ == "__main__":
    main()
