"""An MCP server on stdio, as the text of a program that needs nothing but the standard library."""

SERVER = """\
import json, os, sys

GREET = {
    "name": "greet",
    "description": "A tool of a test.",
    "inputSchema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    "annotations": {"readOnlyHint": True},
}
APPROVE = {
    "name": "approve",
    "description": "Says what is allowed.",
    "inputSchema": {"type": "object", "properties": {"input": {"type": "object"}}},
}


def call(name, arguments):
    if name == "approve":
        if "forbidden" in json.dumps(arguments):
            decision = {"behavior": "deny", "message": "the server says no"}
        else:
            decision = {"behavior": "allow", "updatedInput": arguments["input"]}
        return [{"type": "text", "text": json.dumps(decision)}]
    who = os.environ.get("WHO", "nobody")
    return [{"type": "text", "text": "Hello " + arguments["name"] + " from " + who}]


for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    method, params = request["method"], request.get("params") or {}
    answer = {"jsonrpc": "2.0", "id": request["id"]}
    if method == "initialize":
        info = {"name": "own", "version": "1.0"}
        answer["result"] = {
            "protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": info
        }
    elif method == "tools/list":
        answer["result"] = {"tools": [GREET, APPROVE]}
    elif method == "tools/call":
        answer["result"] = {"content": call(params["name"], params["arguments"])}
    else:
        answer["error"] = {"code": -32601, "message": "no such method"}
    print(json.dumps(answer), flush=True)
"""
