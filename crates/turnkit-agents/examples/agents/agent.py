#!/usr/bin/env python3
"""An agent in Python, standard library only: reads one request from standard input, writes one event a line.

    turnkit serve --command python3 agent.py

It looks for arithmetic in the message, works it out with a tool, and tells the result; it remembers from the session's
history how often it was asked. SIGTERM (a cancelled run) ends it in good order.
"""

import ast
import json
import operator
import re
import signal
import sys
import time

OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def emit(kind, data):
    """Writes one event and sends it off at once."""
    print(json.dumps({"type": kind, "data": data}), flush=True)


class Answer:
    """The parts of one answer."""

    def __init__(self, request):
        self.session = request.get("sessionId")
        self.text = ""

    def part(self, part_id, kind, **members):
        part = {"id": part_id, "messageID": "msg_1", "type": kind, **members}
        if self.session is not None:
            part["sessionID"] = self.session
        return part

    def think(self, thought):
        emit("message.part.updated", {"part": self.part("prt_reasoning", "reasoning"), "delta": thought})

    def tool(self, **state):
        part = self.part("prt_tool", "tool", tool="calculator", callID="call_1", state=state)
        emit("message.part.updated", {"part": part})

    def say(self, text):
        for word in re.findall(r"\S+\s*", text):
            self.text += word
            emit("message.part.updated", {"part": self.part("prt_text", "text"), "delta": word})
            time.sleep(0.02)


def evaluate(node):
    """Works out plain arithmetic, and refuses everything else."""
    if isinstance(node, ast.Expression):
        return evaluate(node.body)
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](evaluate(node.left), evaluate(node.right))
    if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](evaluate(node.operand))
    raise ValueError("only numbers and + - * / // % can be worked out")


def calculate(answer, expression):
    """Calls the calculator, and shows the call."""
    call = {"input": {"expression": expression}}
    answer.tool(status="running", **call)
    try:
        value = evaluate(ast.parse(expression, mode="eval"))
        answer.tool(status="completed", output=str(value), title=expression, **call)
        return f"`{expression}` is **{value}**. "
    except (ValueError, SyntaxError, ArithmeticError, RecursionError, MemoryError) as error:
        answer.tool(status="error", error=str(error), **call)
        return f"I could not work out `{expression}`: {error}. "


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    started = time.monotonic()
    request = json.load(sys.stdin)
    message = request["message"]
    earlier = [turn for turn in request.get("history", []) if turn["role"] == "user"]

    answer = Answer(request)
    answer.think("I look for something to work out. ")
    found = re.search(r"[-+(]*\d[\d\s.+*/%()-]*", message[:1000])
    if found:
        answer.say(calculate(answer, found.group().strip(" .")))
    else:
        answer.say("I found nothing to work out: ask me something like 6 * 7. ")
    answer.say(f"That was question {len(earlier) + 1} of this session.")

    usage = {"inputTokens": len(message.split()), "outputTokens": len(answer.text.split())}
    timing = {"totalMs": int((time.monotonic() - started) * 1000)}
    emit("result", {"finalText": answer.text, "tokenUsage": usage, "timing": timing})


if __name__ == "__main__":
    main()
