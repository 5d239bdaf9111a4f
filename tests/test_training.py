"""Training a head: the report, the card, and what is left out."""

import json
import math

import pytest
import torch
from tiny_training import sentences, tiny_model, tiny_tokenizer
from torch.nn.functional import cross_entropy

import pplm
from attribute_models import (
    Discriminator,
    LabelledData,
    TrainingConfig,
    classify_texts,
    extract_features,
    train_discriminator,
)
from attribute_models import training as training_module
from attribute_models.linear_head import fit_linear_head


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def data():
    return LabelledData.from_texts(*sentences(240))


CONFIG = TrainingConfig(prefix_lengths=(3, 6), test_fraction=0.25)


@pytest.fixture(scope="module")
def trained(model, tokenizer, data):
    return train_discriminator(model, tokenizer, data, config=CONFIG, name="mood", citation="Own work.", cache_dir=None)


def test_a_head_learns_what_even_a_random_model_shows(trained):
    assert trained.report.test["whole texts"].accuracy > 0.8
    assert trained.report.majority == 0.5
    assert list(trained.report.test) == ["first 3 tokens", "first 6 tokens", "whole texts"]


def test_the_report_grades_the_head_that_is_returned(trained, model, tokenizer, data):
    rows = data.split((CONFIG.validation_fraction, CONFIG.test_fraction), CONFIG.seed)[2]
    probabilities = classify_texts(model, tokenizer, trained.discriminator, [data.texts[row] for row in rows])
    right = (probabilities.argmax(-1).numpy() == data.targets[rows]).mean()
    assert right == pytest.approx(trained.report.test["whole texts"].accuracy)
    assert probabilities.sum(-1).tolist() == pytest.approx([1.0] * len(rows))


def test_joined_labels_are_in_the_report_and_the_card(model, tokenizer):
    texts, labels = sentences(60)
    labels = ["Good" if number < 6 and label == "good" else label for number, label in enumerate(labels)]
    trained = train_discriminator(model, tokenizer, LabelledData.from_texts(texts, labels), cache_dir=None)
    assert trained.discriminator.labels == ("bad", "good")
    assert trained.report.folded_labels == trained.discriminator.card["data"]["folded_labels"] == {"Good": 3}


