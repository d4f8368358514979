"""Deliver every row three times, shuffled over the nights and over six kinds of source, and kill the nights.

Rows come by files (some delivered twice, under two names), a log that rotates, a PostgreSQL table, an HTTP API, a Redis
stream, a NATS stream and a Kafka topic; some of a row's deliveries lack its target, which another one brings. Nights
are killed (SIGKILL) at random moments, then run until one gets through. In the end every row that was delivered is
accounted for once: learned or held out, its other deliveries duplicates, none rejected, none waiting.

Needs servers: PostgreSQL, Redis and NATS with JetStream on this machine; Kafka's protocol is spoken by librdkafka's
mock cluster, which this process hosts.
"""

from __future__ import annotations

import asyncio
import csv
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from nightfit.config import load
from nightfit.known import Segment
from nightfit.store import Lineage, Store
from nightfit.verify import verify
from stress.table import Dose, Result, chance

Row = dict[str, Any]

CONFIG = """name = "p"
target = "y"
key = "id"
label_wait = "9999d"
[gate]
min_rows = 1000000
[models.linear]
"""
"""The gate is kept out: a night that it refuses is rightly not accounted for yet."""

POSTGRESQL = "postgresql+psycopg://postgres@127.0.0.1/test"
REDIS = "redis://127.0.0.1:6379/0"
NATS = "nats://127.0.0.1:4222"

COLUMNS = ("id", "x", "c", "y")

WHOLE, AT_WORK = 0.7, 0.9
"""Shares of further deliveries that have a target, and of kills that come after the imports."""


class Sender(Protocol):
    """A place that rows can be delivered to; `config` is its `[[sources]]` table."""

    config: str

    def send(self, rows: Sequence[Row]) -> None:
        """Deliver rows."""


@dataclass
class Files:
    """A folder of CSV files, of which every third is delivered a second time under another name."""

    folder: Path
    n_files: int = 0
    n_again: int = 0
    """Rows that the second copies delivered again."""
    config: str = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.config = f'url = "{self.folder}"\nname = "files"'

    def send(self, rows: Sequence[Row]) -> None:
        """Write a file, as exports are: whole."""
        path = self.folder / f"{self.n_files:04d}.csv"
        with path.with_suffix(".tmp").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        path.with_suffix(".tmp").replace(path)
        if self.n_files % 3 == 0:
            shutil.copy(path, path.with_name(f"{path.stem}-again.csv"))
            self.n_again += len(rows)
        self.n_files += 1


@dataclass
class Log:
    """A log of JSON lines that is renamed now and then."""

    path: Path
    draw: random.Random
    n_rotations: int = 0
    config: str = field(init=False)

    def __post_init__(self) -> None:
        self.path.touch()
        self.config = f'url = "{self.path}"\nrotated = "{self.path}.*"\nname = "log"'

    def send(self, rows: Sequence[Row]) -> None:
        """Append, and rotate in the middle of it at times."""
        for i, row in enumerate(rows):
            if i == len(rows) // 2 and self.draw.random() < 1 / 3:
                self.path.rename(f"{self.path}.{self.n_rotations:04d}")
                self.n_rotations += 1
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")


@dataclass
class Table:
    """A table of a PostgreSQL database."""

    url: str
    table: str
    config: str = field(init=False)

    def __post_init__(self) -> None:
        import sqlalchemy as sa

        self.engine = sa.create_engine(self.url)
        with self.engine.begin() as connection:
            connection.exec_driver_sql(
                f"CREATE TABLE {self.table} (n serial PRIMARY KEY, id int, x float8, c text, y int)"
            )
        self.config = f'url = "{self.url}"\ntable = "{self.table}"\ncursor = "n"\nname = "table"'

    def send(self, rows: Sequence[Row]) -> None:
        """Insert rows."""
        import sqlalchemy as sa

        columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in COLUMNS]
        with self.engine.begin() as connection:
            connection.execute(sa.insert(sa.table(self.table, *columns)), [dict(row) for row in rows])

    def close(self) -> None:
        """Drop the table."""
        with self.engine.begin() as connection:
            connection.exec_driver_sql(f"DROP TABLE {self.table}")
        self.engine.dispose()


