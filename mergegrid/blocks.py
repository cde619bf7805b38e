"""Blocks: a stretch of one parameter in all models, and what is computed from it once.

Several merges of the same experts ask for the same task vectors, draws and trimmed task
vectors; a block computes each when it is first asked for. Blocks are small enough for
the processor's cache, which makes element-wise methods several times faster than going
over whole tensors.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mergegrid.errors import NonFiniteError
from mergegrid.finite import bad_parameter, bad_statistic, is_finite
from mergegrid.methods.method import Method
from mergegrid.methods.options import Option
from mergegrid.pieces import Piece
from mergegrid.randomness import uniform
from mergegrid.reading import Reading
from mergegrid.statistics.trim import TrimThreshold, keep_largest, kept_entries
from mergegrid.variant import TrimKey, Variant, Whole, sparsify_key, trim_key

SELECTION = "selection"
"""Suffix of the name under which a random selection is drawn: not that of a parameter,
so that it is independent of what else is drawn for it."""


class Block:
    """A stretch of one parameter.

    Args:
        reading: what all blocks have in common.
        piece: what was read.
        start: the first entry, counted from the parameter's first.
        stop: the one after the last.
        shape: the parameter's shape, for a block that is a whole tensor; else None.
        ties_left: ways of trimming to the number of ties that each expert may still
            keep in this parameter; brought forward by what this block keeps.
    """

    def __init__(
        self,
        reading: Reading,
        piece: Piece,
        start: int,
        stop: int,
        shape: tuple[int, ...] | None,
        ties_left: dict[TrimKey, Tensor],
    ) -> None:
        self.name = piece.span.name
        self.start = start
        self.stop = stop
        self.shape = (stop - start,) if shape is None else shape
        self._reading = reading
        self._piece = piece
        self._rows = piece.rows
        self._within = slice(start - piece.span.start, stop - piece.span.start)
        self._ties_left = ties_left
        self.is_last = False
        """Whether what was read is given up once the experts' parameters, or their task
        vectors, are put together: nobody else will ask for anything."""
        self._found: dict[object, Tensor] = {}
        self._sums: dict[object, dict[frozenset[int], Tensor]] = {}

    def argument(self, argument: str, variant: Variant, whole: Whole) -> Tensor | None:
        """Give a tensor that a method asks for.

        Args:
            argument: which, by the names of `mergegrid.methods.method`.
            variant: the merge.
            whole: what is known about the model as a whole.

        Returns:
            The tensor; None for what the method needs with other options only.

        Raises:
            ValueError: if there is no such tensor.
        """
        method, options = variant.method, variant.options
        if argument in method.surveys:
            return whole.surveys.get(argument)
        found = self._argument(argument, method, options, whole)
        if found is None or argument in {"pretrained", "signs"}:
            return found
        return self._rows_of(found, variant.members)

    def total(self, variant: Variant) -> Tensor:
        """Sum what a method merges over its experts, going on from a smaller sum.

        Args:
            variant: a merge by a method that takes nothing but a sum.

        Returns:
            [*shape], float64.
        """
        method, options = variant.method, variant.options
        of_experts = method.sum_of == "experts"
        key = "experts" if of_experts else ("sum", *sparsify_key(method, options))
        known = self._sums.setdefault(key, {})
        members = frozenset(variant.members)
        if members not in known:
            smaller = max((s for s in known if s < members), key=len, default=None)
            numbers = iter(sorted(members - (smaller or frozenset())))
            summed = (
                self._addend(method, options, next(numbers)).double()
                if smaller is None
                else known[smaller].clone()
            )
            for number in numbers:
                summed += self._addend(method, options, number)
            self._check_experts(summed)
            known[members] = summed
        return known[members]

    def _argument(
        self, argument: str, method: Method, options: Mapping[str, Option], whole: Whole
    ) -> Tensor | None:
        match argument:
            case "experts":
                return self.experts()
            case "pretrained":
                return self.pretrained()
            case "task_vectors":
                return self.task_vectors(method, options)
            case "trimmed":
                if not method.takes_trimmed(options):
                    return None
                return self.trimmed(method, options, whole.trims)
            case "uniform":
                return self.uniform()
            case "norms":
                assert whole.norms is not None, "norms are taken before merging"
                return whole.norms.to(self._reading.device)
            case "fisher" | "signs" | "coefficients" | "grams" | "gradients":
                return self._statistic(argument)
            case _:
                raise ValueError(f"The engine has no {argument!r} for a method.")

    def experts(self) -> Tensor:
        """Put the parameter of every expert together.

        Returns:
            [expert, *shape], float32.

        Raises:
            NonFiniteError: if an expert's holds NaN or infinity.
        """
        if "experts" not in self._found:
            stacked = self._stack(self._rows["experts"])
            if not is_finite(stacked):
                raise NonFiniteError(
                    bad_parameter(self._reading.experts, self.name, stacked)
                )
            self._found["experts"] = stacked
            self._give_up("experts")
        return self._found["experts"]

    def pretrained(self) -> Tensor:
        """Give the pretrained parameter.

        Returns:
            [*shape], float32.

        Raises:
            NonFiniteError: if it holds NaN or infinity.
        """
        if "pretrained" not in self._found:
            (row,) = self._rows["pretrained"]
            base = self._to_device(row[self._within]).view(self.shape)
            if not is_finite(base):
                raise NonFiniteError(
                    f"The pretrained model has NaN or infinity in its parameter "
                    f"{self.name!r}."
                )
            self._found["pretrained"] = base
        return self._found["pretrained"]

    def raw_task_vectors(self) -> Tensor:
        """Subtract the pretrained parameter from every expert's.

        Returns:
            [expert, *shape], float32.
        """
        if "task_vectors" not in self._found:
            base = self.pretrained()
            changes = base.new_empty((len(self._reading.experts), *self.shape))
            for row, change in zip(self._rows["experts"], changes, strict=True):
                own = self._to_device(row[self._within]).view(self.shape)
                torch.sub(own, base, out=change)
            self._check_experts(changes)
            self._found["task_vectors"] = changes
            self._give_up("experts")
        return self._found["task_vectors"]

    def task_vectors(self, method: Method, options: Mapping[str, Option]) -> Tensor:
        """Give the task vectors as a method sees them: sparsified, if it does that.

        Args:
            method: the method.
            options: the recipe's options.

        Returns:
            [expert, *shape], float32.
        """
        key = sparsify_key(method, options)
        if not key:
            return self.raw_task_vectors()
        if key not in self._found:
            given = {name: options[name] for name in method.sparsified_options}
            if method.mark is not None:
                marks, shape = self._piece.marks, self._piece.shape
                if key not in marks:
                    marks[key] = method.mark(self._stretch, shape, **given)
                change = self.raw_task_vectors()
                kept = marks[key][:, self._within].view(change.shape)
                self._found[key] = change.where(kept, 0)
            elif method.sparsify is not None:
                found = {
                    "task_vectors": self.raw_task_vectors,
                    "uniform": self.uniform,
                }
                tensors = [found[name]() for name in method.sparsify_arguments]
                shape = tensors[0].shape
                if method.by_rows:
                    tensors = [self._in_rows(tensor) for tensor in tensors]
                self._found[key] = method.sparsify(*tensors, **given).view(shape)
        return self._found[key]

    def magnitudes(self, method: Method, options: Mapping[str, Option]) -> Tensor:
        """Give what decides which entries of the task vectors are kept.

        Args:
            method: a method that trims.
            options: the recipe's options.

        Returns:
            [expert, *shape], not negative.
        """
        if options["selection"] == "random":
            return self._draw(SELECTION)
        return self.task_vectors(method, options).abs()

    def trimmed(
        self,
        method: Method,
        options: Mapping[str, Option],
        trims: list[TrimThreshold] | None,
    ) -> Tensor:
        """Set all but a model's largest entries to zero.

        Args:
            method: a method that trims.
            options: the recipe's options.
            trims: the threshold of each expert; None where all entries are kept.

        Returns:
            [expert, *shape], float32.
        """
        if trims is None:
            return self.task_vectors(method, options)
        key = trim_key(method, options)
        if key not in self._found:
            self._found[key] = self._trim(key, method, options, trims)
        return self._found[key]

    def uniform(self) -> Tensor:
        """Draw a number for every entry.

        Returns:
            [expert, *shape], in [0, 1).
        """
        return self._draw("")

    def is_unchanged(self, members: Sequence[int], *, with_base: bool) -> bool:
        """Tell whether the stretch is the same in all models.

        Args:
            members: the experts that are merged.
            with_base: whether the pretrained model is one of the models.

        Returns:
            Whether all are equal, entry by entry.
        """
        experts = self._rows_of(self.experts(), members)
        reference = self.pretrained() if with_base else experts[0]
        # Nearly all that differ do so at once.
        first = experts.reshape(len(experts), -1)[:, :16]
        if not bool((first == reference.reshape(-1)[:16]).all()):
            return False
        return bool((experts == reference).all())

    def _in_rows(self, tensor: Tensor) -> Tensor:
        *_, length = 1, *self._piece.shape
        rows = (self.stop - self.start) // max(length, 1)
        return tensor.view(len(tensor), rows, length)

    def _expert(self, number: int) -> Tensor:
        row = self._rows["experts"][number][self._within]
        return self._to_device(row).view(self.shape)

    def _addend(
        self, method: Method, options: Mapping[str, Option], number: int
    ) -> Tensor:
        if method.sum_of == "experts":
            return self._expert(number)
        if sparsify_key(method, options):
            return self.task_vectors(method, options)[number]
        return self._expert(number) - self.pretrained()

    def _check_experts(self, computed: Tensor) -> None:
        # What is computed from them is finite if they are, and they are not all read
        # again to see it.
        if not is_finite(computed):
            self.experts()

    def _rows_of(self, tensor: Tensor, members: Sequence[int]) -> Tensor:
        if len(members) == len(self._reading.experts):
            return tensor
        if list(members) == list(range(members[0], members[-1] + 1)):
            return tensor[members[0] : members[-1] + 1]
        return tensor[list(members)]

    def _trim(
        self,
        key: TrimKey,
        method: Method,
        options: Mapping[str, Option],
        trims: list[TrimThreshold],
    ) -> Tensor:
        task_vectors = self.task_vectors(method, options)
        if options["selection"] == "threshold":
            return keep_largest(task_vectors, self.name, trims, None)
        if key not in self._ties_left:
            counts = [trim.ties_kept.get(self.name, 0) for trim in trims]
            self._ties_left[key] = torch.tensor(counts, device=task_vectors.device)
        ties_left = self._ties_left[key]  # more blocks may follow
        if options["selection"] != "random":
            return keep_largest(task_vectors, self.name, trims, ties_left)
        draws = self._draw(SELECTION)
        thresholds = draws.new_tensor([trim.threshold for trim in trims])
        kept = kept_entries(draws, thresholds, ties_left)
        assert kept.ties_left is not None, "ties are counted"
        self._ties_left[key] = kept.ties_left
        return task_vectors.where(kept.entries, 0)

    def _stretch(self, start: int, stop: int) -> Tensor:
        stretch = Block(self._reading, self._piece, start, stop, None, {})
        return stretch.raw_task_vectors()

    def _draw(self, purpose: str) -> Tensor:
        key = "draw", purpose
        if key not in self._found:
            parameter = f"{self.name}/{purpose}" if purpose else self.name
            seed, shape = self._reading.seed, self.shape
            draws = [
                uniform(seed, expert, parameter, shape, start=self.start)
                for expert in self._reading.experts
            ]
            self._found[key] = torch.stack(draws).to(self._reading.device)
        return self._found[key]

    def _statistic(self, argument: str) -> Tensor | None:
        if argument not in self._found:
            if argument not in self._rows:
                return None
            rows = self._rows[argument]
            if argument in {"fisher", "signs"}:
                stacked = self._stack(rows)
            elif argument == "coefficients":
                stacked = self._to_device(rows[0])[None]
            else:
                width = math.isqrt(rows[0].numel())
                stacked = torch.stack([self._to_device(row) for row in rows])
                stacked = stacked.view(len(rows), width, width)
            if not is_finite(stacked):
                names = self._reading.experts
                raise NonFiniteError(bad_statistic(argument, names, self.name, stacked))
            is_shared = argument in {"signs", "coefficients"}
            self._found[argument] = stacked[0] if is_shared else stacked
            self._give_up(argument)
        return self._found[argument]

    def _give_up(self, argument: str) -> None:
        if self.is_last:
            self._rows.pop(argument, None)

    def _stack(self, rows: list[Tensor]) -> Tensor:
        stacked = torch.empty(
            (len(rows), self.stop - self.start),
            dtype=torch.float32,
            device=self._reading.device,
        )
        for into, row in zip(stacked, rows, strict=True):
            into.copy_(row[self._within])
        return stacked.view(len(rows), *self.shape)

    def _to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._reading.device, torch.float32)
