"""fabio's reader of EDF, imported so that the logging of the process stays as it is."""

import logging

__all__ = ["EdfImage"]

# In an interactive session fabio configures the root logger, unless that has a handler.
_KEEPER = logging.NullHandler()
logging.root.addHandler(_KEEPER)
try:
    from fabio.edfimage import EdfImage
finally:
    logging.root.removeHandler(_KEEPER)
