"""Documents of lm-evaluation-harness's tasks, as texts with choices.

The harness makes the prompts, with examples before the question if the task has some,
so that a model is asked by us what it would be asked by the harness, token for token.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from datasets import Dataset

from mergegrid.errors import InputError, UnknownNameError
from mergegrid.suites.harness import Harness, quiet_harness
from mergegrid.suites.harness_data import HarnessData
from mergegrid.suites.text_data import Selection
from mergegrid.suites.texts import Text

Document: TypeAlias = Any
"""What a task asks about; what it is depends on the task."""

Asked: TypeAlias = tuple[str, list[str], Any]
"""What the harness makes of a document: the prompt, the choices and the right one."""


class HarnessDocuments:
    """A task with its data.

    Args:
        data: the task's data.
        shots: how many examples stand before a question; None for what the task says.
        seed: decides which examples.

    Raises:
        InputError: if the data cannot be read, or the task cannot be made with them.
    """

    def __init__(self, data: HarnessData, shots: int | None, seed: int) -> None:
        self._name = data.task.name
        self._evaluated = data.task.evaluated
        self._seed = seed
        self._processed: dict[str, Sequence[Document]] = {}
        self._made: dict[str, list[Asked]] = {}
        opened = data.open()
        try:
            with quiet_harness():
                self._task = _task(data, opened)
        except Exception as error:
            raise self._error("it cannot be made", error) from None
        if self._task.multiple_input:
            raise InputError(
                f"The harness's task {self._name} asks which question goes with an "
                f"answer; only choices among answers can be used."
            )
        own = self._task.config.num_fewshot
        self._shots = (own or 0) if shots is None else shots

    def rows(self, selection: Selection) -> list[int]:
        """Select documents.

        Args:
            selection: which of them.

        Returns:
            Their places in the split.
        """
        return selection.of(range(len(self._documents(selection.split))))

    def texts(self, selection: Selection) -> Iterator[Text]:
        """Make texts of documents.

        Args:
            selection: which of them.

        Yields:
            The texts. White space that ends a prompt goes before the answers, as the
            harness has it, for few tokens end in it.

        Raises:
            InputError: if a document has no answer, or several.
        """
        asked = self._asked(selection.split)
        for row in self.rows(selection):
            context, choices, target = asked[row]
            right = choices.index(target) if target in choices else target
            if not isinstance(right, int) or not 0 <= right < len(choices):
                raise InputError(
                    f"Document {row} of the split {selection.split} has the answer "
                    f"{target!r}, which is none of its {len(choices)} choices."
                )
            prompt = context.rstrip()
            separator = context[len(prompt) :] + self._task.config.target_delimiter
            yield Text(prompt, (choices[right],), tuple(choices), separator=separator)

    def _documents(self, split: str) -> Sequence[Document]:
        if split not in self._task.dataset:
            thing = f"split of the harness's task {self._name}"
            raise UnknownNameError(thing, split, self._task.dataset)
        if split not in self._processed:
            documents = self._task.dataset[split]
            process = self._task.config.process_docs
            self._processed[split] = process(documents) if process else documents
        return self._processed[split]

    def _asked(self, split: str) -> list[Asked]:
        if split not in self._made:
            documents = self._documents(split)
            try:
                with quiet_harness():
                    self._made[split] = list(self._ask(split, documents))
            except Exception as error:
                raise self._error(f"no prompts from its split {split}", error) from None
        return self._made[split]

    def _ask(self, split: str, documents: Sequence[Document]) -> Iterator[Asked]:
        # One stream of draws for all documents, in order, as in `simple_evaluate`.
        task = self._task
        task.set_fewshot_seed(self._seed)
        sampler = task.sampler
        try:
            for document in documents:
                if split != self._evaluated:
                    task.sampler = _Others(sampler, document)
                context = task.fewshot_context(
                    document,
                    num_fewshot=self._shots,
                    gen_prefix=task.doc_to_prefix(document),
                )
                choices = task.doc_to_choice(document)
                yield context, choices, task.doc_to_target(document)
        finally:
            task.sampler = sampler

    def _error(self, what: str, error: Exception) -> InputError:
        reason = " ".join(str(error).split()).rstrip(".")
        return InputError(
            f"The harness's task {self._name}: {what} "
            f"({type(error).__name__}: {reason})."
        )


class _Others:
    """Draws examples other than the document that is asked about.

    The harness looks for it among them only on the split that it evaluates on.
    """

    def __init__(self, sampler: Harness, document: Document) -> None:
        self._sampler = sampler
        self._document = document

    def sample(self, n: int, eval_doc: Document = None) -> Sequence[Document]:
        return self._sampler.sample(n=n, eval_doc=eval_doc or self._document)


def _task(data: HarnessData, opened: Mapping[str, Dataset]) -> Harness:
    """Make the harness's own task, of data that are open already."""
    from lm_eval.api.task import ConfigurableTask

    # `TaskManager`, which reads files in public, would fetch the data by itself.
    from lm_eval.tasks._yaml_loader import load_yaml

    config = load_yaml(data.task.file, resolve_func=True)
    for key in ("tag", "task_list"):
        config.pop(key, None)

    def there(**_: object) -> Mapping[str, Dataset]:
        return opened

    return ConfigurableTask(config=config | {"custom_dataset": there})
