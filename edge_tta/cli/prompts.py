"""Prompts and seeds from the command line to requests, all checked before anything is loaded."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

from edge_tta.errors import RequestError
from edge_tta.noise import MAX_SEED
from edge_tta.runtime.request import MAX_COUNT, GenerationRequest
from edge_tta.text import prompt_lines


def make_requests(
    prompt: str | None,
    file: str | None,
    default_prompt: str,
    *,
    seconds: float,
    seed: str,
    steps: int,
    guidance: float | None,
    count: int,
) -> list[GenerationRequest]:
    """One request per sound.

    Args:
        prompt: the prompt argument.
        file: text file with a prompt per line ("-" for standard input); empty lines and lines that start with # are
            left out.
        default_prompt: used when neither is given.
        seconds: duration of every sound.
        seed: a number, or "random" for one that is drawn here (and recorded with the result).
        steps: network steps.
        guidance: guidance, None for the bundle's own.
        count: sounds per prompt; sound i has seed + i.

    Raises:
        RequestError: names what is wrong, and in which line of the file.
    """
    if prompt is not None and file is not None:
        raise RequestError("give a prompt or --file, not both")
    first_seed = parse_seed(seed)
    if file is None:
        sources = [("", default_prompt if prompt is None else prompt)]
    else:
        sources = [(f"{file} line {number}: ", line) for number, line in read_prompts(file)]
    requests = []
    for place, text in sources:
        try:
            # The request as a whole is checked first: count and the last seed have limits of their own.
            GenerationRequest(text, seconds, first_seed, steps, guidance, count)
            requests += [
                GenerationRequest(text, seconds, first_seed + i, steps, guidance) for i in range(count)
            ]
        except RequestError as error:
            raise RequestError(f"{place}{error}") from None
    return requests


def parse_seed(text: str) -> int:
    """A seed, or a random one for "random".

    Raises:
        RequestError: neither.
    """
    if text == "random":
        return secrets.randbelow(MAX_SEED - MAX_COUNT)
    try:
        return int(text)
    except ValueError:
        raise RequestError(f"seed must be a whole number or 'random', got '{text[:80]}'") from None


def read_prompts(file: str) -> list[tuple[int, str]]:
    """Line numbers and prompts of a file.

    Raises:
        RequestError: unreadable, not UTF-8, or without any prompt.
    """
    if file == "-" and sys.stdin is None:
        raise RequestError("-: there is no standard input to read")
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        prompts = prompt_lines(data.decode("utf-8-sig"))
    except OSError as error:
        raise RequestError(f"{file}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise RequestError(f"{file}: not UTF-8 (byte {error.start})") from None
    if not prompts:
        raise RequestError(f"{file}: holds no prompt")
    return prompts
