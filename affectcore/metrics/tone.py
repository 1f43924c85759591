"""What the tone heads are: the columns that models have one head each for, and what must be known of them."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["HEADS", "NAMES", "Tone"]


class Tone(NamedTuple):
    """What the registry says of a tone head, figures apart."""

    definition: str  # what the probability is of
    higher_is: Literal["better", "worse", "neither"]
    source: str
    limits: str
    level: Literal["strongest", "document"]
    experimental: bool = False
    wordless: float = 0.0  # score of a text without words

    @property
    def even(self) -> bool:
        """Whether it is calibrated to even odds: its labels are there or not, and how often differs from set to set."""
        return self.level == "strongest" or self.higher_is == "worse"


_SPIRAL = "turns of Spiral-Bench v0.2 (Paech 2025, MIT), as a language model judged them"
_OWN = "contrast sets written for this project"
_JUDGED = (
    "Its labels are those of a judging language model, in conversations of one benchmark's role-played users: figures "
    "tell how far the head agrees with that judge, not with people. "
)
_EXPERIMENTAL = (
    "Experimental: learnt from and tested on contrast sets of our own alone, written by a language model; no text that "
    "people labelled has tested it. Real {} is slower and subtler than one message. "
)

HEADS: dict[str, Tone] = {
    "refusal": Tone(
        "the text declines to do what it was asked for, in full or in part",
        "neither",
        "ChatGPT replies labelled by hand (Reuter & Schulze 2023, arXiv 2306.03423); completions that two automatic "
        "checks of refusal agree on (Arditi et al. 2024, arXiv 2406.11717); contrast set written for this project",
        "It sees the reply and not the request: an answer that evades without saying so looks like compliance. Quoted "
        "and drafted refusals (a letter that declines an offer) can count. Most labels are of replies of 2023 and 2024 "
        "that refuse in their first sentences; refusals in other words, or late in a long reply, are missed more "
        "often. Says nothing of whether a refusal was right.",
        "strongest",
    ),
    "politeness": Tone(
        "a request reads as polite as those that annotators placed high on their scale; 0.5 is the middle",
        "neither",
        "Stanford Politeness Corpus, requests on Stack Exchange (Danescu-Niculescu-Mizil et al. 2013)",
        "Learnt from requests of two sentences among strangers on question-and-answer sites; on long answers of "
        "language models, which ask for little, it follows thanks, greetings and softeners. Annotators in the US; "
        "sarcastic courtesy counts as polite.",
        "document",
        wordless=0.5,
    ),
    "hedging": Tone(
        "a finding is stated with as little certainty as annotators heard in the least certain ones: 1 minus certainty",
        "neither",
        "certainty in science communication (Pei & Jurgens 2021): 1 - (certainty - 1) / 5 of their scale of 1 to 6",
        "Learnt from single sentences of papers and science news; advice and small talk are far from these. Says "
        "nothing of whether the doubt is warranted. Modal verbs of permission (you may) can count.",
        "document",
    ),
    "toxicity": Tone(
        "readers would find the text hateful or offensive",
        "worse",
        "tweets labelled by most of three or more workers: hate or offensive against neither (Davidson et al. 2017)",
        "Learnt from tweets that were found by slurs: it reacts to words, so quoting, reclaiming or condemning them "
        "counts, and polite contempt is missed. The labels are known to be biased against African American English. "
        "Not for judging persons or for moderation by itself.",
        "document",
    ),
    "warmth": Tone(
        "the text shows as much empathic concern as the writers of reactions to news who felt most of it, or the "
        "warmest replies of our contrast set",
        "neither",
        "empathic concern that writers reported of themselves (Buechel et al. 2018, empathic reactions); contrast sets "
        "written for this project",
        "Learnt from short messages about newspaper articles, in the first person, and from what their "
        "writers said they felt, which a text shows in part only: correlations are modest at best. Stock phrases of "
        "sympathy count as warmth. A language model feels no concern: it is how a text reads.",
        "document",
    ),
    "sycophancy": Tone(
        "the text flatters, praises or agrees beyond reason",
        "worse",
        f"{_SPIRAL}",
        f"{_JUDGED}It sees the reply alone: deserved praise and agreement look the same.",
        "strongest",
    ),
    "delusion_reinforcement": Tone(
        "the text treats delusional or pseudoscientific beliefs as true",
        "worse",
        f"{_SPIRAL}; syco-bench (Duffy 2025), by the median of three judging language models",
        f"{_JUDGED}Fiction, role play and talk of mysticism or of speculative physics score high without any delusion. "
        "It cannot tell whether a claim is true.",
        "strongest",
    ),
    "escalation": Tone(
        "the text heightens the emotion or the drama of a conversation",
        "worse",
        f"{_SPIRAL}",
        f"{_JUDGED}Vivid fiction, speeches and advertisements that somebody asked for count the same.",
        "strongest",
    ),
    "pushback": Tone(
        "the text disagrees with its reader, corrects or challenges",
        "neither",
        f"{_SPIRAL}",
        f"{_JUDGED}Says nothing of whether the disagreement is right; essays with a counter-argument can count.",
        "strongest",
    ),
    "seek_help": Tone(
        "the text suggests to turn to people or professionals for help",
        "neither",
        f"{_SPIRAL}",
        f"{_JUDGED}Disclaimers (ask your doctor) count the same as care. Rare in most dumps.",
        "strongest",
    ),
    "dependence": Tone(
        "the text fosters emotional dependence on its writer, or draws its reader away from others",
        "worse",
        _OWN,
        _EXPERIMENTAL.format("dependence") + "Love letters and fiction can count.",
        "strongest",
        experimental=True,
    ),
    "manipulation": Tone(
        "the text pressures by guilt, threats, flattery with a purpose, or false urgency",
        "worse",
        _OWN,
        _EXPERIMENTAL.format("manipulation") + "Advertisements, and texts that explain or quote manipulation, can "
        "count. Not evidence of anybody's intent.",
        "strongest",
        experimental=True,
    ),
}
"""Every tone head, in the order of the output columns."""

NAMES = tuple(HEADS)
"""Names of the heads, their only labels and their columns."""
