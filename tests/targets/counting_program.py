"""A program with a session: it counts its updates, and has nothing but the standard library."""

from __future__ import annotations

import sys
from typing import Any

from score_program import read, write


def main() -> None:
    updates: dict[int, int] = {}
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while (message := read(stdin)) is not None and message["do"] != "bye":
        if message["do"] == "hello":
            write(stdout, {"name": "counting", "claims": ["session"]})
        else:
            write(stdout, reply(updates, message["port"], message["args"]))


def reply(updates: dict[int, int], port: str, args: dict[str, Any]) -> dict[str, Any]:
    if port == "session":
        number = len(updates) + 1
        updates[number] = 0
        return {"result": {"session": number, "step": True}}
    number = args["session"]
    if number not in updates:
        return {"malformed": f"no session {number}"}
    if port == "session.close":
        del updates[number]
        return {"result": {}}
    updates[number] += 1
    return {"result": {"count": 1, "status": 0, "update": updates[number]}}


if __name__ == "__main__":
    main()
