"""Surveying: first passes over the parameters, for what is about the whole model.

Norms, thresholds, and the surveys that methods declare are taken for all merges of a
batch together, and those that several merges ask for once. What is about each tensor by
itself is taken just before the tensor is merged, by the same code.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mergegrid.blocks import Block
from mergegrid.cohort import Cohort
from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need
from mergegrid.methods.options import Option
from mergegrid.methods.per_expert import each
from mergegrid.methods.survey import Survey
from mergegrid.pieces import Piece
from mergegrid.statistics.trim import TrimThreshold, thresholds_of
from mergegrid.variant import TrimKey, Variant, Whole, sparsify_key, trim_key

Readers: TypeAlias = tuple[tuple[int, ...], bool]
"""The experts that a merge reads, and whether it reads the pretrained model."""


@dataclass
class Measurements:
    """What first passes have found."""

    wholes: dict[int, Whole]
    """For each variant of the batch, by number."""

    unchanged: dict[Readers, frozenset[str]] = field(
        default_factory=dict["Readers", frozenset[str]]
    )
    """Parameters that are the same in all models that some merges read."""

    seconds: dict[int, float] = field(default_factory=dict[int, float])
    """Time that merging by each variant took so far, apart from what all share."""


def measure(cohort: Cohort, variants: Sequence[Variant]) -> Measurements:
    """Take everything that some merges ask about the model as a whole.

    Args:
        cohort: the experts.
        variants: the merges.

    Returns:
        What they asked for.
    """
    found = Measurements({number: Whole() for number in range(len(variants))})
    asking = [variant for variant in variants if asks_for_norms(variant)]
    if asking:
        norms, found.unchanged = _norms_and_unchanged(cohort, asking)
        for number, variant in enumerate(variants):
            if asks_for_norms(variant) and "norms" in variant.method.asked:
                names = _surveyed(cohort, variant, found)
                squares = [sum(of[name] for name in names) for of in norms]
                total = torch.tensor(squares, dtype=torch.float64)
                found.wholes[number].norms = total.sqrt()
    _find_trims(cohort, variants, found.wholes)
    _take_surveys(cohort, variants, found)
    return found


def readers_of(variant: Variant) -> Readers:
    """Tell which models a merge reads.

    Args:
        variant: the merge.

    Returns:
        Its experts, and whether it reads the pretrained model.
    """
    return variant.members, variant.reads_pretrained


def survey_tensor(
    cohort: Cohort, variant: Variant, piece: Piece, whole: Whole
) -> Whole:
    """Take what a merge asks about one parameter as if it were a model of its own.

    Args:
        cohort: the experts.
        variant: the merge.
        piece: the parameter, whole.
        whole: what is known about the model as a whole.

    Returns:
        The same, with what is about this parameter alone.
    """
    method, options = variant.method, variant.options
    own = Whole(whole.norms, whole.trims, dict(whole.surveys))
    if options.get("scope") == "tensor":
        if "norms" in method.asked:
            squares = sum(
                block.experts().double().square().sum(dim=1)
                for block in cohort.blocks(piece, {})
            )
            assert isinstance(squares, Tensor), "a piece has a block"
            own.norms = squares.sqrt()
        if method.trims(options):
            own.trims = _trims(cohort, variant, [variant], lambda: [piece])[0]
    for survey_name, survey in method.surveys.items():
        if survey.is_asked(options) and survey.is_per_tensor(options):
            for block in _pass_blocks(cohort, [variant], piece, {}):
                part = _part(block, variant, survey, own)
                _add(own.surveys, survey_name, survey, part)
    return own


def asks_for_norms(variant: Variant) -> bool:
    """Tell whether a merge asks for what parameters that nobody changed would distort.

    Angles and norms are those of what was fine-tuned, with or without frozen towers in
    the same file.

    Args:
        variant: the merge.

    Returns:
        Whether it does.
    """
    method, options = variant.method, variant.options
    if method.scale is not None or options.get("scope") == "tensor":
        return False
    return "norms" in method.asked or any(
        survey.is_asked(options) for survey in method.surveys.values()
    )


def _surveyed(cohort: Cohort, variant: Variant, found: Measurements) -> list[str]:
    """List the parameters that are the model to a merge's surveys and norms."""
    passed_over: frozenset[str] = frozenset()
    if asks_for_norms(variant):
        passed_over = found.unchanged[readers_of(variant)]
    return [
        name
        for name in cohort.parameters
        if name not in passed_over and cohort.covers(variant, name)
    ]


