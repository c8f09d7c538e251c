"""The calls about images."""

from __future__ import annotations

import time

from modal_proto import api_pb2

from agenthost.testing.emulators.modal.image_store import Image
from agenthost.testing.emulators.modal.wire import Stream, refuse
from agenthost.testing.emulators.modal.world import ModalEmulator, Results

_BUILDER_APP = "ap-of-the-builder"


class ImageCalls:
    """Part of the control plane."""

    world: ModalEmulator

    async def ImageGetOrCreate(self, stream: Stream) -> None:
        """Find the image of a definition, or promise to build it."""
        asked = await stream.recv_message()
        image = self.world.images.define(asked.image, force=asked.force_build)
        result = None if image.code is None else _result(image)
        await stream.send_message(
            api_pb2.ImageGetOrCreateResponse(image_id=image.id, result=result, metadata=self._metadata())
        )

    async def ImageJoinStreaming(self, stream: Stream) -> None:
        """Build an image, and tell how that ended; a hostile one lets the first look go without a word."""
        asked = await stream.recv_message()
        image = self._image(asked.image_id)
        if not self.world.friendly and not asked.last_entry_id and image.code is None:
            await stream.send_message(api_pb2.ImageJoinStreamingResponse(entry_id="1-0"))
            return
        await self.world.images.build(image)
        await stream.send_message(
            api_pb2.ImageJoinStreamingResponse(result=_result(image), metadata=self._metadata())
        )

    async def ImageFromId(self, stream: Stream) -> None:
        """Find a built image."""
        asked = await stream.recv_message()
        image = self._image(asked.image_id)
        await stream.send_message(api_pb2.ImageFromIdResponse(image_id=image.id, metadata=self._metadata()))

    async def ImageGetByTag(self, stream: Stream) -> None:
        """Find a published image."""
        asked = await stream.recv_message()
        found = self.world.images.by_name.get(_plain(asked.tag))
        if found is None:
            refuse("NOT_FOUND", f"no image {asked.tag!r}")
        await stream.send_message(api_pb2.ImageGetByTagResponse(image_id=found))

    async def ImagePublish(self, stream: Stream) -> None:
        """Give an image a name."""
        asked = await stream.recv_message()
        self.world.images.publish(self._image(asked.image_id), _plain(asked.tag))
        await stream.send_message(api_pb2.ImagePublishResponse(image_id=asked.image_id))

    async def ImageBuildChainGet(self, stream: Stream) -> None:
        """Tell of which steps an image was built: here it is one."""
        asked = await stream.recv_message()
        image = self._image(asked.image_id)
        step = api_pb2.ImageBuildStep(
            image_id=image.id, builder_app_id=_BUILDER_APP, builder_task_id=image.id
        )
        step.started_at.FromSeconds(int(time.time()) - 1000)
        step.finished_at.FromSeconds(int(time.time()) + 1)
        await stream.send_message(api_pb2.ImageBuildChainGetResponse(build_steps=[step]))

    async def AppFetchLogs(self, stream: Stream) -> None:
        """Tell what a step printed, its end at least."""
        asked = await stream.recv_message()
        lines = self._image(asked.task_id).log[-asked.limit :]
        items = [
            api_pb2.TaskLogs(
                data=f"{line}\n", timestamp=time.time(), file_descriptor=api_pb2.FILE_DESCRIPTOR_STDOUT
            )
            for line in lines
        ]
        batch = api_pb2.TaskLogsBatch(task_id=asked.task_id, items=items)
        await stream.send_message(api_pb2.AppFetchLogsResponse(batches=[batch]))

    def _metadata(self) -> api_pb2.ImageMetadata:
        return api_pb2.ImageMetadata(image_builder_version=self.world.image_builder)

    def _image(self, image_id: str) -> Image:
        image = self.world.images.find(image_id)
        if image is None:
            refuse("NOT_FOUND", f"no image {image_id}")
        return image


def _plain(tag: str) -> str:
    """Return a name without its environment: there is one of these here."""
    return tag.rpartition("/")[2]


def _result(image: Image) -> Results:
    if image.code == 0:
        return Results(status=Results.GENERIC_STATUS_SUCCESS)
    return Results(status=Results.GENERIC_STATUS_FAILURE)
