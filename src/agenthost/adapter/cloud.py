"""An adapter for a cloud: what a vendor's client can do, as a Vendor, makes a provider."""

from __future__ import annotations

import re
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, Protocol, Self, TypeAlias, TypeVar, cast

import anyio

from agenthost.adapter.bootstrap import (
    SECONDS,
    Bootstrap,
    bootstrap_command,
    bootstrap_files,
    bootstrap_layout,
    dial_command,
    prepare_command,
)
from agenthost.adapter.checks import refuse_options
from agenthost.adapter.dial_carrier import DialCarrier, Running
from agenthost.adapter.make_once import LOOKS, MAKING, make_once
from agenthost.adapter.network import check_allowed_hosts, refuse_unreachable
from agenthost.adapter.prices import Prices
from agenthost.adapter.provider import GuestProvider
from agenthost.adapter.record import (
    LEASE_LABEL,
    NAME_LABEL,
    NONCE_LABEL,
    PORT_LABEL,
    PROVIDER_LABEL,
    LabelRule,
    SandboxRecord,
    number_in,
)
from agenthost.errors import (
    BootstrapError,
    NameTakenError,
    ProviderError,
    SandboxGoneError,
    SandboxNotFoundError,
    SandboxPausedError,
    UnsupportedError,
)
from agenthost.link.carriers.http import HttpDialer
from agenthost.link.layout import GuestLayout
from agenthost.sandbox import Backend, Boot, Carrier, Isolation, SandboxInfo, SandboxState
from agenthost.spec import SandboxSpec
from agenthost.supports import Endpoint, SupportsLease, SupportsPorts

H = TypeVar("H")