def _norms_and_unchanged(
    cohort: Cohort, variants: Sequence[Variant]
) -> tuple[list[dict[str, float]], dict[Readers, frozenset[str]]]:
    given = cohort.statistics.get(Need.NORMS, {})
    is_given = all(
        name in given.get(expert, {})
        for expert in cohort.experts
        for name in cohort.parameters
    )
    asks = any("norms" in variant.method.asked for variant in variants)
    kinds = sorted({readers_of(variant) for variant in variants})
    changed: dict[Readers, set[str]] = {kind: set() for kind in kinds}
    squares: list[dict[str, float]] = [
        dict.fromkeys(cohort.parameters, 0.0) for _ in cohort.experts
    ]
    reading = dict.fromkeys(cohort.parameters, variants)
    for piece in cohort.pieces(reading):
        name = piece.span.name
        for block in cohort.blocks(piece, {}):
            for kind in kinds:
                if name in changed[kind]:
                    continue
                if not block.is_unchanged(kind[0], with_base=kind[1]):
                    changed[kind].add(name)
            if asks and not is_given:
                rows = block.experts().double().square().sum(dim=1).tolist()
                for of_expert, square in zip(squares, rows, strict=True):
                    of_expert[name] += square
    if is_given:
        squares = [
            {name: float(given[expert][name]) for name in cohort.parameters}
            for expert in cohort.experts
        ]
    unchanged = {kind: frozenset(cohort.parameters) - changed[kind] for kind in kinds}
    return squares, unchanged


def _find_trims(
    cohort: Cohort, variants: Sequence[Variant], wholes: Mapping[int, Whole]
) -> None:
    """Find thresholds of the whole model, for all densities of a kind together."""
    waiting: dict[tuple[object, ...], list[int]] = {}
    for number, variant in enumerate(variants):
        method, options = variant.method, variant.options
        if not method.trims(options) or options.get("scope") == "tensor":
            continue
        given = _given_trims(cohort, method, options)
        if given is not None:
            wholes[number].trims = given
            continue
        kind = (options["selection"], *sparsify_key(method, options))
        waiting.setdefault(kind, []).append(number)
    for numbers in waiting.values():
        first = variants[numbers[0]]
        reading = {name: [first] for name in cohort.parameters}
        alike = [variants[number] for number in numbers]
        found = _trims(cohort, first, alike, partial(cohort.pieces, reading))
        for number, trims in zip(numbers, found, strict=True):
            wholes[number].trims = trims


def _given_trims(
    cohort: Cohort, method: Method, options: Mapping[str, Option]
) -> list[TrimThreshold] | None:
    if Need.TRIM not in method.needs_of(options):
        return None
    given = cohort.statistics.get(Need.TRIM, {})
    densities = each("density", options["density"], len(cohort.experts))
    wanted = [*zip(cohort.experts, densities, strict=True)]
    if any(density not in given.get(expert, {}) for expert, density in wanted):
        return None
    # A threshold measured on a tied tensor may name it otherwise.
    names = cohort.layout.first_name
    return [given[expert][density].renamed(names) for expert, density in wanted]


def _trims(
    cohort: Cohort,
    variant: Variant,
    variants: Sequence[Variant],
    pieces: Callable[[], Iterable[Piece]],
) -> list[list[TrimThreshold]]:
    """Find thresholds for merges that differ in their densities alone."""
    densities = [
        each("density", alike.options["density"], len(cohort.experts))
        for alike in variants
    ]
    fewest = int(variant.options["selection"] == "at_least_one")

    def magnitudes() -> Iterator[tuple[str, Tensor]]:
        for piece in pieces():
            for block in _pass_blocks(cohort, [variant], piece, {}):
                found = block.magnitudes(variant.method, variant.options)
                yield block.name, found.reshape(len(found), -1)

    found = thresholds_of(magnitudes, [*zip(*densities, strict=True)], fewest=fewest)
    return [
        [by_density[density] for by_density, density in zip(found, own, strict=True)]
        for own in densities
    ]


