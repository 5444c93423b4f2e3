from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from janus_core import PromptError
from janus_core.inputs.prompting import (
    SYSTEM_TEXT,
    PromptPlan,
    TurnText,
    caption_request,
    plan_conversation,
    plan_drawing,
    unconditional,
)
from janus_core.inputs.text_tokenizer import (
    ASSISTANT,
    BEGIN_OF_IMAGE,
    BOS,
    END_OF_IMAGE,
    EOS,
    IMAGE_PLACEHOLDER,
    PAD,
    USER,
    TextTokenizer,
)

GOLDEN = Path(__file__).parents[2] / "parity" / "golden"
TAGS = (BOS, EOS, PAD, BEGIN_OF_IMAGE, END_OF_IMAGE, IMAGE_PLACEHOLDER, USER, ASSISTANT)
PICTURE = "[begin_of_image][image][image][end_of_image]"


def said(text: str, num_images: int = 0) -> TurnText:
    return TurnText(role="user", text=text, num_images=num_images)


def answered(text: str) -> TurnText:
    return TurnText(role="assistant", text=text)


def spell(plan: PromptPlan, tokenizer: TextTokenizer) -> str:
    """Write a plan as text, its control tokens in brackets."""
    names = {token: f"[{name}]" for name, token in vars(tokenizer.special).items() if token is not None}

    spelled, words = "", []
    for token in (*plan.token_ids, None):
        if token is not None and token not in names:
            words.append(token)
            continue
        spelled += tokenizer.decode(words) + ("" if token is None else names[token])
        words = []
    return spelled


def conversation(
    tokenizer: TextTokenizer, *turns: TurnText, system: str = "", old_roles: bool = False
) -> str:
    plan = plan_conversation(turns, tokenizer, image_tokens=2, system=system, old_roles=old_roles)
    return spell(plan, tokenizer)


@pytest.fixture(scope="session")
def plain_tokenizer() -> TextTokenizer:
    """Return a tokenizer like that of Janus-1.3B, without role tokens and without a placeholder."""
    path = GOLDEN / "janus-tiny-bin" / "tokenizer.json"
    definition: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    missing = (USER, ASSISTANT, IMAGE_PLACEHOLDER)
    kept = [token for token in definition["added_tokens"] if token["content"] not in missing]
    return TextTokenizer(json.dumps({**definition, "added_tokens": kept}), source="tokenizer.json")


# conversations


def test_a_question_is_written_in_the_template(tokenizer: TextTokenizer) -> None:
    assert conversation(tokenizer, said("Who?")) == "[bos][user]: Who?\n\n[assistant]:"


def test_the_system_text_comes_first(tokenizer: TextTokenizer) -> None:
    found = conversation(tokenizer, said("Who?"), system="Be brief.")
    assert found == "[bos]Be brief.\n\n[user]: Who?\n\n[assistant]:"


def test_the_default_system_text_is_the_trained_one(tokenizer: TextTokenizer) -> None:
    plan = plan_conversation([said("Who?")], tokenizer, image_tokens=2)
    assert spell(plan, tokenizer) == f"[bos]{SYSTEM_TEXT}\n\n[user]: Who?\n\n[assistant]:"


@pytest.mark.parametrize("system", ["", " ", "\n\n"])
def test_a_blank_system_text_leaves_nothing(tokenizer: TextTokenizer, system: str) -> None:
    assert conversation(tokenizer, said("Who?"), system=system) == "[bos][user]: Who?\n\n[assistant]:"


def test_turns_are_stripped(tokenizer: TextTokenizer) -> None:
    turns = (said(" \n Who?  "), answered("\tMe.\n"), said("  Why? "))
    expected = "[bos][user]: Who?\n\n[assistant]: Me.[eos][user]: Why?\n\n[assistant]:"
    assert conversation(tokenizer, *turns) == expected


