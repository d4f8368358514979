"""How fast the default learner learns on a GPU: against the processor, against a plain loop, and against the floor.

Night 1 is small; night 2 has `--rows` rows of 16 numbers and 4 categories, staged on disk as a night's are, and is
learned whole by `Model.learn`, as `nightfit train` calls it: moments, replay, steps, memories. Printed beside it:

- the processor, on a night of fewer rows (time a row is flat from one block on), by one thread and by two;
- a plain loop on the same GPU: the same network under autograd, eagerly, with fused AdamW, all rows on the GPU from the
  start, the same number of steps and rows. Not counted against it: moments, replay's choice of rows, memories;
- the floor of a step: its bare matrix products captured in a graph; the bytes that any step must move, at the measured
  bandwidth; as many empty kernels as it has, captured in a graph;
- that the same night on both devices leads to the same log loss.

    python scripts/bench_gpu.py            # needs CUDA; --device cpu --rows 200000 tries the script without one
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from nightfit.batch import BLOCK_ROWS, Batch, Rows, stage
from nightfit.learners import arithmetic, steps
from nightfit.learners.base import MlpConfig
from nightfit.learners.deep import DeepLearner
from nightfit.learners.replay import Counts
from nightfit.metrics import row_losses
from nightfit.model import Model
from nightfit.schema import Schema
from nightfit.scorer import groups

N_NUM, N_CAT, N_WORDS, N_CLASSES = 16, 4, 50, 2


def schema() -> Schema:
    """Return the schema of the rows."""
    columns = {f"n{i}": "numeric" for i in range(N_NUM)} | {f"c{i}": "categorical" for i in range(N_CAT)}
    words = [f"w{i}" for i in range(N_WORDS)]
    known = Schema().with_columns(columns).with_categories({f"c{i}": words for i in range(N_CAT)})  # type: ignore[arg-type]
    return known.with_classes([str(k) for k in range(N_CLASSES)])


def batches(known: Schema, n: int, seed: int) -> Iterator[Batch]:
    """Yield n rows whose class depends on products of numbers and on a category; 2 % of two numbers are missing."""
    random = np.random.default_rng(seed)
    firsts = np.array([min(c.categories.values()) for c in known.categorical])
    for start in range(0, n, BLOCK_ROWS):
        m = min(BLOCK_ROWS, n - start)
        x = random.standard_normal((m, N_NUM))
        words = random.integers(0, N_WORDS, (m, N_CAT))
        odds = x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) + x[:, 3] * (words[:, 0] < N_WORDS // 2) - 0.5 * x[:, 4]
        y = (odds + random.logistic(size=m) / 2 > 0).astype(np.int64)
        x[:, :2][random.random((m, 2)) < 0.02] = np.nan  # noqa: PLR2004 - 2 % are missing
        keys = random.integers(0, 2**63, m).astype(np.uint64)
        yield Batch(keys, x, (words + firsts).astype(np.int32), y)


def model_on(device: str, batch_size: int) -> Model:
    """Return a model after a first night, so that its memories are full."""
    model = Model.fresh("mlp", MlpConfig(batch_size=batch_size), device=device)
    known = schema()
    model.grow(known)
    model.learn(Rows(batches(known, 50_000, 1)), seed=0)
    wait(device)
    return model


def wait(device: str) -> None:
    """Wait for what is queued."""
    if device != "cpu":
        torch.cuda.synchronize()


def seconds(device: str, what: Callable[[], object]) -> float:
    """Return how long something takes, what it queues included."""
    wait(device)
    started = time.perf_counter()
    what()
    wait(device)
    return time.perf_counter() - started


@contextmanager
def patched(of: object, name: str, value: object) -> Iterator[None]:
    """Put something in place of another thing for a while."""
    before = getattr(of, name)
    setattr(of, name, value)
    try:
        yield
    finally:
        setattr(of, name, before)


@contextmanager
def two_threads() -> Iterator[None]:
    """Compute on two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@contextmanager
def as_it_is() -> Iterator[None]:
    """Change nothing."""
    yield


class Counted:
    """Counts the steps and the rows that pass through them."""

    def __init__(self) -> None:
        self.n_steps = self.n_rows = 0
        self._take = steps.Steps._take  # noqa: SLF001 - counted where it happens

    def method(self) -> Callable[..., None]:
        """Return what counts, and goes on."""

        def take(of: steps.Steps, index: Tensor, counts: Counts, kind: Hashable) -> None:
            self.n_steps += 1
            self.n_rows += len(index)
            self._take(of, index, counts, kind)

        return take


