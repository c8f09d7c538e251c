"""Modal's control plane: apps, images, secrets, and the life of sandboxes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import anyio
from google.protobuf.empty_pb2 import Empty  # type: ignore[import-untyped]  # no stubs
from modal_proto import api_grpc, api_pb2

from agenthost.testing.emulators.modal.about import REFUSED
from agenthost.testing.emulators.modal.image_calls import ImageCalls
from agenthost.testing.emulators.modal.programs import is_too_long
from agenthost.testing.emulators.modal.visiting import Passes
from agenthost.testing.emulators.modal.wire import Stream, check_token, complete, make_token, refuse
from agenthost.testing.emulators.modal.world import ModalBox, ModalEmulator, Results

_TAG = re.compile(r"[A-Za-z0-9._-]{1,63}\Z")
_PAGE = 2  # sandboxes on one page of a hostile list
_TOKEN_SECONDS = 1200.0
_WITH_TOKEN = {"SandboxGetCommandRouterAccess"}  # calls that want one though they do not end in V2
# What a sandbox may be asked for here; anything else of a definition is refused, and not left out in silence.
_DEFINED = {
    "entrypoint_args",
    "experimental_outbound_policy",
    "image_id",
    "name",
    "network_access",
    "resources",
    "runtime",
    "secret_ids",
    "timeout_secs",
    "scheduler_placement",
    "cloud_provider_str",
    "workdir",
    "open_ports",
}


@complete
class Control(ImageCalls, api_grpc.ModalClientBase):
    """The service. Its methods are named as Modal names them.

    Attributes:
        answered: The calls that it answers.
    """

    answered: ClassVar[Sequence[str]] = ()

    def __init__(
        self, world: ModalEmulator, credential: tuple[str, str], passes: Passes, visitors_url: str
    ) -> None:
        self.world = world
        self.faults = world.faults
        self._credential = credential
        self._passes = passes
        self._visitors_url = visitors_url

    def check(self, name: str, metadata: Any) -> None:
        """Refuse who has not the credential, or for most calls no token that was got with it."""
        given = (metadata.get("x-modal-token-id"), metadata.get("x-modal-token-secret"))
        if self.faults.revoked or given != self._credential:
            # What a server says may hold what it was told.
            refuse("UNAUTHENTICATED", f"token ID or secret is not valid: {given[0]}, {given[1]}")
        if name.endswith("V2") or name in _WITH_TOKEN:
            check_token(str(metadata.get("x-modal-auth-token")), "client")

    async def ClientHello(self, stream: Stream) -> None:
        """Greet."""
        await stream.recv_message()
        await stream.send_message(api_pb2.ClientHelloResponse(image_builder_version=self.world.image_builder))

    async def AuthTokenGet(self, stream: Stream) -> None:
        """Give a token for the calls that end in V2."""
        await stream.recv_message()
        token = make_token("client", _TOKEN_SECONDS)
        await stream.send_message(api_pb2.AuthTokenGetResponse(token=token))

    async def EnvironmentGetOrCreate(self, stream: Stream) -> None:
        """There is any environment."""
        asked = await stream.recv_message()
        settings = api_pb2.EnvironmentSettings(
            image_builder_version=self.world.image_builder, webhook_suffix=""
        )
        metadata = api_pb2.EnvironmentMetadata(name=asked.deployment_name or "main", settings=settings)
        await stream.send_message(
            api_pb2.EnvironmentGetOrCreateResponse(environment_id="en-1", metadata=metadata)
        )

    async def AppGetOrCreate(self, stream: Stream) -> None:
        """Find or make an app."""
        asked = await stream.recv_message()
        make = asked.object_creation_type == api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING
        if asked.app_name not in self.world.apps and not make:
            refuse("NOT_FOUND", f"no app {asked.app_name!r}")
        app = self.world.apps.setdefault(asked.app_name, f"ap-{len(self.world.apps) + 1:022}")
        await stream.send_message(api_pb2.AppGetOrCreateResponse(app_id=app))

    async def SecretGetOrCreate(self, stream: Stream) -> None:
        """Find a named secret."""
        asked = await stream.recv_message()
        if asked.deployment_name not in self.world.secrets:
            refuse("NOT_FOUND", f"no secret {asked.deployment_name!r}")
        secret = f"st-{asked.deployment_name}"
        await stream.send_message(api_pb2.SecretGetOrCreateResponse(secret_id=secret))

    async def SandboxCreateV2(self, stream: Stream) -> None:
        """Make a sandbox. It is there whether its client hears of it or not; its machine comes later."""
        asked = await stream.recv_message()
        _check_definition(asked.definition)
        self._check_tags(asked.tags)
        box = self.world.make(asked)
        token = make_token(box.task, self.world.token_seconds if self.world.friendly else 0.0)
        access = api_pb2.CommandRouterAccess(url=self.world.router_url, jwt=token)
        await stream.send_message(
            api_pb2.SandboxCreateV2Response(
                sandbox_id=box.id,
                task_id=box.task,
                sandbox_token=box.token,
                metadata=api_pb2.SandboxHandleMetadata(app_id=box.app),
                command_router_access=access,
            )
        )

    async def SandboxWaitV2(self, stream: Stream) -> None:
        """Tell how a sandbox is, at once or when it has ended."""
        asked = await stream.recv_message()
        box = self.world.reached(asked.sandbox_id, _given(stream))
        with anyio.move_on_after(asked.timeout):
            await box.ended.wait()
        await stream.send_message(
            api_pb2.SandboxWaitResponse(
                result=box.done, metadata=api_pb2.SandboxHandleMetadata(app_id=box.app)
            )
        )

    async def SandboxWait(self, stream: Stream) -> None:
        """There is no sandbox of the first kind."""
        await stream.recv_message()
        refuse("NOT_FOUND", "no such sandbox")

    async def SandboxTerminateV2(self, stream: Stream) -> None:
        """End a sandbox."""
        asked = await stream.recv_message()
        self.world.finish(
            self.world.reached(asked.sandbox_id, _given(stream)), Results.GENERIC_STATUS_TERMINATED
        )
        await stream.send_message(api_pb2.SandboxTerminateResponse())

    async def SandboxGetTaskIdV2(self, stream: Stream) -> None:
        """Tell what a worker calls a sandbox."""
        asked = await stream.recv_message()
        box = self.world.reached(asked.sandbox_id, _given(stream))
        task = box.task if box.done is None else ""
        await stream.send_message(api_pb2.SandboxGetTaskIdResponse(task_id=task, task_result=box.done))

    async def SandboxGetCommandRouterAccess(self, stream: Stream) -> None:
        """Tell where a sandbox's worker is, and give a token for it."""
        asked = await stream.recv_message()
        box = self.world.reached(asked.sandbox_id, _given(stream))
        if box.done is not None:
            refuse("FAILED_PRECONDITION", "the sandbox has finished")
        await stream.send_message(
            api_pb2.SandboxGetCommandRouterAccessResponse(
                url=self.world.router_url, jwt=make_token(box.task, self.world.token_seconds)
            )
        )

    async def SandboxCreateConnectTokenV2(self, stream: Stream) -> None:
        """Give a token for a port, whether anybody listens there or not."""
        asked = await stream.recv_message()
        box = self.world.reached(asked.sandbox_id, _given(stream))
        if box.done is not None:
            refuse("FAILED_PRECONDITION", "the sandbox has finished")
        token = self._passes.make(box, asked.port or 8080)
        await stream.send_message(
            api_pb2.SandboxCreateConnectTokenResponse(url=self._visitors_url, token=token)
        )

    async def SandboxListV2(self, stream: Stream) -> None:
        """List what runs, newest first, by pages."""
        asked = await stream.recv_message()
        wanted = {(tag.tag_name, tag.tag_value) for tag in asked.tags}
        found = [
            box
            for box in self.world.boxes.listed()
            if asked.app_id in ("", box.app)
            and (not asked.before_timestamp or box.started_at < asked.before_timestamp)
            and wanted <= box.tags.items()
        ]
        found.sort(key=lambda box: box.started_at, reverse=True)
        page = found if self.world.friendly else found[:_PAGE]
        await stream.send_message(api_pb2.SandboxListResponse(sandboxes=[_listed(box) for box in page]))

    async def SandboxTagsGetV2(self, stream: Stream) -> None:
        """Tell a sandbox's tags."""
        asked = await stream.recv_message()
        tags = self.world.reached(asked.sandbox_id, _given(stream)).tags.items()
        told = [api_pb2.SandboxTag(tag_name=name, tag_value=value) for name, value in tags]
        await stream.send_message(api_pb2.SandboxTagsGetResponse(tags=told))

    async def SandboxTagsSetV2(self, stream: Stream) -> None:
        """Replace all tags of a sandbox."""
        asked = await stream.recv_message()
        self._check_tags(asked.tags)
        self.world.reached(asked.sandbox_id, _given(stream)).tags = {
            tag.tag_name: tag.tag_value for tag in asked.tags
        }
        await stream.send_message(Empty())

    async def SandboxGetFromNameV2(self, stream: Stream) -> None:
        """Find a running sandbox by its name."""
        asked = await stream.recv_message()
        box = self.world.named(self.world.apps.get(asked.app_name, ""), asked.sandbox_name)
        if box is None:
            refuse("NOT_FOUND", f"no running sandbox {asked.sandbox_name!r}")
        await stream.send_message(
            api_pb2.SandboxGetFromNameResponse(
                sandbox_id=box.id, metadata=api_pb2.SandboxHandleMetadata(app_id=box.app)
            )
        )

    def _check_tags(self, tags: Any) -> None:
        for tag in tags if self.world.strict_tags else ():
            if not _TAG.match(tag.tag_name) or not _TAG.match(tag.tag_value):
                refuse(
                    "INVALID_ARGUMENT", f"tag {tag.tag_name!r} or its value {tag.tag_value!r} is not valid"
                )

    async def SandboxGetFromName(self, stream: Stream) -> None:
        """There is no sandbox of the first kind: the client asks for one, too."""
        await stream.recv_message()
        refuse("NOT_FOUND", "no such sandbox")


def _given(stream: Stream) -> str:
    return str(stream.metadata.get("x-modal-sandbox-token") or "")


def _check_definition(wanted: Any) -> None:
    unknown = {field.name for field, _ in wanted.ListFields()} - _DEFINED
    if unknown:
        refuse("UNIMPLEMENTED", f"the emulator does not do: {', '.join(sorted(unknown))}")
    if wanted.open_ports.ports:
        refuse("UNIMPLEMENTED", REFUSED["ports"])
    if is_too_long(wanted.entrypoint_args):
        refuse("INVALID_ARGUMENT", "the arguments are too long")
    if not 0 < wanted.timeout_secs <= 24 * 3600:
        refuse("INVALID_ARGUMENT", "the timeout is not between 1 s and 24 h")


def _listed(box: ModalBox) -> api_pb2.SandboxInfo:
    return api_pb2.SandboxInfo(
        id=box.id,
        created_at=box.started_at,
        app_id=box.app,
        name=box.name,
        metadata=api_pb2.SandboxHandleMetadata(app_id=box.app),
    )
