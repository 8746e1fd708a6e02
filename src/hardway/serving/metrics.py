"""What the server measures, for Prometheus: waiting times, tokens, pages, endings."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from hardway.serving.engine import Engine
from hardway.serving.worker import Job

SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class EngineCollector(Collector):
    """The engine's counts, read when somebody asks."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def collect(self) -> Iterator[Metric]:
        """Yield the queue, the pages, and the tokens computed and found."""
        stats = self.engine.stats
        gauges = {
            "requests_running": stats.running,
            "requests_waiting": stats.waiting,
            "pages_used": stats.pages_total - stats.pages_free,
            "pages_total": stats.pages_total,
        }
        counters = {
            "steps": stats.steps,
            "computed_tokens": stats.computed_tokens,
            "prefix_hit_tokens": stats.prefix_hit_tokens,
            "preemptions": stats.preemptions,
        }
        for name, value in gauges.items():
            yield GaugeMetricFamily(f"hardway_{name}", name.replace("_", " "), value)
        for name, value in counters.items():
            text = name.replace("_", " ")
            yield CounterMetricFamily(f"hardway_{name}", text, value)


class Metrics:
    """The server's registry; one for each server, so that none counts for another."""

    def __init__(self, engine: Engine) -> None:
        """Register what is counted."""
        self.registry = CollectorRegistry()
        self.registry.register(EngineCollector(engine))

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(
                f"hardway_{name}", text, registry=self.registry, buckets=SECONDS
            )

        self.ttft = histogram("time_to_first_token_seconds", "from arrival")
        self.tpot = histogram("time_per_output_token_seconds", "after the first one")
        self.whole = histogram("request_seconds", "from arrival to the last token")
        self.generated = Counter(
            "hardway_generated_tokens", "tokens of answers", registry=self.registry
        )
        self.finished = Counter(
            "hardway_requests", "requests that ended", ["reason"],
            registry=self.registry,
        )  # fmt: skip

    def record(self, job: Job) -> None:
        """Count a job that has ended."""
        n = len(job.request.output_ids)
        reason = job.request.finish_reason or "error"
        if job.failed:
            reason = "error"
        elif job.text.stopped:
            reason = "stop"
        self.finished.labels(reason).inc()
        self.generated.inc(n)
        if n:
            self.ttft.observe(job.first - job.arrived)
            self.whole.observe(job.last - job.arrived)
        if n > 1:
            self.tpot.observe((job.last - job.first) / (n - 1))

    def text(self) -> bytes:
        """Return everything in Prometheus's format."""
        return generate_latest(self.registry)