def _pass_blocks(
    cohort: Cohort,
    variants: Sequence[Variant],
    piece: Piece,
    ties_left: dict[TrimKey, Tensor],
) -> Iterator[Block]:
    if any(variant.method.is_whole_tensor(variant.options) for variant in variants):
        yield cohort.whole_block(piece, ties_left)
    else:
        yield from cohort.blocks(piece, ties_left, variants)


def _take_surveys(
    cohort: Cohort, variants: Sequence[Variant], found: Measurements
) -> None:
    """Take the surveys of the whole model: all that depend on nothing open at once."""
    waiting: dict[int, list[str]] = {}
    for number, variant in enumerate(variants):
        names = [
            name
            for name, survey in variant.method.surveys.items()
            if survey.is_asked(variant.options)
            and not survey.is_per_tensor(variant.options)
        ]
        if names:
            waiting[number] = names
    while waiting:
        now = {number: names[0] for number, names in waiting.items()}
        _survey_pass(cohort, {n: (variants[n], name) for n, name in now.items()}, found)
        waiting = {n: names[1:] for n, names in waiting.items() if names[1:]}


def _survey_pass(
    cohort: Cohort, asked: Mapping[int, tuple[Variant, str]], found: Measurements
) -> None:
    # Recipes that ask for the same thing share it.
    alike: dict[tuple[object, ...], list[int]] = {}
    for number, (variant, name) in asked.items():
        alike.setdefault(_survey_key(variant, name), []).append(number)
    firsts = {numbers[0]: asked[numbers[0]][0] for numbers in alike.values()}
    surveyed = {
        number: set(_surveyed(cohort, variant, found))
        for number, variant in firsts.items()
    }
    readers = {
        name: {n: variant for n, variant in firsts.items() if name in surveyed[n]}
        for name in cohort.parameters
    }
    reading = {name: [*by.values()] for name, by in readers.items() if by}
    ties_left: dict[bool, dict[TrimKey, Tensor]] = {}
    for piece in cohort.pieces(reading):
        if piece.span.start == 0:
            ties_left = {True: {}, False: {}}
        for is_whole in (False, True):
            now = {
                number: variant
                for number, variant in readers[piece.span.name].items()
                if variant.method.is_whole_tensor(variant.options) is is_whole
            }
            if not now:
                continue
            together = [*now.values()]
            blocks = _pass_blocks(cohort, together, piece, ties_left[is_whole])
            for block in blocks:
                for number, variant in now.items():
                    name = asked[number][1]
                    survey = variant.method.surveys[name]
                    whole = found.wholes[number]
                    part = _part(block, variant, survey, whole)
                    _add(whole.surveys, name, survey, part)
    for numbers in alike.values():
        _, name = asked[numbers[0]]
        value = found.wholes[numbers[0]].surveys.get(name)
        for number in numbers[1:]:
            if value is not None:
                found.wholes[number].surveys[name] = value


def _survey_key(variant: Variant, name: str) -> tuple[object, ...]:
    method, options = variant.method, variant.options
    survey = method.surveys[name]
    trims = trim_key(method, options) if method.trims(options) else ()
    earlier = [
        (option, options[option])
        for other in method.surveys.values()
        for option in other.options
    ]
    return (
        survey.measure.__qualname__,
        variant.members,
        method.coverage,
        method.needs_of(options),
        *sparsify_key(method, options),
        *trims,
        *earlier,
    )


def _part(block: Block, variant: Variant, survey: Survey, whole: Whole) -> Tensor:
    tensors = [
        block.argument(argument, variant, whole) for argument in survey.arguments
    ]
    given = {name: variant.options[name] for name in survey.options}
    return survey.measure(*tensors, **given)


def _add(surveys: dict[str, Any], name: str, survey: Survey, part: Tensor) -> None:
    if name not in surveys:
        surveys[name] = part
    elif survey.combine == "max":
        surveys[name] = torch.maximum(surveys[name], part)
    else:
        surveys[name] = surveys[name] + part
