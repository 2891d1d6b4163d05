"""Two turns of one session at a substrate: what a reader has of each. The session of the agent's own goes on.

With `--ends` two more, of which the first is stopped in its middle, and in the middle of the second all programs of the substrate are killed.
With `--apart` the second turn comes in another minute than the first.
"""

import json
import os
import signal
import sys
import threading
import time
import urllib.request

url, options = sys.argv[1], sys.argv[2:]


def post(path, body, **headers):
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream", **headers}
    return urllib.request.urlopen(urllib.request.Request(url + path, json.dumps(body).encode(), headers))


def ask(turn, message, session, history, on_text=None):
    """What there is of a turn, read to its end: its parts, its result, and how it ended."""
    metadata = {"agentSessionId": session} if session else {}
    body = {"message": message, "sessionId": "s", "metadata": metadata, "history": history, "timeout": 90_000}
    parts, result, end = {}, {}, []
    with post("/agents/run/stream", body, **{"X-Execution-ID": f"real:s:{turn}"}) as answer:
        kind = ""
        for line in answer:
            line = line.decode().rstrip("\r\n")
            if line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: "):
                data = json.loads(line[6:])
                if kind == "message.part.updated":
                    part = data["part"]
                    known = parts.setdefault(part["id"], {"type": part["type"], "text": ""})
                    if part["type"] == "tool":
                        known["text"] = f"{part['tool']} {part['state']['status']}: {json.dumps(part['state'].get('output'))}"
                    else:
                        known["text"] = known["text"] + data["delta"] if "delta" in data else part.get("text", "")
                        if on_text and part["type"] == "text":
                            threading.Thread(target=on_text).start()
                            on_text = None
                elif kind == "result":
                    result = data
                elif kind in ("warning", "error", "execution.failed", "execution.cancelled", "execution.completed"):
                    end.append(kind + (f" {json.dumps(data)}" if kind != "execution.completed" else ""))
    for part in parts.values():
        print(f"   {part['type']}: {part['text'].strip()[:160]}")
    told = {name: result.get(name) for name in ("finishReason", "model", "tokenUsage")}
    print(f"   {'; '.join(end)[:300]}; {json.dumps(told)}", flush=True)
    return parts, result, end


def programs():
    """The processes that work for executions of this session."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ:
                if b"TURNKIT_EXECUTION_ID=real:s:" in environ.read():
                    yield int(pid)
        except OSError:
            pass


session, failed = None, False
history = []
for turn, message in enumerate(["What files are here?", "And now?"]):
    if turn == 1 and "--apart" in options:
        time.sleep(61 - time.time() % 60)
    parts, result, _ = ask(turn, message, session, history)
    failed |= not result
    session = result.get("metadata", {}).get("agentSessionId")
    answer = "".join(part["text"] for part in parts.values() if part["type"] == "text")
    history += [{"role": "user", "content": message}, {"role": "assistant", "content": answer}]
if "--ends" in options:
    stop = lambda: post("/agents/run/cancel", {"executionId": "real:s:2"}).read()
    _, result, end = ask(2, "Answer slowly.", None, [], stop)
    failed |= bool(result) or not any(said.startswith("execution.cancelled") for said in end)

    def left():
        """What is still there once the programs had their time to end."""
        time.sleep(4)
        return sum(1 for _ in programs())

    failed |= (count := left()) > 0
    print(f"   stopped; processes left: {count}")
    kill = lambda: [os.kill(pid, signal.SIGKILL) for pid in list(programs())]
    _, result, end = ask(3, "Answer slowly again.", None, [], kill)
    failed |= bool(result) or not any(said.startswith("execution.failed") for said in end)
    failed |= (count := left()) > 0
    print(f"   killed; processes left: {count}")
sys.exit(failed)
