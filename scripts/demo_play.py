"""The demo's story. See scripts/demo for how to call it."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from demo_world import COUNT, TARGET, DemoFailed, World, end_process, wait_for
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from keys.errors import CalyxError
from policies.fold.deployment import Deployment, Phase
from policies.fold.state import State
from policies.replay import Replay


class Stage:
    """Tells the story: a live table on a terminal, plain lines in a pipe."""

    def __init__(self, quiet: bool) -> None:
        self.console = Console(stderr=quiet)

    def say(self, text: str) -> None:
        """One line of the story."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def chapter(self, text: str) -> None:
        """A heading."""
        self.console.print()
        self.console.print(text, style="bold", highlight=False, markup=False)


class Play:
    """One performance."""

    def __init__(self, world: World, stage: Stage, stop_at: int | None) -> None:
        self.world = world
        self.stage = stage
        self.stop_at = stop_at
        self.reader: Replay | None = None
        self.labels: dict[str, str] = {}

    def state(self) -> State:
        """The ledger's state now."""
        if self.reader is None:
            self.reader = self.world.follow()
        return self.reader.sync()

    def set_up(self) -> None:
        """A ledger, a fleet in force, three versions, traffic."""
        world = self.world
        self.stage.chapter("A station is founded")
        world.settle()
        world.calyx("keys", "new", str(world.human_key))
        policy = str(Path(__file__).resolve().parent / "demo_policy.yaml")
        world.calyx(
            "init", "--human", "human", "--key", str(world.human_key), "--no-recovery", "--policy", policy,
            "--origin", "demo.station/calyx",
        )  # fmt: skip
        world.calyx("fleet", "propose", str(world.root / "fleet.json"), "--approve", "--yes")
        world.start_traffic()
        self.stage.say(
            f"{COUNT} hosts, one human key, and keys for CBO, CP14, CP18, CP19 and CP20, each in its own file"
        )

    def propose(self, directory: Path, what: str) -> str:
        """Ask for a change; the lease's id."""
        said = self.world.calyx_json("propose", TARGET, "--dir", str(directory), "--what", what, "--why", "the demo")
        lease = str(said["lease_id"])
        digest = self.state().ids[lease.lower()]
        self.labels.update(dict.fromkeys(self.state().leases[digest].after.values(), directory.name))
        self.stage.say(f"CBO proposes {lease}: {what}")
        return lease

    def approve(self, lease: str) -> None:
        """The human's key."""
        self.world.calyx("approve", lease, "--yes", "--key", str(self.world.human_key))
        self.stage.say(f"the human approves {lease}")

    def wait_for_agents(self, lease: str) -> None:
        """Until CP14 and CP18 have said what they have to say."""
        digest = self.state().ids[lease.lower()]

        def signed() -> bool:
            votes = self.state().leases[digest].ballot.votes
            return {"sentinel", "validator"} <= {vote.role for vote in votes}

        wait_for("CP14 and CP18", signed)
        self.stage.say("CP14 and CP18 have looked and sign")

    def deploy(self, version: str, what: str, *, fail_every: int = 0) -> Deployment:
        """A change under both keys, to its end, or to the tier where it is to be stopped."""
        self.stage.chapter(f"Version {version}: {what}")
        lease = self.propose(self.world.make_version(version, fail_every=fail_every), f"version {version}")
        with self.world.agents("cp14", "cp18"):
            self.approve(lease)
            self.wait_for_agents(lease)
            for step in self.world.calyx_json("check", lease)["steps"]:
                self.stage.say(f"  step {step['step']} ok: {step['title']}")
            stop_at = self.stop_at if version == "2" else None
            self.execute(lease, stop_at)
        return self.state().deployments[self.state().ids[lease.lower()]]

    def execute(self, lease: str, stop_at: int | None = None) -> int:
        """Run the executor until it is idle, or kill it at a tier."""
        digest = self.state().ids[lease.lower()]
        process = subprocess.Popen(
            self.world.command("executor", "run", "--until-idle"),
            env=self.world.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            self.watch(process, digest, stop_at)
        finally:
            if process.poll() is None:
                end_process(process)
        return process.returncode

    def watch(self, process: subprocess.Popen[str], digest: str, stop_at: int | None) -> None:
        """Show the rollout while the executor runs."""
        lines: list[str] = []
        reader = threading.Thread(target=lambda: self.listen(process.stdout, lines), daemon=True)
        reader.start()

        def frame() -> RenderableType:
            return self.table(self.state().deployments.get(digest), lines)

        if self.stage.console.is_terminal:
            with Live(frame(), console=self.stage.console, refresh_per_second=8, transient=False) as live:
                self.until_over(process, digest, stop_at, lambda: live.update(frame()))
        else:
            self.until_over(process, digest, stop_at, lambda: None)
        reader.join(timeout=5)

    def until_over(
        self, process: subprocess.Popen[str], digest: str, stop_at: int | None, refresh: Callable[[], None]
    ) -> None:
        """Until the executor ends; kill it when the tier is reached."""

        def over() -> bool:
            refresh()
            deployment = self.state().deployments.get(digest)
            if (
                stop_at is not None
                and deployment is not None
                and deployment.tier == stop_at
                and deployment.tier_applied
            ):
                process.send_signal(signal.SIGKILL)
                process.wait()
                self.stage.say(f"the executor is killed (SIGKILL) at {stop_at} %")
            return process.poll() is not None

        wait_for("the executor", over, 180)
        refresh()

    def listen(self, stream: IO[str] | None, lines: list[str]) -> None:
        """Take the executor's log in; tell it at once where there is no table."""
        for line in stream or ():
            text = line.rstrip()
            if "INSTANCE_" not in text and not self.stage.console.is_terminal:
                self.stage.say(f"  {text}")
            lines.append(text)

    def table(self, deployment: Deployment | None, lines: list[str]) -> RenderableType:
        """Instances and tiers as they are now."""
        if deployment is None:
            return Text("\n".join(["waiting for the claim", *lines[-4:]]))
        title = f"{deployment.lease.id}  {deployment.phase}"
        if deployment.tier:
            title += f"  {deployment.tier} %"
        table = Table(title=title, caption="\n".join(lines[-4:]), show_header=False, min_width=78)
        for _ in range(5):
            table.add_column()
        cells = [self.cell(deployment, name) for names in deployment.cohorts.values() for name in names]
        for start in range(0, len(cells), 5):
            table.add_row(*cells[start : start + 5])
        return table

    def cell(self, deployment: Deployment, name: str) -> str:
        """One instance."""
        if name in deployment.restored:
            return f"[yellow]{name} v{self.labels.get(deployment.before[name], '-')} back"
        if name in deployment.applied:
            return f"[green]{name} v{self.labels.get(deployment.after[name], '?')}"
        if name in deployment.intended:
            return f"[cyan]{name} …"
        return f"[dim]{name} v{self.labels.get(deployment.before[name], '-')}"

    def refusals(self) -> dict[str, str]:
        """Three leases that must not run, and the code of each refusal."""
        self.stage.chapter("Three leases that nobody may run")
        version = self.world.make_version("4")
        with self.world.agents("cp14", "cp18"):
            agents_only = self.propose(version, "only agents sign this one")
            self.wait_for_agents(agents_only)
            swapped = self.propose(self.world.make_version("5"), "its artifact is swapped after signing")
            self.approve(swapped)
            self.wait_for_agents(swapped)
        human_only = self.propose(self.world.make_version("6"), "only the human signs this one")
        self.approve(human_only)
        return {
            "human_only": self.refused_by_rule(human_only),
            "agents_only": self.refused_by_rule(agents_only),
            "swapped_artifact": self.refused_artifact(swapped),
        }

    def refused_by_rule(self, lease: str) -> str:
        """What `calyx check` says of a lease."""
        said = self.world.calyx_json("check", lease, expect=(1,))
        failed = next(step for step in said["steps"] if not step["ok"])
        self.stage.say(f"{lease} refused: rule two_key, step {failed['step']}: {failed['code']}: {failed['text']}")
        return str(failed["code"])

    def refused_artifact(self, lease: str) -> str:
        """Change a signed file in the object store, run the executor, and put the file back."""
        digest = self.state().ids[lease.lower()]
        state = self.state().leases[digest]
        path = self.world.home.objects / state.lease.artifact.sha256[:2] / state.lease.artifact.sha256[2:]
        whole = path.read_bytes()
        path.chmod(0o600)
        path.write_bytes(whole.replace(b'"app.py"', b'"bad.py"'))
        try:
            self.execute(lease)
        finally:
            path.write_bytes(whole)
            path.chmod(0o444)
        _, code, text = self.state().leases[digest].preflight[-1]
        if digest in self.state().deployments:
            raise DemoFailed("a swapped artifact was deployed")
        self.stage.say(f"{lease} refused: preflight: {code}: {text}")
        self.world.calyx(
            "deny", lease, "--yes", "--reason", "its artifact was swapped", "--key", str(self.world.human_key)
        )
        return str(code)


def perform(play: Play) -> dict[str, Any]:
    """The whole story, or as far as `--stop-at`; what came of it, read back from the ledger and the hosts."""
    world, stage = play.world, play.stage
    play.set_up()
    play.deploy("1", "arrives where nothing was")
    good = play.deploy("2", "a good change")
    if play.stop_at is not None:
        stage.say(f"services and traffic stay up; go on with: calyx executor run --home {world.root} --until-idle")
        return {"stopped": {"lease_id": good.lease.id, "tier": good.tier, "state": good.phase.value}}
    answers = world.serving()
    served = sum(1 for version in answers.values() if version == "2")
    stage.say(f"{served} instances answer with version 2")
    bad = play.deploy("3", "answers every third request with an error", fail_every=3)
    back = sum(1 for version in world.serving().values() if version == "2")
    took = None
    if bad.halted_at is not None and bad.rolled_back_at is not None:
        took = bad.rolled_back_at - bad.halted_at
    stage.say(f"halted at {bad.halted_tier} %, back in {took} s; {back} instances answer with version 2 again")
    refused = play.refusals()
    stage.chapter("The audit")
    report = world.calyx_json("audit", expect=(0, 1))
    stage.say(f"audit {'ok' if report['ok'] else 'FAILED'}: {report['size']} entries")
    result = {
        "good": {"outcome": good.phase.value, "instances": served},
        "bad": {"outcome": bad.phase.value, "tier": bad.halted_tier, "halt_to_restored_s": took},
        "refused": refused,
        "audit": {"ok": report["ok"], "size": report["size"]},
    }
    expected = (Phase.COMPLETED, COUNT, Phase.ROLLED_BACK, COUNT, True)
    if (good.phase, served, bad.phase, back, report["ok"]) != expected:
        raise DemoFailed(f"the story went another way: {json.dumps(result)}")
    return result


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description="The main job, played for real on this machine.")
    parser.add_argument("--home", type=Path, help="keep ledger, keys and hosts here")
    parser.add_argument("--stop-at", type=int, choices=[5, 25], help="kill the executor when version 2 is on this tier")
    parser.add_argument("--stop", action="store_true", help="end what --stop-at left up")
    parser.add_argument("--json", action="store_true", help="print the outcome as the last line")
    options = parser.parse_args()
    if (options.stop or options.stop_at) and options.home is None:
        parser.error("--stop and --stop-at need --home")
    return options


def main() -> int:
    """Play it."""
    options = parse()
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("CALYX_HOME", None)
    root = options.home
    if root is None:
        root = Path(tempfile.mkdtemp(prefix="calyx-demo-"))
        # What is remembered and kept of a home that will be gone is of no use to anyone.
        environment |= {"XDG_STATE_HOME": str(root / "state"), "XDG_CACHE_HOME": str(root / "cache")}
    world = World(root.resolve(), environment)
    stage = Stage(quiet=options.json)
    # A person who ends the demo wants its services ended too, whichever way they ask.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    keep_up = False
    try:
        if options.stop:
            world.read_notes()
            stage.say(f"ending services and traffic of {world.root}")
            return 0
        result = perform(Play(world, stage, options.stop_at))
        keep_up = options.stop_at is not None
        if options.json:
            sys.stdout.write(json.dumps(result) + "\n")
    except (DemoFailed, CalyxError) as error:
        sys.stderr.write(f"scripts/demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("scripts/demo: ended by hand\n")
        return 130
    else:
        return 0
    finally:
        if not keep_up:
            world.stop()
            if options.home is None:
                world.remove()


if __name__ == "__main__":
    raise SystemExit(main())