class Learning:
    """Seconds of a night's parts, and what passed through the network."""

    def __init__(self, device: str, batch_size: int, rows: Rows, *changes: object) -> None:
        self.model, counted = model_on(device, batch_size), Counted()
        with ExitStack() as stack:
            for change in changes:
                stack.enter_context(change)  # type: ignore[arg-type]
            stack.enter_context(patched(steps.Steps, "_take", counted.method()))
            self.seconds = seconds(device, lambda: self.model.learn(rows, seed=0))
        self.n_rows, self.n_steps, self.n_passes = len(rows), counted.n_steps, counted.n_rows

    def __str__(self) -> str:
        rate = self.n_passes / self.seconds
        return (
            f"{self.n_rows:>10,} rows in {self.seconds:7.2f} s: {self.n_rows / self.seconds:>10,.0f} rows/s; "
            f"{self.n_steps:,} steps, {1e3 * self.seconds / self.n_steps:.3f} ms each, {rate:,.0f} rows/s through them"
        )


class Plain(nn.Module):
    """The same network as people write it: parameters by name, batched products, autograd."""

    frequencies: Tensor

    def __init__(self, learner: DeepLearner) -> None:
        super().__init__()
        net = learner._net  # noqa: SLF001 - its shape
        h, e = net.config.d_hidden, net.config.d_embedding
        d_in, waves = 2 * N_NUM + N_CAT * e, 2 * N_NUM * len(net.frequencies)
        n_ids, sizes = net.shapes["embedding"][0], groups(net.config.n_members)
        self.register_buffer("frequencies", net.frequencies.clone())
        self.embedding = nn.Embedding(n_ids, e)
        self.first = nn.ModuleList(nn.Linear(d_in, h * len(group)) for group in sizes)
        self.periodic = nn.ModuleList(nn.Linear(waves, h, bias=False) for _ in sizes)
        self.w_hidden = nn.ParameterList(nn.Parameter(torch.randn(len(group), h, h) / 8) for group in sizes)
        self.b_hidden = nn.ParameterList(nn.Parameter(torch.zeros(len(group), 1, h)) for group in sizes)
        self.w_out = nn.ParameterList(nn.Parameter(torch.zeros(len(group), h, N_CLASSES)) for group in sizes)
        self.b_out = nn.ParameterList(nn.Parameter(torch.zeros(len(group), 1, N_CLASSES)) for group in sizes)
        self.linear, self.l_cat = nn.Linear(2 * N_NUM, N_CLASSES), nn.Embedding(n_ids, N_CLASSES)

    def forward(self, z: Tensor, ids: Tensor, rows: list[slice]) -> list[Tensor]:
        """Return each group's logits [m, n, K], the linear member's last."""
        missing = torch.isnan(z)
        value = torch.nan_to_num(z)
        numbers = torch.cat([value, missing.float()], 1)
        x = torch.cat([numbers, self.embedding(ids).flatten(1)], 1)
        angles = value[:, :, None] * self.frequencies
        waves = (torch.cat([angles.sin(), angles.cos()], 2) * ~missing[:, :, None]).flatten(1)
        logits = []
        for g, own in enumerate(rows):
            m, h, _ = self.w_hidden[g].shape
            first = self.first[g](x[own]).view(-1, m, h)
            first = torch.cat([first[:, :1] + self.periodic[g](waves[own])[:, None], first[:, 1:]], 1)
            hidden = torch.baddbmm(self.b_hidden[g], first.relu().transpose(0, 1), self.w_hidden[g]).relu()
            logits.append(torch.baddbmm(self.b_out[g], hidden, self.w_out[g]))
        own = rows[0]
        return [*logits, (self.linear(numbers[own]) + self.l_cat(ids[own]).sum(1))[None]]