def test_separators_go_by_position_and_not_by_role(tokenizer: TextTokenizer) -> None:
    turns = (said("One."), said("Two."), answered("Three."), said("Four?"), said("Five?"))
    expected = (
        "[bos][user]: One.\n\n[user]: Two.[eos][assistant]: Three.\n\n[user]: Four?[eos]"
        "[user]: Five?\n\n[assistant]:"
    )
    assert conversation(tokenizer, *turns) == expected


def test_an_empty_answer_leaves_its_role_alone(tokenizer: TextTokenizer) -> None:
    found = conversation(tokenizer, said("Who?"), answered(" "), said("Well?"))
    assert found == "[bos][user]: Who?\n\n[assistant]:[user]: Well?\n\n[assistant]:"


def test_there_is_exactly_one_bos(tokenizer: TextTokenizer) -> None:
    turns = [said(f"{BOS} Who? {BOS}"), answered(f"Me. {BOS}"), said("Why?")]
    plan = plan_conversation(turns, tokenizer, image_tokens=2, system=BOS)
    assert plan.token_ids.count(tokenizer.special.bos) == 1
    assert plan.token_ids[0] == tokenizer.special.bos


def test_text_between_control_tokens_is_encoded_in_one_go(plain_tokenizer: TextTokenizer) -> None:
    turns = [said("Who are you? "), answered("The picture."), said(" Why?")]
    plan = plan_conversation(turns, plain_tokenizer, image_tokens=2, system="Be brief.")
    special, encode = plain_tokenizer.special, plain_tokenizer.encode
    before = encode("Be brief.\n\nUser: Who are you?\n\nAssistant: The picture.")
    after = encode("User: Why?\n\nAssistant:")
    assert plan.token_ids == (special.bos, *before, special.eos, *after)


@pytest.mark.parametrize("tag", [tag for tag in TAGS if tag != IMAGE_PLACEHOLDER])
def test_a_tag_typed_in_a_question_stays_text(tokenizer: TextTokenizer, tag: str) -> None:
    found = conversation(tokenizer, said(f"What is {tag}?"))
    assert found == f"[bos][user]: What is {tag}?\n\n[assistant]:"


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_in_an_answer_or_the_system_text_stays_text(tokenizer: TextTokenizer, tag: str) -> None:
    found = conversation(tokenizer, said("Who?"), answered(f"a{tag}b"), said("Why?"), system=f"c{tag}d")
    expected = f"[bos]c{tag}d\n\n[user]: Who?\n\n[assistant]: a{tag}b[eos][user]: Why?\n\n[assistant]:"
    assert found == expected


# roles of different models


def test_an_unknown_role_is_refused_by_name(tokenizer: TextTokenizer) -> None:
    with pytest.raises(PromptError, match='role "bot"; use "user" or "assistant"'):
        conversation(tokenizer, said("Who?"), TurnText(role="bot", text="Me."), said("Why?"))  # type: ignore[arg-type]


def test_role_tokens_give_way_to_words_where_the_model_wants_them(tokenizer: TextTokenizer) -> None:
    found = conversation(tokenizer, said("Who?"), answered("Me."), said("Why?"), old_roles=True)
    assert found == "[bos]User: Who?\n\nAssistant: Me.[eos]User: Why?\n\nAssistant:"


def test_a_tokenizer_without_role_tokens_writes_words(plain_tokenizer: TextTokenizer) -> None:
    assert conversation(plain_tokenizer, said("Who?")) == "[bos]User: Who?\n\nAssistant:"


def test_a_drawing_prompt_uses_the_words_of_the_model(plain_tokenizer: TextTokenizer) -> None:
    found = spell(plan_drawing("a cat", plain_tokenizer), plain_tokenizer)
    assert found == "[bos]User: a cat\n\nAssistant:[begin_of_image]"


def test_pictures_work_without_a_placeholder_in_the_vocabulary(plain_tokenizer: TextTokenizer) -> None:
    assert plain_tokenizer.special.image == 405
    expected = f"[bos]User: {PICTURE}\nWho?\n\nAssistant:"
    assert conversation(plain_tokenizer, said("Who?", 1)) == expected


# pictures


