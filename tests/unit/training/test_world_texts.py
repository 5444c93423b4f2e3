"""Captions, drawing prompts, the parser that reads them back, and the judge of captions."""

from itertools import pairwise

import pytest

from janus_core.inputs.prompting import CAPTION_STYLES
from janus_training.world.captions import caption, caption_question, judge_caption
from janus_training.world.compositions import compositions, is_held_out, relation_key
from janus_training.world.drawing_prompts import drawing_facts, drawing_prompt
from janus_training.world.facts import Facts, Mention, facts_of, only_names
from janus_training.world.parsing import caption_facts, normalise
from janus_training.world.passages import passage
from janus_training.world.phrases import listed, with_article
from janus_training.world.scene_sampling import sample_scene
from janus_training.world.vocabulary import OPPOSITE, STYLES
from janus_training.world.wrong_captions import foreign_phrase, near_phrase, phrase

SCENES = [sample_scene(seed, "test" if seed % 2 else "train") for seed in range(500)]
PAIR = next(scene for scene in SCENES if scene.relation == "above")
INSIDE = next(scene for scene in SCENES if scene.relation == "inside")


def red(count=1, shape="circle", **others):
    return Mention(count=count, colour="red", shape=shape, **others)


BLUE = Mention(count=1, colour="blue", shape="square")


# Captions


@pytest.mark.parametrize(
    ("seed", "style", "text"),
    [
        (0, "short", "A green diamond above a cyan diamond."),
        (
            0,
            "detailed",
            (
                "There is a small green diamond at the top right and a small cyan diamond at the bottom"
                " right. The green diamond is above the cyan diamond. The background is black."
            ),
        ),
        (0, "tags", "small green diamond, small cyan diamond, black background"),
        (0, "text", "There is no text in the picture."),
        (4, "short", "Three orange diamonds."),
        (4, "detailed", "There are three medium orange diamonds. The background is white."),
    ],
)
def test_captions_have_one_canonical_wording(seed, style, text):
    assert caption(sample_scene(seed), style) == text


def test_short_captions_read_back_as_their_scene():
    for scene in SCENES:
        facts = facts_of(scene)
        names = Facts(mentions=only_names(facts.mentions), relation=facts.relation)
        assert caption_facts(caption(scene, "short")) == names


def test_detailed_captions_read_back_as_all_facts():
    assert [caption_facts(caption(scene, "detailed")) for scene in SCENES] == list(map(facts_of, SCENES))


@pytest.mark.parametrize("style", STYLES)
def test_a_caption_of_its_own_scene_is_exact(style):
    verdicts = [judge_caption(caption(scene, style), scene, style) for scene in SCENES]
    assert all(verdict.is_exact and verdict.details for verdict in verdicts)


@pytest.mark.parametrize("style", ["short", "detailed", "tags"])
def test_a_caption_of_another_scene_is_not_exact(style):
    others = [
        (scene, other)
        for scene, other in pairwise(SCENES)
        if facts_of(scene).counts() != facts_of(other).counts()
    ]
    assert not any(judge_caption(caption(other, style), scene, style).is_exact for scene, other in others)


@pytest.mark.parametrize("style", STYLES)
def test_requests_use_the_very_instruction_about_half_the_time(style):
    asked = [caption_question(PAIR, style, seed, CAPTION_STYLES[style]).question for seed in range(200)]
    assert 70 < asked.count(CAPTION_STYLES[style]) < 130
    assert len(set(asked)) >= 4


# Judging


@pytest.mark.parametrize(
    ("text", "things", "relation", "details"),
    [
        ("A {a} above a {b}.", True, True, True),
        ("a {b} below a {a}", True, True, True),
        ("A {a} below a {b}.", True, False, True),
        ("A {a} left of a {b}.", True, False, True),
        ("A {a} and a {b}.", True, False, True),
        ("A {a} above a {b} on a {ground} background", True, True, True),
        ("A {a} above a {b} on a {wrong} background", True, True, False),
        ("Two {a}s above a {b}.", False, False, False),
        ("A {a}.", False, False, False),
        ("A {a} above a {b} and so on.", False, False, False),
        ("", False, False, False),
    ],
)
def test_verdicts_name_what_is_wrong(text, things, relation, details):
    a, b = (f"{thing.colour} {thing.shape}" for thing in PAIR.things)
    wrong = "black" if PAIR.ground.colour != "black" else "white"
    verdict = judge_caption(text.format(a=a, b=b, ground=PAIR.ground.colour, wrong=wrong), PAIR, "short")
    assert (verdict.things, verdict.relation, verdict.details) == (things, relation, details)


def test_tags_need_no_relation():
    tags = caption(INSIDE, "tags")
    assert judge_caption(tags, INSIDE, "tags").is_exact
    assert not judge_caption(tags, INSIDE, "short").is_exact


