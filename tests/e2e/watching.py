"""Looks at a running gateway from outside: its metrics, its probes, its processes."""

import asyncio
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import Process

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def metrics(gateway: Process) -> Series:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{gateway.admin}/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
        return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for family in families for sample in family.samples}


def total(series: Series, name: str) -> float:
    return sum(value for (found, _), value in series.items() if found == name)


async def until_counted(gateway: Process, name: str, value: float) -> None:
    """Scrape until the series of a name come to this."""
    async with asyncio.timeout(60):
        while (found := total(await metrics(gateway), name)) != value:
            assert found < value


def counters(series: Series) -> Series:
    return {key: value for key, value in series.items() if key[0].endswith(("_total", "_count", "_sum", "_bucket"))}


async def probe(gateway: Process, path: str) -> tuple[int, list[str]]:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{gateway.admin}{path}") as answer:
        return answer.status, (await answer.json())["reasons"]


def backwards(before: Series, after: Series) -> Series:
    """What has become less, or is gone."""
    return {key: value for key, value in before.items() if after.get(key, -1) < value}


async def until_gone(pids: Iterable[int]) -> None:
    """Wait until these processes have ended, whoever's children they are."""
    for pid in pids:
        with suppress(ProcessLookupError):
            ended, descriptor = asyncio.Event(), os.pidfd_open(pid)
            asyncio.get_running_loop().add_reader(descriptor, ended.set)
            await asyncio.wait_for(ended.wait(), 60)
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)


def workers(pid: int) -> list[int]:
    """The children of a process, the oldest first."""
    return sorted(int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def said(gateway: Process, event: str) -> list[dict[str, Any]]:
    lines = (line for line in gateway.err.decode().splitlines() if line.startswith("{"))
    return [entry for entry in map(json.loads, lines) if entry["event"] == event]


async def until_said_times(gateway: Process, event: str, times: int) -> None:
    """Wait until an event has been logged so often."""
    async with asyncio.timeout(60):
        while len(said(gateway, event)) < times:
            gateway.grown.clear()
            await gateway.grown.wait()