def test_a_picture_without_a_mark_comes_first(tokenizer: TextTokenizer) -> None:
    expected = f"[bos][user]: {PICTURE}\nWho?\n\n[assistant]:"
    assert conversation(tokenizer, said("Who?", 1)) == expected


def test_pictures_without_marks_come_one_per_line(tokenizer: TextTokenizer) -> None:
    expected = f"[bos][user]: {PICTURE}\n{PICTURE}\n{PICTURE}\nWho?\n\n[assistant]:"
    assert conversation(tokenizer, said("Who?", 3)) == expected


def test_marks_place_the_pictures(tokenizer: TextTokenizer) -> None:
    question = f"Is {IMAGE_PLACEHOLDER} like {IMAGE_PLACEHOLDER}?"
    expected = f"[bos][user]: Is {PICTURE} like {PICTURE}?\n\n[assistant]:"
    assert conversation(tokenizer, said(question, 2)) == expected


def test_every_turn_has_its_own_pictures(tokenizer: TextTokenizer) -> None:
    turns = (said("Who?", 1), answered("Me."), said(f"And {IMAGE_PLACEHOLDER}?", 1))
    expected = f"[bos][user]: {PICTURE}\nWho?\n\n[assistant]: Me.[eos][user]: And {PICTURE}?\n\n[assistant]:"
    assert conversation(tokenizer, *turns) == expected


def test_an_earlier_turn_may_be_pictures_alone(tokenizer: TextTokenizer) -> None:
    found = conversation(tokenizer, said("", 2), answered("Nice."), said("Why?"))
    expected = f"[bos][user]: {PICTURE}\n{PICTURE}\n\n[assistant]: Nice.[eos][user]: Why?\n\n[assistant]:"
    assert found == expected


def test_image_features_stand_where_the_plan_says(tokenizer: TextTokenizer) -> None:
    plan = plan_conversation([said("Who?", 2)], tokenizer, image_tokens=3)
    image = tokenizer.special.image
    assert plan.is_image == tuple(token == image for token in plan.token_ids)
    assert sum(plan.is_image) == 6
    assert plan.num_images == 2


@pytest.mark.parametrize(("marks", "num_images"), [(1, 0), (1, 2), (2, 1), (3, 2), (2, 3)])
def test_marks_that_do_not_fit_the_pictures_state_both_counts(
    tokenizer: TextTokenizer, marks: int, num_images: int
) -> None:
    with pytest.raises(PromptError, match=rf"{marks} picture mark.* {num_images} picture"):
        conversation(tokenizer, said("Who? " + IMAGE_PLACEHOLDER * marks, num_images))


def test_marks_are_counted_turn_by_turn(tokenizer: TextTokenizer) -> None:
    with pytest.raises(PromptError, match=r"1 picture mark.* 0 pictures"):
        conversation(tokenizer, said("Who?", 1), answered("Me."), said(f"And {IMAGE_PLACEHOLDER}?"))


def test_an_answer_cannot_bring_pictures(tokenizer: TextTokenizer) -> None:
    turn = TurnText(role="assistant", text="Here.", num_images=2)
    with pytest.raises(PromptError, match=r"answer.* 2 pictures"):
        conversation(tokenizer, said("Who?"), turn, said("Why?"))


@pytest.mark.parametrize(
    "turns",
    [
        (),
        (said(""),),
        (said(" \n"),),
        (said("", 1),),
        (said(IMAGE_PLACEHOLDER, 1),),
        (said("Who?"), answered("Me.")),
    ],
    ids=["no turn", "empty", "blank", "picture alone", "mark alone", "nothing asked last"],
)
def test_an_empty_question_is_an_error(tokenizer: TextTokenizer, turns: tuple[TurnText, ...]) -> None:
    with pytest.raises(PromptError, match=r"The question is empty"):
        conversation(tokenizer, *turns)


# drawing prompts


def test_a_drawing_prompt_ends_with_begin_of_image(tokenizer: TextTokenizer) -> None:
    found = spell(plan_drawing("  a red house \n", tokenizer), tokenizer)
    assert found == "[bos][user]: a red house\n\n[assistant]:[begin_of_image]"


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_typed_in_a_drawing_prompt_stays_text(tokenizer: TextTokenizer, tag: str) -> None:
    found = spell(plan_drawing(f"a {tag} house", tokenizer), tokenizer)
    assert found == f"[bos][user]: a {tag} house\n\n[assistant]:[begin_of_image]"


