"""``python -m wavedask`` is the command ``wavedask``."""

from wavedask.cli import main

if __name__ == "__main__":
    main(prog_name="wavedask")
