"""An agent that asks before it acts, in plain Python: turnkit serve --command-input --command python3 asking.py"""
import json, sys

def say(event, **data):
    print(json.dumps({"type": event, "data": data}), flush=True)

lines = map(json.loads, iter(sys.stdin.readline, ""))
what = next(lines)["message"].removeprefix("delete ")
say("interaction", id="delete-1", kind="approval", title=f"Delete {what}?", tool="rm", input={"path": what})
note = ""
for line in lines:
    if line["type"] == "input":  # a message into the running turn
        note = f"({line['data']['message']}) "
    elif line["type"] == "interaction.answered":
        is_allowed = line["data"]["outcome"] == "accepted"
        text = note + (f"Deleted {what}." if is_allowed else f"I leave {what} alone.")
        say("message.part.updated", part={"id": "prt_1", "type": "text"}, delta=text)
        say("result", finalText=text)
