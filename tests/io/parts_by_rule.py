"""How reasoning and answer are told apart, rule by rule, in str, whatever time it takes: the measure of `split`."""

from __future__ import annotations

import re

SPACE = " \t\n\r\v\f"
PAIRS = {"[THINK]": "[/THINK]", "◁think▷": "◁/think▷", "<|begin_of_thought|>": "<|end_of_thought|>"}
PAIRS |= {"<|START_THINKING|>": "<|END_THINKING|>", "<|channel>thought": "<channel|>"}
NAMES = "(?:seed:|mm:)?(?:think|thinking|thought|reasoning)"
NAMED = re.compile(rf"<(/?)({NAMES})(?:[ \t\n\r\v\f][^<>]{{0,200}})?>", re.IGNORECASE | re.ASCII)
HINT = re.compile(rf"</?(?:{NAMES}|answer)|<\|", re.IGNORECASE | re.ASCII)
QUOTES = ['""', "''", "“”", "‘’", "«»", "「」"]
HEAD = re.compile(r"(?:<\|start\|>([^<]*))?<\|channel\|>([^<]*)(?:<\|constrain\|>[^<]*)?<\|message\|>")
ENDS = ("<|end|>", "<|return|>", "<|call|>")
ANSWERS = [("<answer>", "</answer>"), ("<response>", "</response>"), ("<output>", "</output>")]
ANSWERS += [("<|begin_of_solution|>", "<|end_of_solution|>"), ("<|START_RESPONSE|>", "<|END_RESPONSE|>")]
ANSWERS += [("<|START_TEXT|>", "<|END_TEXT|>")]

Tag = tuple[int, int, str, bool]  # begin, end, name, whether it opens
Parts = tuple[str | None, str | None]


def split_one(text: str) -> Parts:
    """Return the answer and the reasoning of a text."""
    # Without any of these nothing is looked for: closing tags of Mistral, Kimi and Gemma alone do not count.
    if not (HINT.search(text) or text.removeprefix("\ufeff").lstrip(SPACE).startswith(("[THINK]", "◁think▷"))):
        return text, None
    begin = skip(text, 1 if text.startswith("\ufeff") else 0)
    if HEAD.match(text, begin):
        return channels(text, begin)
    found = tags(text)
    blocks: list[str] = []
    at = None
    # The prompt may have opened the first block: then the first tag that is not in code closes it.
    outside = [tag for tag in found if kind(text, tag) == 0]
    if outside and not outside[0][3]:
        blocks.append(text[: outside[0][0]].strip(SPACE))
        at = outside[0][1]
    while True:
        start = begin if at is None else skip(text, at)
        opening = next((tag for tag in found if tag[0] == start and tag[3]), None)
        if opening is None:
            break
        # A block ends where a tag outside of code closes it, or else one in a code block, or never.
        closing = [t for t in found if t[0] >= opening[1] and t[2] == opening[2] and not t[3]]
        ends = [t for t in closing if kind(text, t) == 0] or [t for t in closing if kind(text, t) == 1]
        blocks.append(text[opening[1] : ends[0][0] if ends else len(text)].strip(SPACE))
        if not ends:
            return None, joined(blocks)
        at = ends[0][1]
    if at is None:
        return unwrapped(text, begin, reasoned=False), None
    return unwrapped(text, start, reasoned=True), joined(blocks)


def skip(text: str, at: int) -> int:
    return len(text) - len(text[at:].lstrip(SPACE))


def joined(blocks: list[str]) -> str | None:
    return "\n\n".join(block for block in blocks if block) or None


def tags(text: str) -> list[Tag]:
    found: list[Tag] = []
    at = 0
    while at < len(text):
        tag = tag_at(text, at)
        if tag:
            found.append(tag)
        at = tag[1] if tag else at + 1
    return found


def tag_at(text: str, at: int) -> Tag | None:
    for opening, closing in PAIRS.items():
        for mark in (opening, closing):
            if text.startswith(mark, at):
                return at, at + len(mark), opening, mark == opening
    named = NAMED.match(text, at)
    return (at, named.end(), named[2].lower(), not named[1]) if named else None


