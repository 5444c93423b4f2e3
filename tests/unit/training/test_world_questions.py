"""Questions about scenes: every answer is checked against the scene by rules of this file's own."""

import re
from collections import Counter, defaultdict

import pytest

from janus_training.world.answers import Question, decide, is_right, verdict
from janus_training.world.captions import caption
from janus_training.world.compositions import is_held_out, relation_key, thing_key
from janus_training.world.outside import ONLY_SHAPES, outside_question
from janus_training.world.questions import QUESTION_KINDS, one_question, questions
from janus_training.world.scene_sampling import sample_scene
from janus_training.world.two_pictures import questions_about_two

SCENES = [sample_scene(seed, "test" if seed % 2 else "train") for seed in range(500)]
ASKED = [(scene, question) for seed, scene in enumerate(SCENES) for question in questions(scene, seed)]
OF_KIND = defaultdict(list)
for _scene, _question in ASKED:
    OF_KIND[_question.kind].append((_scene, _question))

COLOUR_WORDS = ["red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink"]
NUMBERS = ["zero", "one", "two", "three", "four"]
SINGULAR = {"crosses": "cross"} | {f"{s}s": s for s in ("circle", "square", "triangle", "diamond", "star")}


def chosen(scene, text):
    """Things that the last colour and shape words of `text` fit; "object" and "thing" fit all."""
    words = [SINGULAR.get(word, word) for word in re.findall(r"\w+", text.lower())]
    shapes = [word for word in words if word in SINGULAR.values()]
    colours = [word for word in words if word in COLOUR_WORDS]
    return [
        thing
        for thing in scene.things
        if (not shapes or thing.shape == shapes[-1]) and (not colours or thing.colour == colours[-1])
    ]


def said(question):
    """The answer, or what it comes to where it begins with a fact."""
    return verdict(question.answer).lower().rstrip(".")


def fact(question):
    return question.answer.lower().rsplit(", so ", 1)[0].rsplit(": ", 1)[0]


# Kinds


def test_every_kind_is_asked():
    assert set(OF_KIND) == set(QUESTION_KINDS)


def test_a_seed_always_gives_the_same_questions():
    assert questions(SCENES[0], 4) == questions(SCENES[0], 4)
    assert one_question(SCENES[0], 4) == one_question(SCENES[0], 4)


def test_every_question_is_a_sentence_and_accepts_its_own_answer():
    for _, question in ASKED:
        assert question.question[0].isupper()
        assert question.question[-1] in ".?"
        assert question.answer in question.accepted
        assert is_right(question, question.answer)


@pytest.mark.parametrize("kind", QUESTION_KINDS)
def test_single_questions_come_in_every_kind(kind):
    assert kind in {one_question(scene, seed).kind for seed, scene in enumerate(SCENES[:300])}


# Answers


def test_colours_are_those_of_the_shape():
    for scene, question in OF_KIND["colour"]:
        assert {thing.colour for thing in chosen(scene, question.question)} == {said(question)}


def test_shapes_are_those_of_the_colour():
    for scene, question in OF_KIND["shape"]:
        noun = said(question).split()[-1]
        assert {thing.shape for thing in chosen(scene, question.question)} == {SINGULAR.get(noun, noun)}


def test_sizes_are_those_of_the_thing():
    for scene, question in OF_KIND["size"]:
        assert {thing.size for thing in chosen(scene, question.question)} == {said(question)}


def test_numbers_are_counted():
    for scene, question in OF_KIND["count"]:
        assert NUMBERS[len(chosen(scene, question.question))] == said(question)


def test_places_are_where_the_thing_lies():
    for scene, question in OF_KIND["where"]:
        (thing,) = chosen(scene, question.question)
        answer = said(question)
        if answer.startswith("inside"):
            assert scene.relation == "inside"
            assert thing == scene.things[0]
            continue
        if (
            scene.relation == "inside"
        ):  # what the two are about is in the centre, wherever the box's middle is
            assert answer == "in the centre"
            continue
        assert ("left" in answer) == (thing.x < 0.365)
        assert ("right" in answer) == (thing.x > 0.635)
        assert ("top" in answer) == (thing.y < 0.365)
        assert ("bottom" in answer) == (thing.y > 0.635)