_START = 60.0  # seconds that a start without an installation may take
# What an installation needs of a spec's environment. Another variable could keep the start from working.
_INSTALLERS = re.compile(r"(PIP|UV)_|(HTTPS?|ALL|NO)_PROXY\Z|SSL_CERT_(FILE|DIR)\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One sandbox as the vendor describes it.

    Attributes:
        id: The vendor's id.
        labels: As stored by ``Vendor.create``.
        state: What the sandbox does now.
        created_at, expires_at: Seconds since the epoch; None: what the labels state holds.
        isolation: Where it differs from sandbox to sandbox; None is the provider's.
        resources: What the sandbox has, in the vendor's words.
    """

    id: str
    labels: Mapping[str, str]
    state: SandboxState = "running"
    created_at: float | None = None
    expires_at: float | None = None
    isolation: Isolation | None = None
    resources: Mapping[str, str] = field(default_factory=dict[str, str])


class Vendor(Protocol[H]):
    """A vendor's client for one account. ``H`` is what the client needs to use a sandbox that runs.

    Every call is bounded in time and raises agenthost's errors only: see Calls.
    """

    # Whether the vendor itself refuses a second sandbox of the same name, with NameTakenError from
    # ``create``.
    names_are_unique: bool

    async def create(self, spec: SandboxSpec, labels: Mapping[str, str]) -> H:
        """Make a sandbox with a server-side end at ``spec.max_lifetime``. Called once, never cancelled.

        Raises:
            NameTakenError: The name belongs to another.
            LifetimeLimitError: The account's plan allows less.
            ProviderError: With the outcome ``unknown`` where it may have been made.
        """
        ...

    def find(self, labels: Mapping[str, str]) -> AsyncIterator[Found]:
        """Yield every sandbox that has these labels, paused ones too, newest first.

        agenthost's own label of the creation has whole seconds, and cannot order two of one second.
        """
        ...

    async def look_up(self, sandbox_id: str) -> Found:
        """Return one sandbox. Never resumes it. Raises SandboxNotFoundError."""
        ...

    async def connect(self, found: Found) -> H:
        """Return the handle of a sandbox that runs. Never moves its end."""
        ...

    def id_of(self, handle: H) -> str:
        """Return the vendor's id."""
        ...

    async def kill(self, sandbox_id: str) -> None:
        """End a sandbox. No error where there is none."""
        ...

    async def put_files(self, handle: H, directory: str, files: Mapping[str, bytes]) -> None:
        """Write files into one directory, which is made, of mode 0700, where it is missing."""
        ...

    async def run(self, handle: H, argv: Sequence[str], *, env: Mapping[str, str]) -> Running:
        """Start a program with streams and without a pty."""
        ...

    async def aclose(self) -> None:
        """Close the client. Ends no sandbox. Idempotent."""
        ...


AnyVendor: TypeAlias = Vendor[Any]
V = TypeVar("V", bound=AnyVendor)


class CloudProvider(GuestProvider, Generic[V]):
    """A provider on a Vendor. See docs/write-an-adapter.md.

    Attributes:
        home, workdir: Absolute paths inside; ``workdir`` is that of a spec that names none.
        user_is_root: Whether programs run as uid 0.
        longest: Seconds of the longest lifetime at this vendor.
        options: The ``provider_options`` that are known.
        label_rule: What the vendor accepts as a label; None is anything.
        prices: What the vendor charges, for ``agenthost doctor``; None where that is not known.
        slow_client: Whether the client takes seconds to import: ``agenthost providers`` then asks nothing.
        making: Seconds that making one sandbox may take. See make_once.
        looks: Seconds before each look for a sandbox whose making was not answered.
    """

    home: ClassVar[str]
    workdir: ClassVar[str] = "/workspace"
    user_is_root: ClassVar[bool] = False
    longest: ClassVar[float]
    options: ClassVar[tuple[str, ...]] = ()
    label_rule: ClassVar[LabelRule | None] = None
    prices: ClassVar[Prices | None] = None
    slow_client: ClassVar[bool] = False
    making: float = MAKING
    looks: Sequence[float] = LOOKS

    _vendor: V | None = None
    _closed = False

    @abstractmethod
    def make_vendor(self) -> V:
        """Return a new client of the vendor. Called before the first call, and again after ``connect``."""

    @property
    def vendor(self) -> V:
        """The vendor's client.

        Raises:
            ProviderError: The provider is closed.
            UnsupportedError: On trio, where the client works on asyncio alone.
        """
        self.check_loop()
        if self._closed:
            raise ProviderError(f"the {self.name} provider is closed: open another one")
        if self._vendor is None:
            self._vendor = self.make_vendor()
        return self._vendor

    async def connect(self) -> Self:
        """Open the provider. See GuestProvider.connect."""
        connected = await super().connect()
        self._closed = False
        return connected

    @property
    def boot_dir(self) -> str:
        """The directory of the guest."""
        return f"{self.home}/.agenthost"

    def backend(self, known: SandboxInfo, handle: Any, boot: Boot | None = None) -> CloudBackend[V]:
        """Return the backend of a sandbox. Override for a subclass with more abilities."""
        return CloudBackend(self, known, handle, boot)

    def check(self, spec: SandboxSpec) -> None:
        """Refuse what no cloud can make. An adapter refuses more, and calls this."""
        refuse_options(spec, self.name, self.options)
        if spec.max_lifetime is not None and spec.max_lifetime > self.longest:
            raise UnsupportedError(
                f"max_lifetime={spec.max_lifetime:g}: the {self.name} provider allows "
                f"{self.longest / 3600:g} hours at most"
            )
        check_allowed_hosts(spec.network)
        refuse_unreachable(spec.inject, spec.network)
        SandboxRecord.of(spec, self.name).to_labels(self.label_rule)

    def check_made(self, spec: SandboxSpec, handle: Any) -> None:
        """Refuse a sandbox that the vendor made otherwise than was asked for: it is ended then."""

    def layout(self, spec: SandboxSpec) -> GuestLayout:
        """Return where things are inside. The labels of a sandbox that exists state its workdir.

        An adapter whose sandboxes differ in this returns a ``bootstrap_layout`` of its own.
        """
        workdir = spec.workdir or SandboxRecord(spec.name or "", self.name, spec.labels).workdir
        layout = bootstrap_layout(
            self.boot_dir,
            home=self.home,
            workdir=workdir or self.workdir,
            isolation=self.capabilities.isolation,
            user_is_root=self.user_is_root,
        )
        port = number_in(spec.labels, PORT_LABEL)  # ``resolve`` has chosen one
        return layout if port is None else replace(layout, port=int(port))

    async def make(self, spec: SandboxSpec, boot: Boot) -> Backend:
        """Make a sandbox, once."""
        vendor, record = self.vendor, SandboxRecord.of(spec, self.name)
        labels = record.to_labels(self.label_rule)
        mine = self._encoded({NAME_LABEL: record.name, NONCE_LABEL: spec.labels[NONCE_LABEL]})
        namesakes = self._encoded({NAME_LABEL: record.name})
        if not vendor.names_are_unique and await _first(vendor.find(namesakes)) is not None:
            raise NameTakenError(f"a sandbox named {record.name} exists already")

        handles: dict[str, Any] = {}
        seen: dict[str, Found] = {}

        async def create() -> str:
            handle = await vendor.create(spec, labels)
            handles[vendor.id_of(handle)] = handle
            return vendor.id_of(handle)

        async def find() -> str | None:
            found = await _first(vendor.find(mine))
            if found is None:
                return None
            seen[found.id] = found
            return found.id

        def backend_of(sandbox_id: str) -> CloudBackend[V]:
            info = self.info_of(Found(id=sandbox_id, labels=labels))
            return self.backend(info, handles[sandbox_id], boot)

        async def finish(sandbox_id: str) -> None:
            if sandbox_id not in handles:  # its answer was lost
                handles[sandbox_id] = await vendor.connect(seen[sandbox_id])
            self.check_made(spec, handles[sandbox_id])
            backend = backend_of(sandbox_id)
            if spec.lease is not None and isinstance(backend, SupportsLease):
                await backend.extend(spec.lease)

        return backend_of(
            await make_once(
                f"sandbox {record.name}",
                create=create,
                find=find,
                end=vendor.kill,
                finish=finish,
                within=self.making,
                looks=self.looks,
            )
        )

    async def reach(self, sandbox_id: str) -> Backend:
        """Return a sandbox that exists. A paused one stays paused."""
        return self.backend(self.info_of(await self.vendor.look_up(sandbox_id)), None)

    async def list(self, labels: Mapping[str, str] | None = None) -> AsyncGenerator[SandboxInfo]:
        """Yield the account's sandboxes that agenthost made, newest first."""
        wanted = self._encoded({**(labels or {}), PROVIDER_LABEL: self.name})
        infos: list[SandboxInfo] = []
        async for found in self.vendor.find(wanted):
            try:
                infos.append(self.info_of(found))
            except SandboxNotFoundError:
                continue  # another program's, with our label
        for info in sorted(infos, key=lambda info: info.created_at or 0, reverse=True):
            yield info

    async def close_clients(self) -> None:
        """Close the vendor's client."""
        self._closed = True
        vendor, self._vendor = self._vendor, None
        if vendor is not None:
            await vendor.aclose()

    def info_of(self, found: Found) -> SandboxInfo:
        """Return what is known of a sandbox.

        Raises:
            SandboxNotFoundError: agenthost did not make it.
        """
        record = SandboxRecord.from_labels(found.labels, self.label_rule)
        if record is None:
            raise SandboxNotFoundError(f"sandbox {found.id} was not made by agenthost")
        return SandboxInfo(
            id=found.id,
            name=record.name,
            provider=self.name,
            state=found.state,
            labels=record.labels,
            # A vendor may state when a sandbox was resumed or paused, instead of its creation and end.
            created_at=found.created_at if record.created is None else record.created,
            expires_at=record.end if found.expires_at is None else found.expires_at,
            isolation=found.isolation or self.capabilities.isolation,
            resources=found.resources,
        )

    def _encoded(self, labels: Mapping[str, str]) -> dict[str, str]:
        return dict(labels) if self.label_rule is None else self.label_rule.encode(labels)


class CloudBackend(Generic[V]):
    """One sandbox of a cloud, made by this process or found by its id."""

    def __init__(
        self, provider: CloudProvider[V], known: SandboxInfo, handle: Any, boot: Boot | None = None
    ) -> None:
        self.provider = provider
        self.vendor = provider.vendor
        self.known = known
        self._handle = handle
        self._boot = boot
        self._carrier: DialCarrier | None = None
        self._dialer: HttpDialer | None = None
        self._seen = time.time(), time.monotonic()  # one moment on both clocks: the first may be set

    async def boot(self) -> None:
        """Put the guest's files and run the bootstrap.

        Raises:
            BootstrapError: The guest did not start, or not in time; the message names what is missing.
            SandboxGoneError: The sandbox has ended meanwhile.
        """
        boot, handle, name = self._boot, self._handle, self.known.name
        assert boot is not None
        assert handle is not None
        directory = self._layout.boot_dir
        workdir = str(boot.config["workdir"])
        files = {**bootstrap_files(boot), mark(self.known.labels[NONCE_LABEL]): b""}
        argv = prepare_command(workdir, directory, bootstrap_command(boot, directory))
        env = {
            name: value
            for name, value in cast("Mapping[str, str]", boot.config["env"]).items()
            if _INSTALLERS.match(name)
        }
        bake = f"agenthost bake {self.provider.name}" if self.provider.capabilities.images else None
        bootstrap = Bootstrap(name, bake=bake, on_progress=boot.on_progress)
        within = SECONDS if boot.needs_sdk else _START
        code, stderr = 1, b""
        with anyio.move_on_after(within) as scope:
            try:
                await self.vendor.put_files(handle, directory, files)
                running = await self.vendor.run(handle, argv, env=env)
                try:
                    while data := await running.receive():
                        bootstrap.feed(data)
                    code, stderr = await running.wait(), running.stderr
                finally:
                    await running.aclose()
            except (ProviderError, SandboxNotFoundError, OSError) as error:
                self.refuse_unless_running(await self.info())
                raise ProviderError(f"starting the guest in sandbox {name}: {error}") from error
        if scope.cancelled_caught:
            hint = f" `{bake}` makes an image that starts faster." if bake else ""
            raise BootstrapError(f"the guest of sandbox {name} was not started within {within:g} s.{hint}")
        bootstrap.finish(code, stderr)

    async def dial(self) -> Carrier:
        """Start a ``dial`` program, or dial the guest's port where the layout has one.

        Raises:
            SandboxGoneError: The sandbox has ended, or its guest has.
            SandboxPausedError: The sandbox is paused.
            ProviderError: The vendor did not start it; another dial may succeed.
            OSError: The port cannot be reached; another dial may succeed.
        """
        if (port := self._layout.port) is not None:
            return await self._dial_port(port)
        if self._carrier is not None and self._carrier.refused:
            raise SandboxGoneError(
                f"the guest of sandbox {self.known.name} has ended, its sandbox was restarted"
            )
        handle = self._handle or await self.reached()
        try:
            # A login shell reads the profiles at home, which an agent may have written.
            directory = self._layout.boot_dir
            running = await self.vendor.run(handle, dial_command(directory), env={"HOME": directory})
        except (ProviderError, SandboxGoneError, SandboxNotFoundError) as error:
            self._handle = None  # what the handle holds, an address or a token, may have changed
            self.refuse_unless_running(await self.info())
            raise ProviderError(str(error)) from error
        self._carrier = DialCarrier(running)
        return self._carrier

    async def info(self) -> SandboxInfo:
        """Ask the vendor. A sandbox that the vendor no longer has is ``ended``, with what was known of it."""
        if self.known.state != "ended":
            try:
                self.known = self.provider.info_of(await self.vendor.look_up(self.known.id))
            except SandboxNotFoundError:
                self.known = replace(self.known, state="ended")
        return self.known

    async def terminate(self) -> None:
        """End the sandbox. Idempotent."""
        await self.vendor.kill(self.known.id)
        self.known = replace(self.known, state="ended")

    async def reached(self) -> Any:
        """Return the handle of a sandbox that runs.

        Raises:
            SandboxGoneError: The sandbox has ended.
            SandboxPausedError: The sandbox is paused.
        """
        # Asked first: a vendor's connect may resume a paused sandbox.
        self.refuse_unless_running(await self.info())
        if self._handle is None:
            try:
                self._handle = await self.vendor.connect(await self.vendor.look_up(self.known.id))
            except SandboxNotFoundError as error:  # the sandbox has ended between the two calls
                raise SandboxGoneError(f"sandbox {self.known.name} has ended") from error
        return self._handle

    def lifetime_left(self) -> float:
        """Return the seconds until the end of the sandbox's lifetime. Raises ProviderError where unknown."""
        end = SandboxRecord(self.known.name, self.provider.name, self.known.labels).end
        if end is None:
            raise ProviderError(
                f"the labels of sandbox {self.known.name} do not state when its lifetime ends"
            )
        wall, steady = self._seen
        return end - wall - (time.monotonic() - steady)

    def lease(self) -> float | None:
        """Return the seconds of the sandbox's lease, None where it has none."""
        return number_in(self.known.labels, LEASE_LABEL)

    async def _dial_port(self, port: int) -> Carrier:
        if self._dialer is None:

            async def endpoint() -> Endpoint:
                assert isinstance(self, SupportsPorts)
                return await self.endpoint(port)

            self._dialer = HttpDialer(endpoint, guest_key=self.provider.guest_key(self.known))
        return await self._dialer.dial()

    @property
    def _layout(self) -> GuestLayout:
        return self.provider.layout(SandboxSpec(name=self.known.name, labels=self.known.labels))

    def refuse_unless_running(self, info: SandboxInfo) -> None:
        """Raise SandboxGoneError or SandboxPausedError for a sandbox that does not run."""
        if info.state == "ended":
            raise SandboxGoneError(f"sandbox {info.name} has ended")
        if info.state == "paused":
            raise SandboxPausedError(f"sandbox {info.name} is paused: resume it first")


async def _first(found: AsyncIterator[Found]) -> Found | None:
    """Return the first of what a vendor finds. trio warns of a generator that is not closed."""
    try:
        return await anext(found, None)
    finally:
        if isinstance(found, AsyncGenerator):
            await found.aclose()


def mark(nonce: str) -> str:
    """Return the name of the file that states for which sandbox a boot directory was made."""
    return f"made-for-{nonce}"
