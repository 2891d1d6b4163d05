"""An agent that speaks the Agent Client Protocol as a file of its lines did: it answers each request with what stands up to its answer.

    python3 replay.py FILE
"""

import json
import sys

lines = iter(open(sys.argv[1], encoding="utf-8"))
for request in sys.stdin:
    asked = json.loads(request).get("id")
    while asked is not None and (line := next(lines, None)):
        print(line, end="", flush=True)
        if json.loads(line).get("id") == asked:
            break
