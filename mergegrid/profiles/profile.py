"""The profile of several experts' task vectors: one pass for everything there is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from mergegrid.blocks import Block
from mergegrid.cohort import Cohort
from mergegrid.errors import InputError
from mergegrid.methods import get_method
from mergegrid.methods.needs import Need
from mergegrid.methods.tall_masks import (
    MergeBy,
    multi_task_vector_flops,
    tall_mask_flops,
)
from mergegrid.methods.ties import elect
from mergegrid.parameters import Parameters
from mergegrid.profiles.agreement import Agreement, AgreementCounts
from mergegrid.profiles.conflicts import Conflicts, conflicts_flops, count_conflicts
from mergegrid.profiles.magnitudes import (
    Magnitudes,
    MagnitudeSums,
    magnitudes_flops,
)
from mergegrid.sources import InMemory
from mergegrid.statistics.trim import TrimThreshold
from mergegrid.surveying import measure
from mergegrid.variant import TrimKey, Variant, Whole

EVERYTHING = 1.0
"""The density at which nothing is trimmed."""

ELECTION_FLOPS = 4
"""Operations to elect the sign of an entry, for each expert; see `ties_flops`."""


@dataclass(frozen=True)
class Profile:
    """What the task vectors of several experts have in common, and what not."""

    experts: tuple[str, ...]
    """The experts."""

    conflicts: Mapping[float, Conflicts]
    """Density to how they disagree in sign; always there untrimmed, at density 1."""

    magnitudes: Mapping[float, tuple[Magnitudes, ...]]
    """Density to how large merged entries are."""

    agreements: tuple[Agreement, ...]
    """What masks select: of the sum of the task vectors, and of TIES' sum at each
    density; at each threshold."""


def profile(
    experts: Mapping[str, Parameters],
    pretrained: Parameters,
    trims: Mapping[str, Mapping[float, TrimThreshold]] | None = None,
    *,
    densities: Sequence[float] = (0.2,),
    mask_thresholds: Sequence[float] = (),
    device: torch.device | str = "cpu",
) -> Profile:
    """Profile the task vectors of several experts, over the whole model.

    Task vectors are read, trimmed and elected from as merges do it: the entries that
    are kept are those that TIES keeps at the same density, and where task vectors
    cancel, the majority's sign is elected.

    Args:
        experts: parameters by expert, of one layout.
        pretrained: what they were fine-tuned from.
        trims: expert to density to threshold, as far as it is known; thresholds are
            searched for where it is not.
        densities: the fractions of entries to keep, each in [0, 1].
        mask_thresholds: the thresholds of masks; none for no masks.
        device: where arithmetic happens.

    Returns:
        The profile.

    Raises:
        InputError: if there is no expert, or a density is not in [0, 1].
        LayoutError: if models do not fit one another.
        NonFiniteError: if a model holds NaN or infinity.
    """
    if not experts:
        raise InputError("There is nothing to profile: give at least one expert.")
    cohort = Cohort(
        {name: InMemory(parameters) for name, parameters in experts.items()},
        InMemory(pretrained),
        {Need.TRIM: trims or {}},
        seed=0,
        device=torch.device(device),
    )
    wanted = dict.fromkeys((EVERYTHING, *densities))
    variants = {
        density: cohort.variant(get_method("ties").recipe({"density": density}))
        for density in wanted
    }
    found = measure(cohort, [*variants.values()])
    wholes = dict(zip(variants, found.wholes.values(), strict=True))
    counts = _Counts(len(experts), variants, wholes, densities, mask_thresholds)
    ties_left: dict[TrimKey, torch.Tensor] = {}
    reading = {name: [*variants.values()] for name in cohort.parameters}
    for piece in cohort.pieces(reading):
        if piece.span.start == 0:
            ties_left = {}
        for block in cohort.blocks(piece, ties_left):
            counts.add(block)
    return Profile(
        tuple(experts),
        counts.conflicts,
        {d: tuple(sums.found()) for d, sums in counts.magnitudes.items()},
        tuple(one for masks in counts.masks.values() for one in masks.found()),
    )


class _Counts:
    """Everything that is counted, block by block."""

    def __init__(
        self,
        experts: int,
        variants: Mapping[float, Variant],
        wholes: Mapping[float, Whole],
        densities: Sequence[float],
        mask_thresholds: Sequence[float],
    ) -> None:
        self._variants = variants
        self._wholes = wholes
        self.conflicts = dict.fromkeys(variants, Conflicts())
        self.magnitudes = {density: MagnitudeSums(experts) for density in densities}
        thresholds = tuple(dict.fromkeys(mask_thresholds))
        masked: list[tuple[MergeBy, float]] = [
            ("task_arithmetic", EVERYTHING),
            *(("ties", density) for density in densities),
        ]
        self.masks = {
            (merge_by, density): AgreementCounts(
                experts, merge_by=merge_by, density=density, mask_thresholds=thresholds
            )
            for merge_by, density in masked
            if thresholds
        }

    def add(self, block: Block) -> None:
        task_vectors = block.raw_task_vectors()
        raw_balance = self._wholes[EVERYTHING].surveys.get("balance")
        for density, variant in self._variants.items():
            whole = self._wholes[density]
            balance = whole.surveys.get("balance")
            trimmed = block.trimmed(variant.method, variant.options, whole.trims)
            elected = elect(trimmed, balance)
            self.conflicts[density] += count_conflicts(trimmed, elected)
            if density in self.magnitudes:
                balances = raw_balance, balance
                self.magnitudes[density].add(task_vectors, trimmed, balances)
            for (_, of_density), masks in self.masks.items():
                if of_density == density:
                    masks.add(task_vectors, trimmed, balance)


def profile_flops(
    entries: int, experts: int, densities: Sequence[float], mask_thresholds: int
) -> int:
    """Count the floating-point operations of a profile.

    Args:
        entries: n, the number of entries of a task vector.
        experts: their number M.
        densities: those that are profiled.
        mask_thresholds: how many thresholds of masks.

    Returns:
        For each entry M differences; untrimmed and at each density twice 4M to elect
        a sign, as the survey elects too, and the count of conflicts; at each density
        the magnitudes, and 3M to trim; the merged task vectors and the masks on them.
        Finding trim thresholds is a statistic's cost and not counted here.
    """
    several = len({EVERYTHING, *densities})
    disagreeing = 2 * ELECTION_FLOPS * experts + conflicts_flops(experts)
    each = experts + several * disagreeing
    each += len(densities) * (magnitudes_flops(experts) + 3 * experts)
    if mask_thresholds:
        each += multi_task_vector_flops(experts, "task_arithmetic")
        each += len(densities) * multi_task_vector_flops(experts, "ties")
        masks = (1 + len(densities)) * mask_thresholds
        each += masks * tall_mask_flops(experts, "inclusive")
    return each * entries
