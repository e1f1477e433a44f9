"""One container: a nats-server that is started, probed, restarted with back-off, and ended with a grace period."""

import asyncio
import contextlib
import re
import signal
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bot.lab.binaries import SUPPORTED_VERSIONS, BinaryUnavailable, nats_server_binary
from bot.lab.kubernetes.environment import NoSuchValue, environment, expanded
from bot.lab.kubernetes.objects import Raw, parts, stamp
from bot.lab.kubernetes.probes import ProbeKind, Prober
from bot.lab.kubernetes.sandbox import CANNOT_ENTER, PROGRAM, enter, reap, send
from bot.lab.kubernetes.store import Store
from bot.lab.kubernetes.volumes import Volumes
from bot.lab.process import LabError, watch_over

FIRST_BACK_OFF: Final = 10.0
"""Seconds before the second restart; each further one waits twice as long (kubelet `backOffPeriod`)."""
LONGEST_BACK_OFF: Final = 300.0
FORGIVEN_AFTER: Final = 600.0
"""Seconds of running after which earlier crashes are forgotten."""
IMAGE_RETRY: Final = 5.0
"""Seconds until a missing image is looked for again; a real kubelet doubles them from 10."""

_NATS_IMAGE: Final = re.compile(r"(?:.*/)?nats(?:-server)?:(\d+\.\d+\.\d+)(?:-[\w.-]+)?")

Tell = Callable[[str, str, str, str], None]
"""Records an event: type, reason, message, name of the container."""


@dataclass(slots=True)
class Surroundings:
    """What a container gets from its pod and node."""

    store: Store
    pod: Callable[[], Raw]
    """The pod as it is now."""
    address: str
    folder: Path
    volumes: Volumes
    tell: Tell
    changed: Callable[[], None]
    """Called when the pod's status has to be written anew."""
    first_back_off: float = FIRST_BACK_OFF


@dataclass(slots=True)
class _Run:
    """One life of the process."""

    binary: Path
    process: asyncio.subprocess.Process
    watch: asyncio.subprocess.Process
    id: str
    began: float
    started_at: str
    oom: bool = False
    probes: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])


