"""Runs a command on a pseudo-terminal and plays a script: waits for texts, types, and tells what was shown.

Reads a JSON object from its first argument: command, cwd, env, columns, seconds, and steps, each {"expect": text} or
{"send": hex of bytes, "pieces": true to write them one by one}. Prints {"shown", "status", "missing"}.
"""

import codecs
import fcntl
import json
import os
import pty
import select
import struct
import sys
import termios
import time

plan = json.loads(sys.argv[1])
child, terminal = pty.fork()
if child == 0:
    os.chdir(plan["cwd"])
    # An empty value takes a variable away.
    env = {name: value for name, value in {**os.environ, **plan["env"]}.items() if value != ""}
    os.execvpe(plan["command"][0], plan["command"], env)
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, plan["columns"], 0, 0))

decoder = codecs.getincrementaldecoder("utf-8")("replace")
shown = ""
seen = 0
missing = None


def read(seconds):
    """Reads what is there within so many seconds; False when the terminal has closed."""
    global shown
    ready, _, _ = select.select([terminal], [], [], seconds)
    if not ready:
        return True
    try:
        data = os.read(terminal, 65536)
    except OSError:
        return False
    shown += decoder.decode(data)
    return data != b""


for step in plan["steps"]:
    if "expect" in step:
        deadline = time.monotonic() + plan["seconds"]
        while step["expect"] not in shown[seen:]:
            if time.monotonic() > deadline or not read(0.05):
                missing = step["expect"]
                break
        if missing is not None:
            break
        seen = shown.index(step["expect"], seen) + len(step["expect"])
    else:
        data = bytes.fromhex(step["send"])
        for piece in [data[at : at + 1] for at in range(len(data))] if step.get("pieces") else [data]:
            os.write(terminal, piece)
            if step.get("pieces"):
                time.sleep(0.005)

deadline = time.monotonic() + plan["seconds"]
status = None
while time.monotonic() < deadline and status is None:
    if missing is not None:
        os.kill(child, 9)
    read(0.05)
    done, code = os.waitpid(child, os.WNOHANG)
    if done:
        status = os.waitstatus_to_exitcode(code)
while status is not None and select.select([terminal], [], [], 0.05)[0] and read(0):
    pass
if status is None:
    os.kill(child, 9)
print(json.dumps({"shown": shown, "status": status, "missing": missing}))
