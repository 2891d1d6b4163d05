"""Two turns of one session at a substrate: what a reader has of each. The session of the agent's own goes on."""

import json
import sys
import urllib.request

url, session, failed = sys.argv[1], None, False
history = []
for turn, message in enumerate(["What files are here?", "And now?"]):
    metadata = {"agentSessionId": session} if session else {}
    body = {"message": message, "sessionId": "s", "metadata": metadata, "history": history, "timeout": 90_000}
    headers = {"Content-Type": "application/json", "X-Execution-ID": f"real:s:{turn}", "Accept": "text/event-stream"}
    request = urllib.request.Request(url + "/agents/run/stream", json.dumps(body).encode(), headers)
    parts, result, end = {}, {}, []
    with urllib.request.urlopen(request) as answer:
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
                elif kind == "result":
                    result = data
                elif kind in ("warning", "error", "execution.failed", "execution.completed"):
                    end.append(kind + (f" {json.dumps(data)}" if kind != "execution.completed" else ""))
    for part in parts.values():
        print(f"   {part['type']}: {part['text'].strip()[:160]}")
    told = {name: result.get(name) for name in ("finishReason", "model", "tokenUsage")}
    print(f"   {'; '.join(end)[:300]}; {json.dumps(told)}")
    failed |= not result
    session = result.get("metadata", {}).get("agentSessionId")
    answer = "".join(part["text"] for part in parts.values() if part["type"] == "text")
    history += [{"role": "user", "content": message}, {"role": "assistant", "content": answer}]
sys.exit(failed)
