"""A scripted model on loopback, for agent programs: Anthropic's, OpenAI's two and Gemini's API.

It calls the first tool that it knows with `ls`, and answers with how many messages of the user's it was told. Of a message with the word
"slowly" it says one word, and the rest a minute later.
    python3 model.py [PORT]
"""

import http.server
import itertools
import json
import sys
import time

numbers = itertools.count(1)


def listing(names):
    """The tool to call, and its arguments."""
    known = {
        "Bash": {"command": "ls", "description": "List files"},
        "bash": {"command": "ls", "description": "List files"},
        "shell": {"command": ["bash", "-lc", "ls"]},
        "shell_command": {"command": "ls"},
        "exec_command": {"cmd": "ls"},
        "list_directory": {"dir_path": "."},
    }
    return next(((name, known[name]) for name in names if name in known), None)


class Model(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer("application/json", [json.dumps({"data": [], "models": []})])

    do_HEAD = do_GET

    def answer(self, kind, pieces):
        body = "".join(pieces).encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def slowly(self, piece):
        """The first piece of an answer, and for a minute nothing more."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(piece.encode())
        self.wfile.flush()
        self.close_connection = True
        time.sleep(60)

    def stream(self, events, named=False):
        head = lambda event: f"event: {event['type']}\n" if named else ""
        self.answer("text/event-stream", [f"{head(event)}data: {json.dumps(event)}\n\n" for event in events])

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = json.loads(body or b"{}")
        path = self.path.split("?")[0]
        if path.endswith("/count_tokens"):
            self.answer("application/json", [json.dumps({"input_tokens": 25})])
        elif path.endswith("/messages"):
            self.as_messages(asked)
        elif path.endswith("/responses"):
            self.as_responses(asked)
        elif path.endswith("/chat/completions"):
            self.as_completions(asked)
        elif "GenerateContent" in path or "generateContent" in path:
            self.as_gemini(asked, "stream" in path)
        else:
            self.answer("application/json", ["{}"])

    def as_messages(self, asked):
        last = asked["messages"][-1]["content"]
        has_result = isinstance(last, list) and any(block.get("type") == "tool_result" for block in last)
        said = sum(
            message["role"] == "user"
            and (isinstance(message["content"], str) or any(block.get("type") == "text" for block in message["content"]))
            for message in asked["messages"]
        )
        call = None if has_result else listing([tool["name"] for tool in asked.get("tools", [])])
        usage = {"input_tokens": 25, "output_tokens": 1}
        if call:
            block = {"type": "tool_use", "id": f"toolu_{next(numbers)}", "name": call[0], "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(call[1])}
        else:
            block = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": f"Messages so far: {said}."}
        message = {"id": f"msg_{next(numbers)}", "type": "message", "role": "assistant", "model": asked["model"], "content": [], "usage": usage}
        self.stream(
            [
                {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None}},
                {"type": "content_block_start", "index": 0, "content_block": block},
                {"type": "content_block_delta", "index": 0, "delta": delta},
                {"type": "content_block_stop", "index": 0},
                {
                    "type": "message_delta",
                    "delta": {"stop_reason": "tool_use" if call else "end_turn", "stop_sequence": None},
                    "usage": {"output_tokens": 12},
                },
                {"type": "message_stop"},
            ],
            named=True,
        )

    def as_responses(self, asked):
        items = asked["input"]
        has_result = items[-1].get("type") == "function_call_output"
        said = sum(item.get("role") == "user" and "<" not in json.dumps(item)[:80] for item in items)
        call = None if has_result else listing([tool.get("name") for tool in asked.get("tools", [])])
        if call:
            item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": call[0], "arguments": json.dumps(call[1])}
        else:
            content = [{"type": "output_text", "text": f"Messages so far: {said}."}]
            item = {"type": "message", "id": "msg_1", "role": "assistant", "content": content}
        usage = {"input_tokens": 25, "output_tokens": 12, "total_tokens": 37}
        usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 4}}
        self.stream(
            [
                {"type": "response.created", "response": {"id": "resp_1"}},
                {"type": "response.output_item.done", "output_index": 0, "item": item},
                {"type": "response.completed", "response": {"id": "resp_1", "status": "completed", "usage": usage, "output": [item]}},
            ],
            named=True,
        )

    def as_completions(self, asked):
        has_result = asked["messages"][-1]["role"] == "tool"
        said = sum(message["role"] == "user" for message in asked["messages"])
        call = None if has_result else listing([tool["function"]["name"] for tool in asked.get("tools", [])])
        if call:
            function = {"name": call[0], "arguments": json.dumps(call[1])}
            delta = {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]}
        else:
            delta = {"content": f"Messages so far: {said}."}
        chunk = {"id": "c1", "object": "chat.completion.chunk", "model": asked["model"]}
        usage = {"prompt_tokens": 25, "completion_tokens": 12, "total_tokens": 37}
        reason = "tool_calls" if call else "stop"
        chunks = [
            {**chunk, "choices": [{"index": 0, "delta": {"role": "assistant", **delta}}]},
            {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "usage": usage},
        ]
        self.answer("text/event-stream", [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + ["data: [DONE]\n\n"])

    def as_gemini(self, asked, streams):
        contents = asked["contents"]
        has_result = any("functionResponse" in part for part in contents[-1]["parts"])
        said = sum(content["role"] == "user" and any("text" in part for part in content["parts"]) for content in contents)
        declared = [one["name"] for tool in asked.get("tools", []) for one in tool.get("functionDeclarations", [])]
        call = None if has_result else listing(declared)
        part = {"functionCall": {"name": call[0], "args": call[1]}} if call else {"text": f"Messages so far: {said}."}
        usage = {"promptTokenCount": 25, "candidatesTokenCount": 12, "totalTokenCount": 37}
        answer = {
            "candidates": [{"index": 0, "content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}],
            "usageMetadata": usage,
        }
        if streams and "slowly" in json.dumps(contents[-1]):
            answer["candidates"] = [{"index": 0, "content": {"role": "model", "parts": [{"text": "Slowly"}]}}]
            self.slowly(f"data: {json.dumps(answer)}\r\n\r\n")
        elif streams:
            self.answer("text/event-stream", [f"data: {json.dumps(answer)}\r\n\r\n"])
        else:
            self.answer("application/json", [json.dumps(answer)])


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        # A program that ends closes its connections as it likes.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


server = Server(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Model)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
