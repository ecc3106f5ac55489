#!/opt/wavedask/bin/python
"""End with 0 if the server of this container answers, and with 1 if it does not."""

import os
import sys
import urllib.request

URL = os.environ.get("HEALTH_URL", "http://127.0.0.1:8787/health")

try:
    with urllib.request.urlopen(URL, timeout=5) as answer:
        sys.exit(answer.status != 200)
except OSError as error:
    sys.exit(f"{URL}: {error}")