class ContainerRunner:
    """Keeps one container running until `stop`."""

    def __init__(self, raw: Raw, around: Surroundings) -> None:
        self._raw = raw
        self._around = around
        self.name = str(raw["name"])
        self._waiting: Raw | None = {"reason": "ContainerCreating"}
        self._terminated: Raw | None = None
        self._last: Raw | None = None
        self._last_id = ""
        self._run: _Run | None = None
        self._started = False
        self._ready = False
        self._restarts = 0
        self._crashes = 0
        self._stopping = asyncio.Event()
        self._logs: list[Path] = []

    @property
    def pid(self) -> int | None:
        return self._run.process.pid if self._run else None

    @property
    def ready(self) -> bool:
        return self._run is not None and self._ready

    def log(self, *, previous: bool) -> str | None:
        """What the present or the previous process wrote; None where there is none."""
        if len(self._logs) < (2 if previous else 1):
            return None
        return self._logs[-2 if previous else -1].read_text(errors="replace")

    def status(self) -> Raw:
        """Its entry in `containerStatuses`."""
        state: Raw = {}
        if self._run is not None:
            state = {"running": {"startedAt": self._run.started_at}}
        elif self._waiting is not None:
            state = {"waiting": self._waiting}
        elif self._terminated is not None:
            state = {"terminated": self._terminated}
        image = str(self._raw["image"])
        identity = self._run.id if self._run else self._last_id
        return {
            "name": self.name,
            "state": state,
            "lastState": {"terminated": self._last} if self._last else {},
            "ready": self.ready,
            "restartCount": self._restarts,
            "image": image,
            "imageID": f"lab://{image}" if identity else "",
            **({"containerID": identity} if identity else {}),
            "started": self._run is not None and self._started,
        }

    async def run(self) -> None:
        """Returns after `stop`."""
        while not self._stopping.is_set():
            binary = await self._binary()
            if binary is None:
                await self._pause(IMAGE_RETRY)
                continue
            try:
                self._run = await self._start(binary)
            except NoSuchValue as error:
                self._wait_for("CreateContainerConfigError", str(error))
                await self._pause(IMAGE_RETRY)
                continue
            if self._stopping.is_set():
                self.kill()  # told to stop while it was being started
            lived = await self._live(self._run)
            if self._stopping.is_set():
                return
            await self._back_off(lived)

    async def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL where it is still there after `grace` seconds."""
        self._stopping.set()
        if self._run is not None:
            await self._end(self._run, grace)

    def kill(self, *, oom: bool = False) -> None:
        """SIGKILL, as the kernel's when memory is used up."""
        if self._run is None:
            raise LabError(f"container {self.name} does not run")
        self._run.oom = oom
        send(self._run.process, signal.SIGKILL)

    # Starting.

    async def _binary(self) -> Path | None:
        image, policy = str(self._raw["image"]), self._raw["imagePullPolicy"]
        found = _NATS_IMAGE.fullmatch(image)
        tell = self._around.tell
        if found is not None and (policy != "Never" or found[1] in SUPPORTED_VERSIONS):
            try:
                binary = await nats_server_binary(found[1])
            except BinaryUnavailable:
                found = None
            else:
                tell("Normal", "Pulled", f'Container image "{image}" already present on machine', self.name)
                return binary
        if policy == "Never":
            words = f'Container image "{image}" is not present with pull policy of Never'
            tell("Warning", "ErrImageNeverPull", words, self.name)
            tell("Warning", "Failed", "Error: ErrImageNeverPull", self.name)
            self._wait_for("ErrImageNeverPull", words)
            return None
        self._not_pulled(image)
        return None

    def _not_pulled(self, image: str) -> None:
        tell = self._around.tell
        if self._waiting is not None and self._waiting["reason"] in ("ErrImagePull", "ImagePullBackOff"):
            tell("Normal", "BackOff", f'Back-off pulling image "{image}"', self.name)
            tell("Warning", "Failed", "Error: ImagePullBackOff", self.name)
            self._wait_for("ImagePullBackOff", f'Back-off pulling image "{image}"')
            return
        words = f'rpc error: code = NotFound desc = failed to pull and unpack image "{image}": not found'
        tell("Normal", "Pulling", f'Pulling image "{image}"', self.name)
        tell("Warning", "Failed", f'Failed to pull image "{image}": {words}', self.name)
        tell("Warning", "Failed", "Error: ErrImagePull", self.name)
        self._wait_for("ErrImagePull", words)

    async def _start(self, binary: Path) -> _Run:
        around = self._around
        values = environment(around.store, around.pod(), self._raw, around.address)
        # All pods share the machine's ports, so each server has to be told its own address.
        arguments = ["--addr", around.address, *(expanded(str(a), values) for a in parts(self._raw, "args"))]
        log = around.folder / f"{self.name}-{self._restarts}.log"
        self._logs.append(log)
        process = await self._enter(binary, arguments, values, log)
        around.tell("Normal", "Created", f"Created container {self.name}", self.name)
        around.tell("Normal", "Started", f"Started container {self.name}", self.name)
        run = _Run(
            binary,
            process,
            await watch_over(process),
            f"lab://{uuid.uuid4().hex}",
            time.monotonic(),
            stamp(around.store.clock()),
        )
        self._waiting = self._terminated = None
        self._started = not self._raw.get("startupProbe")
        self._ready = self._started and not self._raw.get("readinessProbe")
        return run

    async def _live(self, run: _Run) -> float:
        """From start to end of one process, with its probes; returns how many seconds it lived."""
        self._around.changed()
        opened = asyncio.Event()
        if self._started:
            opened.set()
        run.probes = [
            asyncio.create_task(self._probe(run, kind, opened)) for kind in ProbeKind if self._raw.get(kind.field)
        ]
        try:
            code = await reap(run.process, run.watch)
        finally:
            for task in run.probes:
                task.cancel()
        await asyncio.gather(*run.probes, return_exceptions=True)
        if code == CANNOT_ENTER:
            raise LabError(f"this machine lets nobody make namespaces, which pods need: {self.log(previous=False)}")
        self._ended(run, code)
        return time.monotonic() - run.began

    def _ended(self, run: _Run, code: int) -> None:
        reason = "OOMKilled" if run.oom else "Completed" if code == 0 else "Error"
        self._run, self._ready, self._started = None, False, False
        self._last_id = run.id
        self._terminated = {
            "exitCode": code,
            "reason": reason,
            "startedAt": run.started_at,
            "finishedAt": stamp(self._around.store.clock()),
            "containerID": run.id,
        }
        self._around.changed()

    async def _back_off(self, lived: float) -> None:
        """Waits before the next start: not at all after a first crash."""
        self._last, self._terminated = self._terminated, None
        self._crashes = 0 if lived > FORGIVEN_AFTER else self._crashes + 1
        if self._crashes > 1:
            delay = min(self._around.first_back_off * 2 ** (self._crashes - 2), LONGEST_BACK_OFF)
            self._around.tell("Warning", "BackOff", "Back-off restarting failed container", self.name)
            pod = self._around.pod()["metadata"]
            where = f"{pod['name']}_{pod['namespace']}({pod['uid']})"
            words = f"back-off {delay:.0f}s restarting failed container={self.name} pod={where}"
            self._wait_for("CrashLoopBackOff", words)
            await self._pause(delay)
        self._restarts += 1

    # Probes.

    async def _probe(self, run: _Run, kind: ProbeKind, opened: asyncio.Event) -> None:
        if kind is not ProbeKind.STARTUP:
            await opened.wait()
        prober = Prober(self._raw[kind.field], self._raw, self._around.address)

        def failed(why: str) -> None:
            self._around.tell("Warning", "Unhealthy", f"{kind.value} probe failed: {why}", self.name)

        async def verdict(good: bool) -> bool:  # noqa: FBT001 - what a probe says is yes or no
            if kind is ProbeKind.READINESS:
                self._set_ready(good)
                return True
            if not good:
                words = f"Container {self.name} failed {kind.value.lower()} probe, will be restarted"
                self._around.tell("Normal", "Killing", words, self.name)
                await self._end(run, self._around.pod()["spec"]["terminationGracePeriodSeconds"])
                return False
            if kind is ProbeKind.STARTUP:
                self._started = True
                opened.set()
                self._set_ready(not self._raw.get("readinessProbe"))
            return kind is ProbeKind.LIVENESS

        await prober.watch(failed, verdict)

    def _set_ready(self, ready: bool) -> None:  # noqa: FBT001
        if ready is not self._ready or ready is False:
            self._ready = ready
            self._around.changed()

    # Ending.

    async def _end(self, run: _Run, grace: float) -> None:
        began = time.monotonic()
        await self._pre_stop(run, grace)
        grace = max(grace - (time.monotonic() - began), 0)
        send(run.process, signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                await run.process.wait()
        except TimeoutError:
            send(run.process, signal.SIGKILL)
            await run.process.wait()

    async def _pre_stop(self, run: _Run, grace: float) -> None:
        """Runs the hook of a container before its SIGTERM, within the grace period. Only nats-server itself can be run, as with `-sl=ldm=<pid file>`."""
        command = parts(self._raw, "lifecycle", "preStop", "exec", "command")
        if not command or not grace:
            return
        if Path(str(command[0])).name != Path(PROGRAM).name:
            words = f"Exec lifecycle hook ({command}) failed: the stand-in runs nats-server alone"
            self._around.tell("Warning", "FailedPreStopHook", words, self.name)
            return
        hook = await self._enter(run.binary, [str(word) for word in command[1:]], {}, self._logs[-1])
        try:
            async with asyncio.timeout(grace):
                await hook.wait()
        except TimeoutError:
            send(hook, signal.SIGKILL)
            await hook.wait()

    async def _enter(
        self, binary: Path, arguments: list[str], values: Mapping[str, str], log: Path
    ) -> asyncio.subprocess.Process:
        """Starts nats-server in the container's file system."""
        root = self._around.folder / self.name
        return await enter(root, binary, arguments, values, self._around.volumes.mounts(self._raw), log)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _wait_for(self, reason: str, message: str) -> None:
        self._waiting = {"reason": reason, "message": message}
        self._around.changed()