def holds(first, relation, second):
    return {
        "left of": first.x < second.x,
        "right of": first.x > second.x,
        "above": first.y < second.y,
        "below": first.y > second.y,
        "inside": abs(first.x - second.x) + abs(first.y - second.y) < 0.2 and first.radius < second.radius,
    }[relation]


RELATION = re.compile("left of|right of|above|below|inside")


def test_relations_hold_in_the_scene():
    for scene, question in OF_KIND["relation"]:
        told = question.question if RELATION.search(question.question) else said(question)
        relation = RELATION.search(told)[0]
        if told == said(question):
            first = re.split(" relative to | in relation to |, seen from | stand to ", question.question)[0]
            second = question.answer
        else:
            first, second = question.answer, question.question
        assert holds(chosen(scene, first)[0], relation, chosen(scene, second)[0])


def test_grounds_are_those_of_the_scene():
    assert all(said(question) == scene.ground.colour for scene, question in OF_KIND["ground"])


def test_contents_are_the_short_caption():
    assert all(question.answer == caption(scene, "short") for scene, question in OF_KIND["content"])


def test_absent_things_are_absent():
    assert not any(chosen(scene, question.question) for scene, question in OF_KIND["absent"])


def truth(scene, text):
    """Answer a yes-or-no question by reading it, or return None for a form this file does not know."""
    words = text.rstrip("?").split()
    if text.startswith("Is the background"):
        return scene.ground.colour == words[-1]
    relation = RELATION.search(text)
    if relation:
        first, second = text.split(relation[0])
        return holds(chosen(scene, first)[0], relation[0], chosen(scene, second)[0])
    number = next((NUMBERS.index(word) for word in words if word in NUMBERS), None)
    if number is not None:
        return len(chosen(scene, text)) == number
    if words[0] in ("Is", "Are") and words[1] == "the":
        things = chosen(scene, " ".join(words[2:-1]))
        return all(words[-1] in (thing.size, thing.colour) for thing in things)
    foreign = set(words) & {"black", "white", "grey", "brown"}
    return bool(chosen(scene, text)) and not foreign


def test_yes_and_no_are_true():
    for scene, question in OF_KIND["yes_no"] + OF_KIND["mix_up"]:
        assert truth(scene, question.question) == (said(question) == "yes"), (question, scene)


def test_every_verdict_begins_with_a_true_fact():
    judged = OF_KIND["yes_no"] + OF_KIND["mix_up"] + OF_KIND["compare"]
    assert all(fact(question) != question.answer.lower() for _, question in judged)
    for scene, question in OF_KIND["mix_up"]:
        assert fact(question).split()[-1] == chosen(scene, question.question.rsplit(" ", 1)[0])[0].colour
    for scene, question in OF_KIND["yes_no"]:
        told = fact(question)
        there = re.fullmatch("there (?:is|are) (.+)", told)
        if there and there[1] in NUMBERS:
            shape = re.sub("exactly|objects", "", question.question)
            assert NUMBERS[len(chosen(scene, shape))] == there[1]
        elif there:
            assert bool(chosen(scene, told)) != (" no " in told)
        elif told.startswith("the "):
            shown = {thing.colour for thing in chosen(scene, told.split()[1])}
            assert shown == set(re.findall("|".join(COLOUR_WORDS), told))


def test_relations_are_asked_from_both_sides():
    told = Counter(match[0] for _, q in OF_KIND["relation"] if (match := RELATION.search(said(q))))
    assert min(told[relation] for relation in ("left of", "right of", "above", "below")) > 10


def test_a_mixed_up_colour_is_always_one_of_the_picture():
    for scene, question in OF_KIND["mix_up"]:
        colour = question.question.rstrip("?").split()[-1]
        assert colour in {thing.colour for thing in scene.things}
        assert len({thing.colour for thing in scene.things}) > 1


def test_comparisons_are_true():
    for scene, question in OF_KIND["compare"]:
        text, answer = question.question, said(question)
        if text.startswith("Are there more"):
            more, fewer = (len(chosen(scene, part)) for part in text.split(" than "))
            assert (more > fewer) == (answer == "yes")
        elif answer in ("yes", "no"):
            attribute = re.search("colour|shape|size", text)[0]
            assert (len({getattr(thing, attribute) for thing in scene.things}) == 1) == (answer == "yes")
        else:
            parts = [chosen(scene, part)[0] for part in re.split(" or ", text)]
            best = (min if "smaller" in text else max)(parts, key=lambda thing: thing.radius)
            assert chosen(scene, answer) == [best]


