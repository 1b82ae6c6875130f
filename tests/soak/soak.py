"""The rounds of a soak: threads that run scenarios, the audit after each round, and the report at the end.

The seed decides which scenarios each thread runs in which order, and what goes wrong with which request; how the
threads interleave is the machine's.
"""

from __future__ import annotations

import gc
import logging
import random
import threading
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from authority import Authority
from beside import Beside
from chaos import Chaos, Detour
from counts import Counts
from ledger import Verdict
from places import MinioPlace, PeerPlace, Place, ProxiedPlace
from scenarios import WEIGHTS, Turn, restart

THREADS = 4
ROUND = 25.0  # seconds
# What a round may store before it ends: the peer keeps it in memory, parts and objects.
MOST_BYTES = 1 << 30


class _Warnings(logging.Handler):
    """Hands what the library warns of to the ledgers."""

    def __init__(self, places: Sequence[Place]) -> None:
        super().__init__(logging.WARNING)
        self._places = places

    def emit(self, record: logging.LogRecord) -> None:
        for place in self._places:
            place.ledger.note(record.getMessage())


class Soak:
    """A soak with one seed. `minio` is MinIO's binary; None leaves MinIO out, as only a test of the soak may."""

    def __init__(self, seed: int, minio: str | None) -> None:
        self._seed = seed
        self._minio = minio
        self.counts = Counts()
        self.verdict = Verdict()
        self.broken: list[str] = []

    def run(self, seconds: float) -> int:
        """Rounds until the time is up; prints the report and returns the exit status."""
        end, number = time.monotonic() + seconds, 0
        with TemporaryDirectory() as folder, Beside(self._seed, self.counts, end) as beside:
            tls = Authority.make(Path(folder))
            while time.monotonic() < end and not self.broken:
                places = self.open(number, tls if number % 2 else None)
                try:
                    self.act(places, number, min(end, time.monotonic() + ROUND))
                    self.audit(places)
                finally:
                    for place in places:
                        place.close()
                number += 1
                print(f"round {number}: {self.counts['scenarios']} scenarios, {self.verdict}", flush=True)
        self.broken += beside.broken
        return self.report()

    def open(self, number: int, tls: Authority | None = None) -> list[Place]:
        seed = f"{self._seed}/{number}"
        places: list[Place] = [PeerPlace(Chaos(seed, self.counts), tls)]
        if self._minio is not None:
            places.append(MinioPlace(self._minio))
            places.append(ProxiedPlace(self._minio, Detour(seed, self.counts), tls))
        return places

    def act(self, places: list[Place], number: int, end: float, scenarios: int | None = None) -> None:
        """Runs scenarios on all threads until `end`, or `scenarios` on each, and returns when they have ended."""
        start = self.counts["bytes uploaded"]

        def work(thread: int) -> None:
            count = 0
            while time.monotonic() < end and count != scenarios and not self.broken:
                if self.counts["bytes uploaded"] - start > MOST_BYTES:
                    return
                self._run_one(places, f"{number}-{thread}-{count}")
                count += 1

        handler, logger = _Warnings(places), logging.getLogger("s3dlio")
        logger.addHandler(handler)
        logger.propagate = False
        try:
            threads = [threading.Thread(target=work, args=(thread,)) for thread in range(THREADS)]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)  # dropped writers say so, and are meant to be dropped
                for one in threads:
                    one.start()
                for one in threads:
                    one.join()
                gc.collect()
        finally:
            logger.removeHandler(handler)
            logger.propagate = True

    def _run_one(self, places: list[Place], name: str) -> None:
        dice = random.Random(f"{self._seed}/{name}")
        scenario = dice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        restartable = [one for one in places if isinstance(one, MinioPlace)]
        place = dice.choice(restartable if scenario is restart and restartable else places)
        turn = Turn(place, dice, self.counts, f"{scenario.__name__}-{name}")
        try:
            scenario(turn)
        except BaseException:
            passed = place.transcript(turn.name)
            self.broken.append(f"{turn.name} on {place.name}:\n{traceback.format_exc()}\n{passed}")
        self.counts.add("scenarios")

    def audit(self, places: list[Place]) -> None:
        """Asks the stores; their numbers are added to the soak's."""
        for place in places:
            place.settle()
            found = place.ledger.audit(place)
            for finding in found.findings:
                print(finding, flush=True)
                key = finding.partition(f"{place.name}: ")[2].partition(" ")[0].rstrip(":")
                print(place.transcript(key), flush=True)
            self.verdict.add(found)

    def report(self) -> int:
        """Prints what was done and found, the verdict last; the exit status."""
        done = self.counts["uploads"] > 0 and self.counts["downloads"] > 0
        if not done:
            self.broken.append("nothing was uploaded, or nothing downloaded: that proves nothing")
        for line in self.broken:
            print(line)
        self.counts.add("objects compared with what was written", self.verdict.objects)
        self.counts.add("bytes compared with what was written", self.verdict.bytes)
        for line in self.counts.lines():
            print(line)
        print(self.verdict, flush=True)
        return 0 if self.verdict.clean and not self.broken else 1
