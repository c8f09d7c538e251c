"""The program inside the sandbox that drives one ClaudeSDKClient, by the SDK's public API only.

Lines of JSON come in on stdin and events go out on stdout:

    main.py      streams, signals, exit          sdk.py       import of the SDK
    loop.py      the event loop                  lean_import.py  the SDK's import without mcp
    agent.py     the client from start to end    options.py   options from data, secrets to files
    journal.py   events, paced by their reader   stderr.py    the CLI's stderr
    prompts.py   which prompts are open          faults.py    exceptions as data
    process.py   hardening, descendants          lines.py     bytes to lines

In:   {"op":"connect","options":{...},"sdk_version":"0.2.187"}
      {"op":"query","uuid":U,"prompt":"text" or [message, ...],"session_id":"default"}
      {"op":"call","id":N,"method":"interrupt","params":{...}}
      {"op":"finish"}                                   no more prompts: ends when all are answered
      {"op":"end"}                                      the end of stdin means the same
Out:  {"seq":1,"ts":seconds,"kind":K,...}
      message  {"message":encoded}
      fault    {"error":E}               raised to whoever reads messages here; the agent goes on
      stderr   {"line":text} and, when lines had to be left out before it, {"dropped":count}
      state    {"state":"ready" | "connected" | "busy" | "idle", ...}
      reply    {"id":N,"ok":true,"result":encoded} or {"id":N,"ok":false,"error":E}
      end      {"error":E or null}       the only proof that the agent has ended; always the last line
E = {"type":class name,"bases":[names, nearest first],"message":text, and the exception's attributes}

Python 3.10 or newer, the SDK and the stdlib; asyncio. agenthost is a namespace package here.
"""
