"""A cohort: the experts of a merge, what they were fine-tuned from, what was measured.

It knows the layout and reads pieces; what is computed from them is `mergegrid.passes`'.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import torch
from torch import Tensor

from mergegrid.allocator import reuse_memory
from mergegrid.blocks import Block
from mergegrid.errors import InputError, MissingPrerequisiteError
from mergegrid.layout import Vocabulary, make_layout
from mergegrid.measured import ARGUMENTS, Measured, Statistics, is_covered
from mergegrid.methods.method import Method, Recipe
from mergegrid.pieces import Piece, Span, read_ahead, rounded, spans
from mergegrid.reading import Reading
from mergegrid.running_statistics import RunningVariance
from mergegrid.sources import InMemory, Source
from mergegrid.threads import one_thread
from mergegrid.variant import TrimKey, Variant, make_variant

LOGGER = logging.getLogger("mergegrid")

LARGEST_PIECES_AHEAD = 1.0
"""How many pieces of the largest parameter of all models may be read at a time, where
parameters must stay whole."""

BYTES_AHEAD = 1 << 26
"""How many bytes may be read at a time where parameters are small."""


class Cohort:
    """Experts that are merged together, in one or more ways.

    Args:
        experts: the experts by name, of one layout.
        pretrained: what they were fine-tuned from, in the same layout.
        statistics: what was measured on each expert.
        seed: for methods that draw at random.
        device: where arithmetic happens.
        vocabulary: see `mergegrid.layout`.
        running_variance: see `mergegrid.running_statistics`.

    Raises:
        InputError: if there is nothing to merge.
        LayoutError: if models or statistics do not fit one another.
    """

    def __init__(
        self,
        experts: Mapping[str, Source],
        pretrained: Source | None,
        statistics: Statistics,
        *,
        seed: int,
        device: torch.device,
        vocabulary: Vocabulary = "refuse",
        running_variance: RunningVariance = "average",
    ) -> None:
        reuse_memory()
        models = {f"expert {name!r}": source for name, source in experts.items()}
        if pretrained is not None:
            models["pretrained model"] = pretrained
        if not models:
            raise InputError("There is nothing to merge: give at least one expert.")
        self.experts = dict(experts)
        self.pretrained = pretrained
        self.reference = (
            next(iter(experts.values())) if pretrained is None else pretrained
        )
        """The model whose types the merged model takes, and what is copied."""
        self.layout = make_layout(models, self.reference, vocabulary)
        self.measured = Measured(statistics, list(experts), self.layout)
        self.statistics = statistics
        self.running_variance: RunningVariance = running_variance
        self.reading = Reading(tuple(experts), seed, device)
        self.parameters = self.layout.parameters()
        """The parameters to merge, each tensor once, sorted."""
        self._readers: ThreadPoolExecutor | None = None
        if any(source.is_remote for source in experts.values()):
            self._readers = ThreadPoolExecutor(max_workers=len(experts))

    def variant(
        self, recipe: Recipe, experts: Collection[str] | None = None
    ) -> Variant:
        """Make a recipe a merge of this cohort.

        Args:
            recipe: the recipe.
            experts: which experts to merge; None for all.

        Returns:
            The merge.

        Raises:
            InputError: if an option has not as many values as it merges experts.
        """
        members = tuple(
            index
            for index, name in enumerate(self.experts)
            if experts is None or name in experts
        )
        return make_variant(recipe, members, len(self.experts))

    def require(self, variant: Variant) -> None:
        """Check that everything is there that a merge cannot do without.

        Args:
            variant: the merge.

        Raises:
            InputError: if its method is not for this number of experts.
            MissingPrerequisiteError: if something is not there.
        """
        has_pretrained = self.pretrained is not None
        require(variant, self.measured, has_pretrained=has_pretrained)

    def covers(self, variant: Variant, name: str) -> bool:
        """Tell whether a method's mathematics applies to a parameter.

        Args:
            variant: the merge.
            name: the parameter.

        Returns:
            Whether it does; otherwise there is the method's fallback.
        """
        method = variant.method
        return is_covered(method, self.layout.shapes[name]) and not self.measured.lacks(
            method, variant.options, name, variant.members
        )

    def needs_whole(self, variant: Variant, name: str) -> bool:
        """Tell whether a merge needs a parameter as a whole.

        Args:
            variant: the merge.
            name: the parameter.

        Returns:
            Whether it does; what a method does not cover it does not.
        """
        return variant.is_whole_tensor and self.covers(variant, name)

    def explain(self, variant: Variant) -> None:
        """Log which parameters a method does not cover.

        Args:
            variant: the merge.
        """
        others = [name for name in self.parameters if not self.covers(variant, name)]
        if not others:
            return
        kept = "averages" if variant.method.fallback == "average" else "leaves"
        missing = ", ".join(
            need
            for need in sorted(variant.method.needs_of(variant.options))
            if need in ARGUMENTS.values()
        )
        reason = f"what has no {missing} statistic" if missing else "what is no matrix"
        LOGGER.debug(
            "%s %s %s: %s", variant.method.name, kept, reason, ", ".join(others)
        )

    def pieces(self, variants_of: Mapping[str, Sequence[Variant]]) -> Iterator[Piece]:
        """Read parameters piece by piece, ahead where sources are not in memory.

        Args:
            variants_of: the parameters to read, in order, and for each the merges that
                it is read for.

        Yields:
            The pieces.
        """
        wanted = spans(
            (
                name,
                self.layout.entries(name),
                max((self._unit(variant, name) for variant in variants), default=1),
            )
            for name, variants in variants_of.items()
        )
        arguments = {
            name: self._arguments(name, variants)
            for name, variants in variants_of.items()
        }

        def read(span: Span) -> Piece:
            return Piece(
                span,
                {
                    argument: self._read(argument, span)
                    for argument in arguments[span.name]
                },
                self.layout.shapes[span.name],
            )

        if self._is_in_memory():
            yield from map(read, wanted)
            return

        def size(span: Span) -> int:
            entries = span.stop - span.start
            return entries * self._bytes_per_entry(span.name)

        largest = max(
            (
                self.layout.entries(name) * self._bytes_per_entry(name)
                for name in variants_of
            ),
            default=0,
        )
        budget = max(BYTES_AHEAD, int(largest * LARGEST_PIECES_AHEAD))
        yield from read_ahead(wanted, read, size, budget)

    def blocks(
        self,
        piece: Piece,
        ties_left: dict[TrimKey, Tensor],
        variants: Iterable[Variant] = (),
        *,
        one_by_one: bool = False,
    ) -> Iterator[Block]:
        """Cut a piece into blocks that fit into the processor's cache.

        Args:
            piece: the piece.
            ties_left: see `Block`.
            variants: the merges that they are for, where these may take rows.
            one_by_one: see `Reading.block`.

        Yields:
            The blocks, in order.
        """
        span = piece.span
        shape = self.layout.shapes[span.name]
        unit = max((variant.row_unit(shape) for variant in variants), default=1)
        step = rounded(self.reading.block(one_by_one=one_by_one), unit)
        if span.start == span.stop:
            yield Block(self.reading, piece, span.start, span.stop, None, ties_left)
        is_cpu = self.reading.device.type == "cpu"
        with one_thread() if is_cpu else nullcontext():
            for start in range(span.start, span.stop, step):
                stop = min(start + step, span.stop)
                yield Block(self.reading, piece, start, stop, None, ties_left)

    def whole_block(self, piece: Piece, ties_left: dict[TrimKey, Tensor]) -> Block:
        """Make one block of a piece that is a whole parameter.

        Args:
            piece: the piece.
            ties_left: see `Block`.

        Returns:
            The block, in the parameter's shape.
        """
        span = piece.span
        shape = self.layout.shapes[span.name]
        return Block(self.reading, piece, span.start, span.stop, shape, ties_left)

    def _unit(self, variant: Variant, name: str) -> int:
        shape = self.layout.shapes[name]
        return variant.unit(shape) if self.covers(variant, name) else 1

    def _arguments(self, name: str, variants: Sequence[Variant]) -> list[str]:
        wanted = {"experts"}
        for variant in variants:
            if variant.reads_pretrained:
                wanted.add("pretrained")
            if self.covers(variant, name):
                needs = variant.method.needs_of(variant.options)
                wanted |= {a for a, need in ARGUMENTS.items() if need in needs}
        return sorted(wanted)

    def _read(self, argument: str, span: Span) -> list[Tensor]:
        name, start, stop = span.name, span.start, span.stop
        match argument:
            case "experts":

                def of_expert(source: Source) -> Tensor:
                    return source.read(name, start, stop)

                mapped = map if self._readers is None else self._readers.map
                return [*mapped(of_expert, self.experts.values())]
            case "pretrained":
                return [self.reference.read(name, start, stop)]
            case _:
                return self.measured.read(ARGUMENTS[argument], name, start, stop)

    def _bytes_per_entry(self, name: str) -> int:
        models = [*self.experts.values(), self.reference]
        return sum(source.infos[name].dtype.itemsize for source in models)

    def _is_in_memory(self) -> bool:
        sources = [*self.experts.values(), self.reference]
        return all(isinstance(source, InMemory) for source in sources)


def require(variant: Variant, measured: Measured, *, has_pretrained: bool) -> None:
    """Check that everything is there that a merge cannot do without.

    Args:
        variant: the merge.
        measured: the statistics that there are.
        has_pretrained: whether there is a pretrained model.

    Raises:
        InputError: if its method is not for this number of experts.
        MissingPrerequisiteError: if something is not there.
    """
    method = variant.method
    check_number(method, len(variant.members))
    if variant.reads_pretrained and not has_pretrained:
        raise MissingPrerequisiteError(
            f"{method.name} needs the pretrained parameters: pass them as `pretrained`."
        )
    measured.require(method, variant.options, variant.members)


def check_number(method: Method, experts: int) -> None:
    """Check that a method is for a number of experts.

    Args:
        method: the method.
        experts: how many.

    Raises:
        InputError: if it is not.
    """
    fewest, most = method.experts
    if experts < fewest or (most is not None and experts > most):
        allowed = (
            f"exactly {fewest}"
            if fewest == most
            else f"at least {fewest}"
            if most is None
            else f"{fewest} to {most}"
        )
        raise InputError(
            f"{method.name} merges {allowed} experts, not {experts}."
            + (" For any number there is mlerp." if method.name == "slerp" else "")
        )