def kind(text: str, tag: Tag) -> int:
    """Return 2 for a tag in quotation marks or code within a line, 1 in a code block or a quoted line, else 0."""
    begin, end = tag[:2]
    for opening, closing in QUOTES:
        if text[begin - 1 : begin] == opening and text[end : end + 1] == closing and begin:
            # A straight mark behind a word ends a quotation.
            if opening != closing or begin == 1 or text[begin - 2] in " \t\n([{":
                return 2
            break
    number = text.count("\n", 0, begin)
    lines = text.split("\n")
    within = begin - (text.rfind("\n", 0, begin) + 1)
    if any(a <= within < b for a, b in code_in(lines[number])):
        return 2
    quoted = re.match(" {0,3}>", lines[number]) is not None
    return 1 if quoted or any(a <= number <= b for a, b in code_blocks(lines)) else 0


def code_in(line: str) -> list[tuple[int, int]]:
    """Return where code stands in a line: from a run of backticks to the next run as long."""
    runs = [found.span() for found in re.finditer("`+", line)]
    spans = []
    while runs:
        begin, end = runs.pop(0)
        same = [i for i, run in enumerate(runs) if run[1] - run[0] == end - begin]
        if same:
            spans.append((begin, runs[same[0]][1]))
            runs = runs[same[0] + 1 :]
    return spans


def code_blocks(lines: list[str]) -> list[tuple[int, int]]:
    """Return the first and the last line of each code block that is closed."""
    blocks = []
    fence, first = "", 0
    for number, line in enumerate(lines):
        found = re.match(r"[ \t]*(`{3,}|~{3,})(.*)", line, re.DOTALL)
        if not found:
            continue
        if not fence:
            if found[1][0] == "~" or "`" not in found[2]:
                fence, first = found[1], number
        elif found[1].startswith(fence) and not found[2].strip(SPACE):
            blocks.append((first, number))
            fence = ""
    return blocks


def unwrapped(text: str, start: int, reasoned: bool) -> str:
    """Return the answer without tags around it; without reasoning before it, only what is nothing else."""
    whole = text[start:] if reasoned else text
    opens, closes = (spans(text, start, [pair[i] for pair in ANSWERS]) for i in range(2))
    if not opens or opens[0][0] != start or len(opens) > 1:
        return whole
    begin = opens[0][1]
    if not reasoned and text[start:begin].lower() != "<answer>" and text[start:begin] not in dict(ANSWERS[3:]):
        return whole
    closes = [span for span in closes if span[0] >= begin]
    if not closes:
        return text[begin:].lstrip(SPACE) if reasoned else whole
    rest = text[closes[-1][1] :]
    if not rest.strip(SPACE):
        return text[begin : closes[-1][0]].strip(SPACE)
    return text[begin : closes[-1][0]].strip(SPACE) + rest if reasoned else whole


def spans(text: str, start: int, marks: list[str]) -> list[tuple[int, int]]:
    """Return where marks stand; those in pointed brackets alone in any case."""
    found = []
    for at in range(start, len(text)):
        for mark in marks:
            here = text[at : at + len(mark)]
            if here == mark or (mark[1] != "|" and here.isascii() and here.lower() == mark):
                found.append((at, at + len(mark)))
    return found


def channels(text: str, begin: int) -> Parts:
    """Return the parts of messages in the format harmony; calls of tools name a recipient and belong to neither."""
    heads = list(HEAD.finditer(text, begin))
    told: list[str] = []
    said: list[str] = []
    for head, after in zip(heads, [*(h.start() for h in heads[1:]), len(text)]):
        if "to=" in (head[1] or "") + " " + head[2]:
            continue
        content = text[head.end() : after].strip(SPACE)
        while any(content.endswith(end) for end in ENDS):
            content = content[: content.rindex("<|")].rstrip(SPACE)
        (told if head[2].strip(SPACE) == "analysis" else said).append(content)
    return "\n\n".join(filter(None, said)) if said else None, joined(told)
