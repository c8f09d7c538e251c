"""The worker's side, Modal's task command router: programs in a sandbox, and its files as an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import anyio
from modal_proto import task_command_router_grpc
from modal_proto import task_command_router_pb2 as messages

from agenthost.errors import AgentHostError
from agenthost.testing.emulators.modal.about import REFUSED
from agenthost.testing.emulators.modal.fs_tools import replaced
from agenthost.testing.emulators.modal.image_store import pack
from agenthost.testing.emulators.modal.output import Output
from agenthost.testing.emulators.modal.programs import Program, is_too_long
from agenthost.testing.emulators.modal.wire import Stream, check_token, complete, refuse
from agenthost.testing.emulators.modal.world import ModalBox, ModalEmulator

_CUT_AFTER = 60  # pieces of a stream, about, until a hostile worker breaks it off


@complete
class Router(task_command_router_grpc.TaskCommandRouterBase):
    """The service. Its methods are named as Modal names them.

    Attributes:
        answered: The calls that it answers.
    """

    answered: ClassVar[Sequence[str]] = ()

    def __init__(self, world: ModalEmulator) -> None:
        self.world = world
        self.faults = world.faults

    def check(self, name: str, metadata: Any) -> None:
        """Refuse who has no token of some sandbox's: which one a call is about is known later."""
        del name
        if not str(metadata.get("authorization")).startswith("Bearer "):
            refuse("UNAUTHENTICATED", "no token")

    async def TaskExecStart(self, stream: Stream) -> None:
        """Start a program; the same name twice is one program."""
        asked = await stream.recv_message()
        box = self._box(stream, asked.task_id)
        machine = await self.world.machine_of(box)
        if asked.pty_info.enabled:
            refuse("UNIMPLEMENTED", REFUSED["pty"])
        if asked.stderr_config == messages.TASK_EXEC_STDERR_CONFIG_STDOUT:
            refuse("UNIMPLEMENTED", REFUSED["joined"])
        if is_too_long(asked.command_args):
            refuse("INVALID_ARGUMENT", "the arguments are too long")
        if asked.exec_id not in box.programs:
            env: dict[str, str] = {}
            for source in asked.secret_sources:
                env.update(source.env.contents)
            try:
                with anyio.CancelScope(shield=True):  # it is started, whoever has gone meanwhile
                    process = await machine.start(
                        replaced(asked.command_args), cwd=asked.workdir or None, env=env
                    )
                    program = box.programs[asked.exec_id] = Program(
                        process,
                        stdout=Output(drop=asked.stdout_config == messages.TASK_EXEC_STDOUT_CONFIG_DEVNULL),
                        stderr=Output(drop=asked.stderr_config == messages.TASK_EXEC_STDERR_CONFIG_DEVNULL),
                    )
                    self.world.tasks.start_soon(program.follow, asked.timeout_secs or None)
            except OSError as error:
                refuse("INVALID_ARGUMENT", f"{asked.command_args[0]}: {error.strerror}")
            except AgentHostError:
                refuse("NOT_FOUND", "the task has finished")
        await stream.send_message(messages.TaskExecStartResponse())

    async def TaskExecStdioRead(self, stream: Stream) -> None:
        """Send what a program prints, from an offset on, until its end."""
        asked = await stream.recv_message()
        box = self._box(stream, asked.task_id)
        program = self._program(box, asked.exec_id)
        is_stdout = asked.file_descriptor == messages.TASK_EXEC_STDIO_FILE_DESCRIPTOR_STDOUT
        output = program.stdout if is_stdout else program.stderr
        left = 0 if self.world.friendly else round(self.world.chance.expovariate(1 / _CUT_AFTER)) + 1
        with self.world.streams.opened() as scope:
            async for piece in output.pieces(asked.offset, self.world.piece):
                await self.world.streams.passing(len(piece))
                await stream.send_message(messages.TaskExecStdioReadResponse(data=piece))
                left -= 1
                if left == 0:
                    refuse("UNAVAILABLE", "the worker broke the stream off")
        if scope.cancelled_caught:
            refuse("UNAVAILABLE", "the stream was dropped on purpose")
        if box.done is not None:
            refuse("NOT_FOUND", "the task has finished")

    async def TaskExecStdinWrite(self, stream: Stream) -> None:
        """Write to a program's stdin."""
        asked = await stream.recv_message()
        program = self._program(self._box(stream, asked.task_id), asked.exec_id)
        await self.world.streams.passing(len(asked.data))
        await program.write(asked.offset, asked.data, eof=asked.eof)
        await stream.send_message(messages.TaskExecStdinWriteResponse())

    async def TaskExecStdinWriteStream(self, stream: Stream) -> None:
        """Write to a program's stdin as it comes, and end it."""
        start = (await stream.recv_message()).start
        program = self._program(self._box(stream, start.task_id), start.exec_id)
        offset = start.offset
        while (asked := await stream.recv_message()) is not None:
            is_end = asked.WhichOneof("payload") == "end"
            await self.world.streams.passing(len(asked.data))
            await program.write(offset, asked.data, eof=is_end)
            offset += len(asked.data)
            if is_end:
                break
        await stream.send_message(messages.TaskExecStdinWriteStreamResponse())

    async def TaskExecStdinStatus(self, stream: Stream) -> None:
        """Tell how much of stdin was accepted."""
        asked = await stream.recv_message()
        program = self._program(self._box(stream, asked.task_id), asked.exec_id)
        await stream.send_message(
            messages.TaskExecStdinStatusResponse(num_bytes_written=program.taken, closed=program.closed)
        )

    async def TaskExecPoll(self, stream: Stream) -> None:
        """Tell if a program has ended."""
        asked = await stream.recv_message()
        program = self._program(self._box(stream, asked.task_id), asked.exec_id)
        answer = messages.TaskExecPollResponse()
        if program.code is not None:
            answer = messages.TaskExecPollResponse(**_status(program.code))
        await stream.send_message(answer)

    async def TaskExecWait(self, stream: Stream) -> None:
        """Tell how a program has ended, when it has."""
        asked = await stream.recv_message()
        program = self._program(self._box(stream, asked.task_id), asked.exec_id)
        await program.ended.wait()
        if program.code is None:
            refuse("NOT_FOUND", "the task has finished")
        await stream.send_message(messages.TaskExecWaitResponse(**_status(program.code)))

    async def TaskSnapshotFilesystem(self, stream: Stream) -> None:
        """Keep a sandbox's files as an image."""
        asked = await stream.recv_message()
        box = self._box(stream, asked.task_id)
        machine = await self.world.machine_of(box)
        origin = self.world.images.get(box.definition.image_id)
        image = self.world.images.keep(origin, await pack(machine))
        await stream.send_message(messages.TaskSnapshotFilesystemResponse(image_id=image.id))

    def _box(self, stream: Stream, task: str) -> ModalBox:
        check_token(str(stream.metadata.get("authorization")).removeprefix("Bearer "), task)
        found = [box for box in self.world.boxes.running() if box.task == task]
        if not found:
            refuse("NOT_FOUND", "no such task, or it has finished")
        return found[0]

    def _program(self, box: ModalBox, name: str) -> Program:
        if name not in box.programs:
            refuse("NOT_FOUND", f"no program {name}")
        return box.programs[name]


def _status(code: int) -> dict[str, int]:
    return {"code": code} if code <= 128 else {"signal": code - 128}