def plain_loop(model: Model, rows: Rows, n_steps: int, n_passes: int, device: str) -> float:
    """Return the seconds of so many plain steps, on as many rows each as nightfit's had."""
    learner = model.learner
    assert isinstance(learner, DeepLearner)
    block = next(rows.chunks())
    z, ids = learner._features(block)  # noqa: SLF001 - a block of rows that are there already
    y = torch.from_numpy(np.array(block.y)).to(device)
    net, n = Plain(learner).to(device), n_passes // n_steps
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-4, fused=True)
    n_old = n * 10_000 // (BLOCK_ROWS + 20_000)
    own = [slice(0, n - n_old), slice(n_old, n - n_old), slice(n_old, n)]
    targets = [0, 1, 2, 0]

    def epoch(n_steps: int) -> None:
        order = torch.randperm(len(z), device=device)
        for i in range(n_steps):
            index = order[(i % 8) * (len(z) // 8 - 1) :][:n]
            logits, wanted = net(z[index], ids[index], own), y[index]
            losses = [
                nn.functional.cross_entropy(l.flatten(0, 1), wanted[own[g]].repeat(len(l)), reduction="sum") / n
                for l, g in zip(logits, targets, strict=True)  # noqa: E741 - logits
            ]
            optimiser.zero_grad(set_to_none=True)
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()

    epoch(20)
    few = min(n_steps, 1_000)
    return median(seconds(device, lambda: epoch(few)) for _ in range(3)) * n_steps / few


def products(n_rows: list[int]) -> list[tuple[int, ...]]:
    """List a step's matrix products, forward and backward: (batch, n, k, m), by the rows of each group."""
    h, e, k = MlpConfig().d_hidden, MlpConfig().d_embedding, N_CLASSES
    waves, forward = 2 * MlpConfig().n_frequencies * N_NUM, []
    for n, group in zip(n_rows, groups(MlpConfig().n_members), strict=True):
        m = len(group)
        layers = [(1, n, N_NUM, m * h), (1, n, e * N_CAT, m * h), (1, n, 2, m * h), (1, n, waves, h)]
        forward += [*layers, (m, n, h, h), (m, n, h, k)]
    forward.append((1, n_rows[0], N_NUM, k))
    weights = [(b, k, n, m) for b, n, k, m in forward]
    inputs = [(b, n, m, k) for b, n, k, m in forward if b > 1 or k == e * N_CAT]
    return [*forward, *weights, *inputs]


def replayed_ms(what: Callable[[], object]) -> float:
    """Return the milliseconds of something captured in a graph, the median of 20 rounds of 20."""
    what()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        what()
    graph.replay()
    rounds = []
    for _ in range(20):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        for _ in range(20):
            graph.replay()
        end.record()
        torch.cuda.synchronize()
        rounds.append(start.elapsed_time(end) / 20)
    return float(median(rounds))


def floor(model: Model, n: int, n_kernels: int, measured_ms: float) -> None:
    """Print the floors of a step of n rows."""
    n_old = n * 10_000 // (BLOCK_ROWS + 20_000)
    shapes = products([n - n_old, n - 2 * n_old, n - n_old])
    pairs = [
        (torch.randn(b, n, k, device="cuda"), torch.randn(b, k, m, device="cuda")) if b > 1
        else (torch.randn(n, k, device="cuda"), torch.randn(k, m, device="cuda"))
        for b, n, k, m in shapes
    ]  # fmt: skip
    with arithmetic.tf32():
        matmul_ms = replayed_ms(lambda: [a @ b for a, b in pairs])
    plain_ms = replayed_ms(lambda: [a @ b for a, b in pairs])
    flops = sum(2 * b * n * k * m for b, n, k, m in shapes)
    big = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    bandwidth = 2 * big.numel() / replayed_ms(lambda: big[: 2**29].copy_(big[2**29 :])) * 1e3 / 2
    learner = model.learner
    assert isinstance(learner, DeepLearner)
    n_weights = learner._net.flat.numel()  # noqa: SLF001 - its size
    n_bytes = n * (4 * N_NUM + 8 * N_CAT + 16) + n_weights * 4 * 7  # weights, moments, gradient: read and written
    one = torch.zeros(1, device="cuda")
    launch_ms = replayed_ms(lambda: [one.add_(1) for _ in range(n_kernels)])
    for name, ms in {
        f"bare products, tf32 ({flops / 1e9:.2f} GFLOP, {flops / matmul_ms / 1e9:.0f} TFLOP/s)": matmul_ms,
        "bare products, float32": plain_ms,
        f"least bytes ({n_bytes / 1e6:.1f} MB at {bandwidth / 1e12:.2f} TB/s)": n_bytes / bandwidth * 1e3,
        f"{n_kernels} empty kernels": launch_ms,
    }.items():
        print(f"  floor: {name}: {ms:.3f} ms, {ms / measured_ms:.0%} of a step")


def profiled(model: Model, rows: Rows) -> int:
    """Print what a step's kernels cost, and return how many it has."""
    from torch.autograd import DeviceType  # type: ignore[attr-defined]
    from torch.profiler import ProfilerActivity, profile

    eager = patched(steps.Steps, "_run", lambda of, index, counts, kind: of._step(index, counts))  # noqa: ARG005, SLF001
    counted = Counted()
    few = Rows([next(rows.chunks())])
    with patched(steps.Steps, "_take", counted.method()), eager:
        model.learn(few, seed=0)
        n_steps = counted.n_steps
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
            model.learn(few, seed=0)
            torch.cuda.synchronize()
        n_steps = counted.n_steps - n_steps
    kernels = [e for e in found.key_averages() if e.device_type == DeviceType.CUDA]
    kernels.sort(key=lambda e: -e.self_device_time_total)
    n_kernels = int(sum(e.count for e in kernels) // n_steps)
    total = sum(e.self_device_time_total for e in kernels) / n_steps
    print(f"profile of {n_steps} eager steps: {n_kernels} kernels, {total:.0f} us on the device a step")
    for e in kernels[:28]:
        print(f"  {e.self_device_time_total / n_steps:7.1f} us a step, {e.count / n_steps:6.1f} times: {e.key[:110]}")
    return n_kernels


def agreement(device: str, batch_size: int) -> None:
    """Print the log loss after the same two nights on both devices, on rows that neither has learned."""
    known = schema()
    night, test = Rows(batches(known, 200_000, 2)), Rows(batches(known, 100_000, 3))
    found: dict[str, np.ndarray] = {}
    y = test.y
    for name, on, change in (
        ("cpu", "cpu", as_it_is()),
        (device, device, as_it_is()),
        (f"{device}, float32", device, patched(arithmetic, "tf32", as_it_is)),
    ):
        with change:
            model = model_on(on, batch_size)
            model.learn(night, seed=0)
            spent = seconds(on, lambda model=model: found.update({name: model.predict_rows(test)}))  # type: ignore[misc] # noqa: B023
        gap = np.abs(found[name] - found["cpu"])
        loss = row_losses(found[name], y).mean()
        print(
            f"agreement, {name}: log loss {loss:.5f}; probabilities differ from the processor's by {gap.mean():.1e} "
            f"in the mean, {gap.max():.1e} at most; {len(y):,} rows predicted in {spent:.2f} s"
        )


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--cpu-rows", type=int, default=3 * BLOCK_ROWS)
    parser.add_argument("--batch-size", type=int, default=8_192)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    device, size = options.device, options.batch_size
    if device != "cpu":
        print(torch.cuda.get_device_name(), torch.__version__)
    with tempfile.TemporaryDirectory() as folder:
        rows = stage(batches(schema(), options.rows, 0), Path(folder))
        few = Rows(batches(schema(), options.cpu_rows, 0))
        measure(device, size, rows, few)


def measure(device: str, size: int, rows: Rows, few: Rows) -> None:
    """Print all figures."""
    if device != "cpu":
        warm = Learning(device, size, few)
        n_kernels = profiled(warm.model, few)
    ours = Learning(device, size, rows)
    print(f"{device}: {ours}", flush=True)
    eager = patched(steps.Steps, "_run", lambda of, index, counts, kind: of._step(index, counts))  # noqa: ARG005, SLF001
    print(f"{device}, not captured: {Learning(device, size, few, eager)}")
    print(f"{device}, float32: {Learning(device, size, few, patched(arithmetic, 'tf32', as_it_is))}")
    print(f"{device}, as many rows: {Learning(device, size, few)}", flush=True)
    if device != "cpu":
        floor(ours.model, ours.n_passes // ours.n_steps, n_kernels, 1e3 * ours.seconds / ours.n_steps)
    for name, change in (("float32", as_it_is), ("tf32", arithmetic.tf32)):
        with change():
            plain_s = plain_loop(ours.model, rows, ours.n_steps, ours.n_passes, device)
        print(f"a plain eager loop, {name}: {plain_s:.2f} s, {1e3 * plain_s / ours.n_steps:.3f} ms a step: ", end="")
        print(f"{plain_s / ours.seconds:.1f} times as long", flush=True)
    on_cpu = [Learning("cpu", size, few), Learning("cpu", size, few, patched(arithmetic, "one_thread", two_threads))]
    for n_threads, cpu in enumerate(on_cpu, 1):
        print(f"cpu, {n_threads} threads: {cpu}", flush=True)
    best = max(cpu.n_rows / cpu.seconds for cpu in on_cpu)
    print(f"against two cores: {ours.n_rows / ours.seconds / best:.1f} times as many rows a second")
    agreement(device, size)


if __name__ == "__main__":
    main()