class Api:
    """An API of JSON over GET, in pages of 25, whose `since` is inclusive."""

    def __init__(self) -> None:
        self.records: list[Row] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                found = [record for record in list(api.records) if record["seq"] >= int(asked.get("since", 0))]
                start = 25 * (int(asked.get("page", 1)) - 1)
                body = json.dumps({"items": found[start : start + 25]}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.config = (
            f'url = "http://127.0.0.1:{self.server.server_port}/rows"\nrecords = "items"\npages = "number"\n'
            'cursor = "seq"\nsince = "since"\nname = "api"'
        )

    def send(self, rows: Sequence[Row]) -> None:
        """Append records; a few share one number."""
        for row in rows:
            self.records.append({**row, "seq": 1 + len(self.records) // 3})

    def close(self) -> None:
        """Stop serving."""
        self.server.shutdown()
        self.server.server_close()


class RedisStream:
    """A Redis stream."""

    def __init__(self, url: str, stream: str) -> None:
        import redis

        self.client, self.stream = redis.Redis.from_url(url), stream
        self.config = f'url = "{url}"\nstream = "{stream}"\nname = "redis"\noptional = true'

    def send(self, rows: Sequence[Row]) -> None:
        """Add entries."""
        for row in rows:
            self.client.xadd(self.stream, {name: "" if value is None else value for name, value in row.items()})

    def close(self) -> None:
        """Delete the stream."""
        self.client.delete(self.stream)
        self.client.close()


class NatsStream:
    """A JetStream stream."""

    def __init__(self, url: str, stream: str) -> None:
        self.url, self.stream = url, stream
        self._do("add_stream", name=stream, subjects=[f"{stream}.rows"])
        self.config = f'url = "{url}"\nstream = "{stream}"\nname = "nats"'

    def _do(self, what: str, *arguments: object, **named: object) -> None:
        import nats

        async def done() -> None:
            client = await nats.connect(self.url)
            await getattr(client.jetstream(), what)(*arguments, **named)
            await client.close()

        asyncio.run(done())

    def send(self, rows: Sequence[Row]) -> None:
        """Publish messages."""
        for row in rows:
            self._do("publish", f"{self.stream}.rows", json.dumps(row).encode())

    def close(self) -> None:
        """Delete the stream."""
        self._do("delete_stream", self.stream)


class KafkaTopic:
    """A topic of a mock cluster in this process, which speaks the protocol over a socket."""

    def __init__(self, topic: str) -> None:
        from confluent_kafka import Producer

        self.producer, self.topic = Producer({"test.mock.num.brokers": 1, "log_level": 0}), topic
        (broker,) = self.producer.list_topics(timeout=10).brokers.values()
        self.config = f'url = "kafka://{broker.host}:{broker.port}/{topic}"\nname = "kafka"'

    def send(self, rows: Sequence[Row]) -> None:
        """Produce messages."""
        for row in rows:
            self.producer.produce(self.topic, json.dumps(row).encode())
        self.producer.flush(30)

    def close(self) -> None:
        """Let the cluster go with this process."""


@dataclass
class Report:
    """What was done, and what was found wrong."""

    nights: int = 0
    kills: int = 0
    reruns: int = 0
    delivered: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Stress:
    """Deliver, kill and run on, night after night."""

    def __init__(self, root: Path, senders: dict[str, Sender], *, seed: int) -> None:
        self.root, self.senders, self.draw = root, senders, random.Random(seed)  # noqa: S311
        self.report, self.night_s = Report(), 4.0
        tables = "".join(f"[[sources]]\n{sender.config}\n" for sender in senders.values())
        (root / "n.toml").write_text(CONFIG.replace("[gate]", tables + "[gate]"))

    def run(self, n_nights: int, n_rows: int, n_kills: int) -> Report:
        """Go through the nights; return what came of them."""
        started = time.monotonic()
        plan = self._plan(n_nights, n_nights * n_rows)
        for night, by_source in enumerate(plan):
            self.report.nights += 1
            for name, rows in by_source.items():
                self.senders[name].send(rows)
                self.report.delivered[name] += len(rows)
            for _ in range(n_kills * (night + 1) // n_nights - n_kills * night // n_nights):
                self._kill()
            self._runs_on(night)
        self._check(n_nights * n_rows)
        self.report.seconds = time.monotonic() - started
        return self.report

    def _plan(self, n_nights: int, n: int) -> list[dict[str, list[Row]]]:
        """Say which rows come when, and by which source: each three times, at least once with its target."""
        nights: list[dict[str, list[Row]]] = [{} for _ in range(n_nights)]
        for key in range(n):
            x = round(self.draw.gauss(0, 1), 3)
            row = {"id": key, "x": x, "c": self.draw.choice("abc"), "y": int(x + self.draw.gauss(0, 0.5) > 0)}
            has_target = self.draw.sample([True, self.draw.random() < WHOLE, self.draw.random() < WHOLE], 3)
            for whole in has_target:
                by_source = self.draw.choice(nights).setdefault(self.draw.choice(list(self.senders)), [])
                by_source.append(row if whole else {**row, "y": None})
        for rows in (rows for night in nights for rows in night.values()):
            self.draw.shuffle(rows)
        return nights

    def _train(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "nightfit", "train", "--config", "n.toml", "--device", "cpu"]
        return subprocess.Popen(command, cwd=self.root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def _kill(self) -> None:
        """Start a night and kill it at a random moment, mostly after its imports."""
        process = self._train()
        staging, deadline = self.root / "checkpoints" / "p" / ".staging", time.monotonic() + 60
        before = set(staging.glob("*"))
        if self.draw.random() < AT_WORK:
            while set(staging.glob("*")) <= before and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(self.draw.uniform(0, self.night_s))
        else:
            time.sleep(self.draw.uniform(0, 2))
        process.kill()
        process.communicate()
        self.report.kills += process.returncode < 0

    def _runs_on(self, night: int) -> None:
        process = self._train()
        staging = self.root / "checkpoints" / "p" / ".staging"
        while not list(staging.glob("*")) and process.poll() is None:
            time.sleep(0.001)
        begun = time.monotonic()
        said = process.communicate()[1].decode(errors="replace").strip()
        self.night_s = time.monotonic() - begun
        if process.returncode:
            self.report.wrong.append(f"night {night + 1} ended with {process.returncode}: {said[-500:]}")

    @property
    def lineage(self) -> Lineage:
        """The model's versions."""
        config = load(self.root / "n.toml")
        return Store(config.store).pipeline(config.name).lineage("linear")

    def _check(self, n_rows: int) -> None:
        """Compare what is accounted for with what was delivered."""
        lineage, wrong = self.lineage, self.report.wrong
        wrong += [finding.message for finding in verify(lineage) if finding.level == "error"]
        head = lineage.head()
        if head is None:
            wrong.append("there is no version")
            return
        ancestry, sums, waiting, keys = lineage.ancestry(head), Counter[str](), 0, set[int]()
        for manifest in reversed(ancestry):
            if not manifest.rows.conserved(waiting):
                wrong.append(f"version {manifest.version} does not conserve its rows: {manifest.rows}")
            waiting = manifest.rows.pending
            sums.update(asdict(manifest.rows))
            keys.update(Segment.open(lineage.segments.file(manifest.segments[0])).keys.tolist())
        files = self.senders.get("files")
        n_read = self.report.delivered.total() + (files.n_again if isinstance(files, Files) else 0)
        found = {name: sums[name] for name in ("read", "rejected", "excluded")}
        found |= {"used": sums["learned"] + sums["held_out"], "pending": waiting, "keys": len(keys)}
        wanted = {"read": n_read, "rejected": 0, "excluded": 0, "used": n_rows, "pending": 0, "keys": n_rows}
        if found != wanted:
            wrong.append(f"accounts for {found}, however {wanted} is what was delivered")


@contextmanager
def senders(root: Path, draw: random.Random) -> Iterator[dict[str, Sender]]:
    """Open every kind of source, and remove what was made when all is over."""
    name = f"stress_{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        opened: dict[str, Sender] = {"files": Files(root / "in"), "log": Log(root / "app.jsonl", draw)}
        opened["table"] = stack.enter_context(closing(Table(POSTGRESQL, name)))
        opened["api"] = stack.enter_context(closing(Api()))
        opened["redis"] = stack.enter_context(closing(RedisStream(REDIS, name)))
        opened["nats"] = stack.enter_context(closing(NatsStream(NATS, name)))
        opened["kafka"] = stack.enter_context(closing(KafkaTopic(name)))
        yield opened


def stress(root: Path, *, seed: int, nights: int, rows: int, kills: int) -> Report:
    """Run the stress in a folder."""
    with senders(root, chance(seed, "senders")) as opened:
        return Stress(root, opened, seed=seed).run(nights, rows, kills)


def run(seed: int, dose: Dose) -> list[Result]:
    """Deliver by every kind of source, and kill the nights."""
    nights, rows, kills = (30, 40, 60) if dose == "full" else (3, 20, 2)
    with tempfile.TemporaryDirectory(prefix="nightfit-sources-") as folder:
        report = stress(Path(folder), seed=seed, nights=nights, rows=rows, kills=kills)
    n = report.delivered.total()
    return [
        Result(
            f"{nights} nights, {n:,} deliveries of {nights * rows:,} rows by {len(report.delivered)} kinds of source, "
            f"{report.kills} kills",
            "every row accounted for once",
            "; ".join(report.wrong) or f"every row, in {report.seconds:.0f} s",
            ok=not report.wrong,
        )
    ]