# Parser


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("a red circle", Facts(mentions=(red(),))),
        ("Draw a red circle.", Facts(mentions=(red(),))),
        ("red circle", Facts(mentions=(red(),))),
        ("can you draw a picture of three red crosses, please?", Facts(mentions=(red(3, "cross"),))),
        ("2 big red circles", Facts(mentions=(red(2, size="large"),))),
        ("a red circle in the center", Facts(mentions=(red(place="centre"),))),
        ("a red circle over a blue square", Facts(mentions=(red(), BLUE), relation="above")),
        ("a red circle to the left of a blue square", Facts(mentions=(red(), BLUE), relation="left of")),
        ("a red circle in a blue square", Facts(mentions=(red(), BLUE), relation="inside")),
        ("a blue square with a red circle inside", Facts(mentions=(red(), BLUE), relation="inside")),
        ("a red circle on the left", Facts(mentions=(red(place="left"),))),
        ("a red circle on a gray background", Facts(mentions=(red(),), ground="grey")),
        ("red circle, blue square, white background", Facts(mentions=(red(), BLUE), ground="white")),
        ("two red circles, a red star and a blue square", Facts(mentions=(red(2), red(1, "star"), BLUE))),
    ],
)
def test_the_parser_reads_wordings(text, facts):
    assert caption_facts(text) == facts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "a circle",
        "red circles",
        "a red red circle",
        "a red circle above",
        "a red circle above a blue square above a green star",
        "a red circle and",
        "a red circle. The background is white. The background is black.",
        "a red circle. The blue square is above the red circle.",
        "a mauve circle",
        "a red circle blue",
    ],
)
def test_the_parser_refuses_what_it_does_not_fully_understand(text):
    assert caption_facts(text) is None


def test_normalising_ignores_case_blanks_and_spelling():
    assert normalise("  What  COLOR is it? ") == "what colour is it"


# Drawing prompts


@pytest.mark.parametrize("stated", [None, "size", "place"])
def test_drawing_prompts_read_back_as_their_facts(stated):
    for seed, scene in enumerate(SCENES):
        facts = caption_facts(drawing_prompt(scene, seed, stated=stated))
        assert facts is not None
        assert facts.turned() == drawing_facts(scene, seed, stated=stated).turned()


def test_drawing_prompts_are_varied():
    assert len({drawing_prompt(PAIR, seed) for seed in range(200)}) > 100


def test_sizes_and_places_are_stated_where_asked_for():
    single = next(scene for scene in SCENES if scene.kind == "single")
    for seed in range(40):
        assert all(mention.size for mention in drawing_facts(PAIR, seed, stated="size").mentions)
        assert all(mention.place for mention in drawing_facts(single, seed, stated="place").mentions)
    bare = [drawing_facts(single, seed).mentions[0] for seed in range(40)]
    assert (
        {mention.size is None for mention in bare}
        == {mention.place is None for mention in bare}
        == {True, False}
    )


# Pieces


@pytest.mark.parametrize(
    ("phrases", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_lists_read_as_english(phrases, text):
    assert listed(phrases) == text


@pytest.mark.parametrize(("noun", "phrase"), [("orange star", "an orange star"), ("red star", "a red star")])
def test_articles_fit_the_noun(noun, phrase):
    assert with_article(noun) == phrase


# Passages


def test_a_seed_always_gives_the_same_passage():
    assert [passage(seed) for seed in range(50)] == [passage(seed) for seed in range(50)]


def test_passages_are_complete_sentences():
    answers = [passage(seed).answer for seed in range(300)]
    assert all(answers)
    assert len(set(answers)) > 100


def test_passages_tell_no_held_out_relation():
    told = [caption_facts(passage(seed).answer) for seed in range(400)]
    related = [facts for facts in told if facts is not None and facts.relation is not None]
    keys = [relation_key(facts.mentions[0].sort, facts.relation, facts.mentions[1].sort) for facts in related]
    assert len(keys) > 20
    assert not any(map(is_held_out, keys))


def test_relations_of_scenes_are_among_their_compositions():
    facts = facts_of(PAIR)
    key = relation_key(facts.mentions[0].sort, facts.relation, facts.mentions[1].sort)
    assert key in compositions(PAIR)


# Wrong captions


def changed_parts(true, stated):
    """Return what a stated phrase has otherwise than the true facts."""
    if true.relation != stated.relation:
        return ["relation"]
    if true.relation is not None and stated.mentions == true.mentions[::-1]:
        return ["order"]
    return [
        part
        for one, other in zip(true.mentions, stated.mentions, strict=True)
        for part in ("count", "colour", "shape")
        if getattr(one, part) != getattr(other, part)
    ]


def test_a_near_caption_changes_one_attribute_and_does_not_hold():
    seen = set()
    for seed, scene in enumerate(SCENES):
        true, stated = caption_facts(phrase(scene)), caption_facts(near_phrase(scene, seed))
        [part] = changed_parts(true, stated)
        seen.add(part)
        if part == "relation":
            assert stated.relation == OPPOSITE[true.relation]
        elif part == "order":
            assert true.relation == "inside"
        else:
            [wrong] = [one for one in stated.mentions if one not in true.mentions]
            assert wrong.count > true.counts()[wrong.sort]
    assert seen == {"count", "colour", "shape", "relation", "order"}


def test_a_foreign_caption_names_what_a_scene_lacks():
    for seed, scene in enumerate(SCENES[:100]):
        stated = caption_facts(foreign_phrase(scene, seed))
        assert any(mention.sort not in facts_of(scene).counts() for mention in stated.mentions)


def test_wrong_captions_are_the_same_each_time():
    assert near_phrase(PAIR, 3) == near_phrase(PAIR, 3)
    assert len({near_phrase(PAIR, seed) for seed in range(20)}) > 5
