"""What a comparison and a sweep share: a model, attributes, what is drawn, judges, and where results are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pplm.attached import steering_presets
from pplm.comparison.attributes import Attribute
from pplm.comparison.pool import Arm, PoolPlan, Pools, draw_pools
from pplm.comparison.rivals import RIVALS, Request
from pplm.comparison.run_settings import check_settings, write_settings
from pplm.comparison.samples import SampleFiles
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.evaluation import Judge, check_independent
from pplm.interface import bind_attributes, weigh_attributes
from pplm.models.fingerprint import public_name, weight_hashes
from pplm.models.processes import Processes
from pplm.models.surroundings import surroundings_of
from pplm.presets import PresetName
from pplm.text.encoding import encode_prompt
from pplm.text.limits import check_length


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """A language model, and all it takes to draw its texts, measure them and keep the results.

    Attributes
    ----------
    model, tokenizer
        As `pplm.load_model` returns them.
    attributes
        By name.
    plan
        How many texts are drawn for each prompt, and how.
    output
        Folder for texts, tables, report and pictures. An interrupted run in it is continued.
    steering
        Fields of `SteeringConfig` that replace the preset's, such as {"step_size": 0.3}.
    preset
        "paper", "fast", or None for what `pplm.generate` takes by default.
    judges
        They read the texts of all attributes; held-out heads belong to their `Attribute`. Only the main process needs
        them.
    insist_judge
        Allow the steered model as its own judge; the report then says so.
    paper
        The paper's table to show beside the numbers ("topics", "sentiment"); None for none.
    notes
        Sentences for the report that a reader needs to interpret the numbers.
    processes
        Those of `accelerate launch`. Only the main one measures texts, writes the report and returns results.

    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    attributes: Mapping[str, Attribute]
    plan: PoolPlan
    output: Path
    steering: Mapping[str, Any] = field(default_factory=dict)
    preset: PresetName | None = None
    judges: Sequence[Judge] = ()
    insist_judge: bool = False
    paper: str | None = None
    notes: Sequence[str] = ()
    processes: Processes = field(default_factory=Processes)

    def __post_init__(self) -> None:
        """Refuse a study without attributes, or one whose judge is the steered model; load nothing.

        Raises
        ------
        InputError
            If it is refused, or a field of `steering` cannot be used.

        """
        if not self.attributes:
            raise InputError("attributes is empty; give at least one")
        found = [check_independent(judge, self.model, insist=self.insist_judge) for judge in self.judges]
        known = steering_presets(self.model)
        presets = [
            SteeringConfig.preset_for(own.models, known, self.preset, **self.steering)
            for own in self.attributes.values()
        ]
        dial = "".join(f", {name} {self.steering[name]}" for name in ("strength", "target") if name in self.steering)
        steered = [f"Steered with {preset}{dial}." for preset in presets]
        object.__setattr__(self, "notes", list(dict.fromkeys([*self.notes, *filter(None, found), *steered])))
        object.__setattr__(self, "output", Path(self.output))

    def arm(self, attribute: str, name: str, **settings: Any) -> Arm:
        """Return the arm that steers towards an attribute with the preset, changed by `steering` and `settings`."""
        models, presets = self.attributes[attribute].models, steering_presets(self.model)
        changes = {**self.steering, **settings}
        config = SteeringConfig.for_attributes(models, presets=presets, preset=self.preset, **changes)
        return Arm(name, attribute, config)

    def rival_arms(self, method: str, strength: float | None, names: Mapping[str, str]) -> list[Arm]:
        """Return a rival's arms for the attributes that it has a meaning for; `names` maps attributes to arm names.

        Raises
        ------
        InputError
            If it has a meaning for none of them, or something that it reads is missing.

        """
        rival = RIVALS[method]
        strength = rival.check_strength(method, rival.default_strength if strength is None else strength)
        arms = []
        for name, arm in names.items():
            weighted = weigh_attributes(self.attributes[name].models)
            if all(rival.fits(attribute.model) for attribute in weighted):
                bound = bind_attributes(weighted, self.model)
                made = rival.of(Request(self.model, name, bound, strength, self.plan.sampling))
                arms.append(Arm(arm, name, rival=made))
        if not arms:
            raise InputError(
                f"method {method} has no meaning for {', '.join(names)}: it needs {rival.needs}; leave it out of the "
                "methods"
            )
        return arms

    def draw(self, plan: PoolPlan, arms: Sequence[Arm], on_progress: Callable[[int, int], None] | None) -> Pools:
        """Draw the texts that the output folder lacks, and return all of them.

        Raises
        ------
        InputError
            If a prompt is too long for the model, or the folder holds texts made with other settings.

        """
        prompts = {arm.rival.prompt(text) if arm.rival else text for arm in arms for text in plan.prompts}
        longest = max(len(encode_prompt(self.model, self.tokenizer, prompt, bos=plan.bos)) for prompt in prompts)
        horizon = max(arm.steering.horizon_length for arm in arms)
        check_length(self.model, longest, longest + plan.new_tokens, horizon)
        settings, surroundings = self.settings(plan, arms), self.surroundings
        check_settings(self.output, settings, surroundings)
        self.processes.wait()
        if self.processes.main:
            write_settings(self.output, settings, surroundings)
        self.processes.wait()
        files = SampleFiles(self.output, index=self.processes.index, count=self.processes.count)
        models = {name: attribute.models for name, attribute in self.attributes.items()}
        return draw_pools(self.model, self.tokenizer, plan, arms, models, files,
                          processes=self.processes, on_progress=on_progress)  # fmt: skip

    def findings(self, plan: PoolPlan, arms: Sequence[Arm], *notes: str, **more: Any) -> dict[str, Any]:
        """Return `Findings` but for rows, texts and pictures; `notes` join the study's, `more` the surroundings."""
        heads = {attribute.head.name for attribute in self.attributes.values() if attribute.head is not None}
        judges = [*(judge.name for judge in self.judges), *sorted(heads)]
        surroundings = {**self.surroundings, "processes": self.processes.count, **more, "judges": judges}
        return {
            "model": public_name(self.model),
            "judges": judges,
            "notes": [*self.notes, *notes],
            "settings": self.settings(plan, arms),
            "surroundings": surroundings,
        }

    def settings(self, plan: PoolPlan, arms: Sequence[Arm]) -> dict[str, Any]:
        """Return everything that the texts depend on."""
        return {
            "model": public_name(self.model),
            "weights": weight_hashes(self.model)["float32"],
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "attributes": {name: attribute.identity for name, attribute in self.attributes.items()},
            **asdict(plan),
            "arms": {arm.name: arm.settings for arm in arms},
        }

    @property
    def surroundings(self) -> dict[str, Any]:
        """Versions and devices."""
        return surroundings_of(self.model)
