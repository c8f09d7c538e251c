"""A sandbox without an agent: programs, streams and files.

python examples/sandbox_only.py
"""

from __future__ import annotations

import anyio

from agenthost import SandboxSpec, open_provider


async def main() -> None:
    """Use the contract that every provider keeps."""
    async with open_provider("local") as provider:
        sandbox = await provider.create(SandboxSpec(max_lifetime=300))
        try:
            await sandbox.write_file("hello.py", b"print('hello from', __import__('os').getcwd())\n")
            result = await sandbox.exec(["python3", "hello.py"], timeout=30)
            print(result.exit_code, result.stdout.decode().strip())
            async with sandbox.spawn(["cat"]) as process:
                await process.send_stdin(b"a line\n")
                print((await process.receive_stdout()).decode().strip())
                await process.close_stdin()
                print("cat ended with", await process.wait())
        finally:
            await sandbox.terminate()


if __name__ == "__main__":
    anyio.run(main)