def test_a_drawing_prompt_expects_no_picture(tokenizer: TextTokenizer) -> None:
    plan = plan_drawing(f"a {IMAGE_PLACEHOLDER}", tokenizer)
    assert not any(plan.is_image)
    assert plan.num_images == 0


def test_the_unconditional_row_is_padded_between_its_ends(tokenizer: TextTokenizer) -> None:
    plan = plan_drawing("a cat", tokenizer)
    special = tokenizer.special
    padding = (special.pad,) * (len(plan) - 2)
    assert unconditional(plan, tokenizer).token_ids == (special.bos, *padding, special.begin_of_image)


@pytest.mark.parametrize("prompt", ["", " ", "\n\t"])
def test_an_empty_drawing_prompt_is_its_own_unconditional_row(tokenizer: TextTokenizer, prompt: str) -> None:
    plan = plan_drawing(prompt, tokenizer)
    assert plan == unconditional(plan, tokenizer)


# what a caption asks


@pytest.mark.parametrize(
    ("style", "question", "asked"),
    [
        ("short", "", "Describe this image in one short sentence."),
        ("short", " ", "Describe this image in one short sentence."),
        ("short", "Which colours?", "Describe this image in one short sentence. Which colours?"),
        ("custom", "Which colours?", "Which colours?"),
        ("custom", "", ""),
    ],
)
def test_a_caption_asks_the_style_s_instruction_and_the_question(
    style: str, question: str, asked: str
) -> None:
    assert caption_request(style, question) == asked


def test_an_unknown_caption_style_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PromptError, match=r'no caption style "loud".* short, detailed, tags, text, custom\.'):
        caption_request("loud", "Which colours?")


# without the template


def raw(text: str, num_images: int = 0) -> TurnText:
    return TurnText(role="user", text=text, num_images=num_images, is_raw=True)


def test_a_raw_text_is_the_whole_prompt(tokenizer: TextTokenizer) -> None:
    assert conversation(tokenizer, raw(" A photo of "), system="Be brief.") == "[bos] A photo of "


def test_a_picture_stands_before_a_raw_text_or_at_its_mark(tokenizer: TextTokenizer) -> None:
    assert conversation(tokenizer, raw("It shows", 1)) == f"[bos]{PICTURE}It shows"
    assert conversation(tokenizer, raw(f"See {IMAGE_PLACEHOLDER}!", 1)) == f"[bos]See {PICTURE}!"


def test_role_tags_count_in_a_raw_text_and_other_control_tags_do_not(tokenizer: TextTokenizer) -> None:
    text = f"{USER}: Who?\n\n{ASSISTANT}: Me.{EOS}{BEGIN_OF_IMAGE}"
    expected = f"[bos][user]: Who?\n\n[assistant]: Me.[eos]{BEGIN_OF_IMAGE}"
    assert conversation(tokenizer, raw(text)) == expected


def test_a_raw_text_can_write_the_template_itself(tokenizer: TextTokenizer) -> None:
    templated = plan_conversation([said("Who?", 1)], tokenizer, image_tokens=2, system="")
    text = f"{USER}: {IMAGE_PLACEHOLDER}\nWho?\n\n{ASSISTANT}:"
    assert plan_conversation([raw(text, 1)], tokenizer, image_tokens=2) == templated


def test_role_tags_of_a_model_without_them_stay_text(plain_tokenizer: TextTokenizer) -> None:
    assert conversation(plain_tokenizer, raw(f"{USER}: Who?", 1)) == f"[bos]{PICTURE}{USER}: Who?"


def test_a_raw_text_stands_alone(tokenizer: TextTokenizer) -> None:
    with pytest.raises(PromptError, match="there are other turns beside it"):
        conversation(tokenizer, said("Who?"), answered("Me."), raw("Why?"))