# Balance


@pytest.mark.parametrize("kind", ["yes_no", "mix_up", "compare"])
def test_yes_and_no_are_balanced(kind):
    counts = Counter(said(question) for _, question in OF_KIND[kind])
    assert 0.42 < counts["yes"] / (counts["yes"] + counts["no"]) < 0.58


def test_false_suppositions_are_never_held_out():
    for scene, question in OF_KIND["yes_no"]:
        relation = RELATION.search(question.question)
        if said(question) == "yes":
            continue
        if relation:
            first, second = (chosen(scene, part)[0] for part in question.question.split(relation[0]))
            sorts = (first.colour, first.shape), (second.colour, second.shape)
            assert not is_held_out(relation_key(sorts[0], relation[0], sorts[1]))
        size = re.search(r"(small|medium|large)\?$", question.question)
        if size:
            thing = chosen(scene, question.question)[0]
            assert not is_held_out(thing_key(size[1], thing.colour, thing.shape))


# Outside the world


def test_questions_outside_the_world_get_plain_answers():
    answers = {outside_question(seed).answer for seed in range(300)}
    assert ONLY_SHAPES in answers
    assert any(answer.endswith(", so no.") for answer in answers)
    assert all(answer == ONLY_SHAPES or answer.startswith("There is no ") for answer in answers)


def test_test_questions_outside_the_world_were_never_trained_on():
    train = {outside_question(seed).question for seed in range(3000)}
    test = {outside_question(seed, "test").question for seed in range(300)}
    assert not train & test


# Judging answers


COLOUR = Question(kind="colour", question="What colour is it?", answer="Red.", accepted=("Red.", "it is red"))
CONTENT = Question(
    kind="content",
    question="What is in the picture?",
    answer="A red circle above a blue square.",
    accepted=("A red circle above a blue square.",),
)


MIX_UP = decide("mix_up", "Is the circle red?", "it is blue", is_yes=False)
COMPARE = Question(
    kind="compare",
    question="Which is larger, the red circle or the blue square?",
    answer="The first is small, the second large: the blue square.",
    accepted=("The first is small, the second large: the blue square.", "the blue square", "a blue square"),
)


@pytest.mark.parametrize(
    ("question", "text", "right"),
    [
        (COLOUR, "Red.", True),
        (COLOUR, " red ", True),
        (COLOUR, "It is red.", True),
        (COLOUR, "Blue.", False),
        (COLOUR, "", False),
        (CONTENT, "a blue square below a red circle", True),
        (CONTENT, "A red circle above a blue square", True),
        (CONTENT, "A red circle and a blue square.", False),
        (CONTENT, "A red circle left of a blue square.", False),
        (MIX_UP, "It is blue, so no.", True),
        (MIX_UP, "It is green, so no.", True),
        (MIX_UP, "No.", True),
        (MIX_UP, "It is blue, so yes.", False),
        (MIX_UP, "It is blue.", False),
        (COMPARE, "The first is small, the second large: the blue square.", True),
        (COMPARE, "A blue square.", True),
        (COMPARE, "The first is small, the second large: the red circle.", False),
    ],
)
def test_answers_are_judged_by_meaning(question, text, right):
    assert is_right(question, text) is right


@pytest.mark.parametrize("seed", range(60))
def test_questions_about_two_pictures_have_the_right_answer(seed):
    scenes = SCENES[seed], SCENES[seed + 100]
    for question in questions_about_two(*scenes, seed):
        if question.kind == "content":
            shown = scenes["second" in question.question]
            assert question.answer == caption(shown, "short")
        else:
            first, second = fact(question).removeprefix("the first has ").split(", the second ")
            has = [bool(chosen(scene, question.question)) for scene in scenes]
            for scene, told in zip(scenes, (first, second), strict=True):
                shape = chosen(scene, re.sub("|".join(COLOUR_WORDS), "", question.question))
                if told == "none":
                    assert not shape or not chosen(scene, question.question)
            assert said(question) == {(1, 0): "the first picture", (0, 1): "the second picture"}.get(
                tuple(has), "both pictures"
            )