def test_labels_that_say_nothing_are_not_learned(model, tokenizer):
    texts, labels = sentences(240)
    shuffled = [labels[(7 * n) % 240 // 120] for n in range(240)]
    report = train_discriminator(model, tokenizer, LabelledData.from_texts(texts, shuffled), config=CONFIG,
                                 cache_dir=None).report  # fmt: skip
    assert report.test["whole texts"].accuracy < 0.7


def test_the_test_split_is_not_trained_on(model, tokenizer, data, monkeypatch):
    seen = []
    real = training_module.fit_linear_head

    def spy(train, validation, *args, **kwargs):
        seen.extend((train[0], validation[0]))
        return real(train, validation, *args, **kwargs)

    monkeypatch.setattr(training_module, "fit_linear_head", spy)
    train_discriminator(model, tokenizer, data, config=TrainingConfig(random_prefixes=0), cache_dir=None)
    parts = data.split((0.1, 0.1), 0)
    whole = extract_features(model, tokenizer, data.texts).whole
    assert [len(part) for part in seen] == [len(parts[0]), len(parts[1])]
    distance = torch.cdist(whole[parts[2]], torch.cat(seen)).min(1).values
    # A bag of the same words in another order is another text: no test text's features were among the examples.
    assert (distance > 1e-5).all()


def test_random_prefixes_multiply_the_examples(model, tokenizer, data, monkeypatch):
    sizes = []
    real = training_module.fit_linear_head
    monkeypatch.setattr(
        training_module,
        "fit_linear_head",
        lambda train, *a, **k: (sizes.append(len(train[1])), real(train, *a, **k))[1],
    )
    for number in (0, 3):
        train_discriminator(model, tokenizer, data, config=TrainingConfig(random_prefixes=number), cache_dir=None)
    assert sizes == [192, 4 * 192]


def test_the_same_seed_gives_the_same_head_and_another_seed_another(model, tokenizer, data, trained):
    again = train_discriminator(model, tokenizer, data, config=CONFIG, name="mood", citation="Own work.",
                                cache_dir=None)  # fmt: skip
    other = train_discriminator(model, tokenizer, data, config=TrainingConfig(seed=1), cache_dir=None)
    assert torch.equal(again.discriminator.weight, trained.discriminator.weight)
    assert again.discriminator.card == trained.discriminator.card
    assert not torch.equal(other.discriminator.weight, trained.discriminator.weight)


def test_a_second_training_does_not_call_the_model(model, tokenizer, data, tmp_path, monkeypatch):
    monkeypatch.setenv("PPLM_CACHE", str(tmp_path))
    first = train_discriminator(model, tokenizer, data)
    monkeypatch.setattr(type(model.base_model), "forward", None)
    second = train_discriminator(model, tokenizer, data, config=TrainingConfig(seed=5))
    assert (first.report.features_from_cache, second.report.features_from_cache) == (False, True)
    assert [path.name for path in tmp_path.iterdir()] == ["features"]


def test_a_saved_head_has_a_card_that_tells_its_origin_and_no_place(trained, model, tmp_path):
    trained.save(tmp_path / "mood")
    assert sorted(path.name for path in (tmp_path / "mood").iterdir()) == [
        "card.json",
        "class_means.safetensors",
        "confusion.png",
        "head.safetensors",
    ]
    text = (tmp_path / "mood" / "card.json").read_text(encoding="utf-8")
    card = json.loads(text)
    assert card["labels"] == ["bad", "good"]
    assert card["data"]["citation"] == "Own work."
    assert card["data"]["splits"] == {"train": 156, "validation": 24, "test": 60}
    assert card["test"]["whole texts"]["accuracy"] == round(trained.report.test["whole texts"].accuracy, 4)
    assert str(tmp_path) not in text
    Discriminator.load(tmp_path / "mood", "good").for_model(model)


def test_steering_with_a_trained_head_moves_its_own_class(trained, model, tokenizer):
    config = pplm.SteeringConfig(step_size=0.5, num_iterations=5, gm_scale=1.0, horizon_length=1)
    losses = {}
    for label in ("good", "bad"):
        (text,) = pplm.generate(model, tokenizer, "the room", attributes=[trained.discriminator.towards(label)],
                                steering=config, max_new_tokens=1, do_sample=False)  # fmt: skip
        losses[label] = text.attribute_loss[0]
    assert losses["good"][-1] < losses["good"][0]
    assert losses["bad"][-1] < losses["bad"][0]


def random_problem(classes=3, rows=300, width=8):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(rows, width, generator=generator) @ torch.randn(width, width, generator=generator) * 5 + 3
    features[:, 0] = 2.0  # a dead feature
    targets = (features[:, 1:4] + 4 * torch.randn(rows, 3, generator=generator)).argmax(-1)
    return features, targets % classes


def test_the_fit_is_the_minimum_of_the_penalised_loss_in_any_number_of_classes():
    features, targets = random_problem()
    fit = fit_linear_head((features, targets), (features, targets), torch.ones(3), l2=[0.1], max_iterations=200)
    deviation = features.std(0, unbiased=False).clamp(min=1e-6)
    weight = (fit.weight * deviation).requires_grad_()
    standard = (features - features.mean(0)) / deviation
    bias = fit.bias + fit.weight @ features.mean(0)
    loss = cross_entropy(standard @ weight.T + bias, targets) + 0.05 * weight.square().sum()
    (gradient,) = torch.autograd.grad(loss, weight)
    assert gradient.abs().max() < 1e-4
    assert weight.abs().max() > 0.01


@pytest.mark.parametrize("constant", [0.0, 0.1, 3.7, 100.3, -1e4])
@pytest.mark.parametrize("l2", [0.0, 1e-4])
def test_a_feature_that_never_varies_has_weight_0(constant, l2):
    random = torch.Generator().manual_seed(0)
    targets = torch.randint(2, (96,), generator=random)
    features = torch.randn(96, 8, generator=random)
    features[:, 0] += 2 * targets
    features[:, 3] = constant
    features[:, 5] = constant + 1e-7 * torch.randn(96, generator=random)  # constant but for rounding
    fit = fit_linear_head(
        (features[:64], targets[:64]), (features[64:], targets[64:]), torch.ones(2), l2=[l2], max_iterations=100
    )
    assert fit.weight[:, [3, 5]].tolist() == [[0, 0], [0, 0]]
    assert fit.weight[:, 0].abs().min() > 0.1
    without = [column for column in range(8) if column not in (3, 5)]
    alone = fit_linear_head((features[:64, without], targets[:64]), (features[64:, without], targets[64:]),
                            torch.ones(2), l2=[l2], max_iterations=100)  # fmt: skip
    torch.testing.assert_close(fit.weight[:, without], alone.weight, atol=2e-2, rtol=2e-2)


def test_the_validation_split_chooses_the_penalty():
    features, targets = random_problem(rows=60)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randint(3, (60,), generator=generator)
    choices = [1e-4, 1e-2, 1.0, 100.0]
    learnable = fit_linear_head((features, targets), (features, targets), torch.ones(3), l2=choices, max_iterations=100)
    hopeless = fit_linear_head((features, noise), (features, targets), torch.ones(3), l2=choices, max_iterations=100)
    assert learnable.l2 == 1e-4
    assert hopeless.l2 == 100.0
    assert 1e-4 not in hopeless.validation_losses


def test_rare_classes_count_as_much_as_frequent_ones_unless_told_otherwise(model, tokenizer):
    texts, labels = sentences(600)
    keep = [n for n, label in enumerate(labels) if label == "bad" or n < 80]
    data = LabelledData.from_texts([texts[n] for n in keep], [labels[n] for n in keep])
    recall = {}
    for balance in (True, False):
        config = TrainingConfig(balance_classes=balance, test_fraction=0.3, random_prefixes=0, l2=(0.3,))
        report = train_discriminator(model, tokenizer, data, config=config, cache_dir=None).report
        wrong, right = report.test["whole texts"].confusion[1]
        recall[balance] = right / (right + wrong)
    assert recall[True] > recall[False]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("validation_fraction", 0.0),
        ("test_fraction", 1.0),
        ("test_fraction", math.nan),
        ("seed", -1),
        ("random_prefixes", -1),
        ("prefix_lengths", (0,)),
        ("l2", ()),
        ("l2", (-1.0,)),
        ("max_iterations", 0),
        ("batch_tokens", 0),
        ("seed", "0"),
        ("seed", 1.5),
        ("max_iterations", True),
        ("validation_fraction", "0.1"),
    ],
)
def test_settings_outside_their_range_are_refused_by_name(setting, value):
    with pytest.raises(pplm.InputError, match=setting):
        TrainingConfig(**{setting: value})


def test_fractions_must_leave_something_to_train_on():
    with pytest.raises(pplm.InputError, match="leave texts to train on"):
        TrainingConfig(validation_fraction=0.5, test_fraction=0.5)
