"""The report in headless Chromium: what a reader sees and can do."""

import re

import pytest

from tspo_trl.viewer import write_report

from ..analysis.lines import file_of, plain
from .credited import credited, failure, near_miss, success

GREEN, ORANGE = "var(--positive)", "var(--negative)"


@pytest.fixture
def run_lines():
    """Three steps: an all-wrong group with a near miss, one without signal, and a mixed one."""
    still = [
        credited((None, None, 0.0, 0.0), group=1, question="Longest river?", golden_answers=["Nile"], outcome=0.0)
    ]
    return [
        {"step": step, **line}
        for step in (1, 2, 3)
        for line in (near_miss(group=0), failure(group=0), *still, *still, success(group=2), near_miss(group=2))
    ]


def texts(page, selector):
    return page.locator(selector).all_inner_texts()


# Overview


def test_overview_shows_curve_kinds_and_signal(open_report, run_lines):
    page = open_report(*run_lines)
    assert texts(page, "h1") == ["A run"]
    assert texts(page, "figcaption") == [
        "Mean outcome reward",
        "Kinds of trajectory",
        "Share of groups",
        "Turns and searches per rollout",
    ]
    assert page.locator("figure svg .line").count() == 6
    assert "18 trajectories in 9 groups" in page.inner_text("main")


def test_overview_tells_each_step_in_numbers(open_report, run_lines):
    page = open_report(*run_lines)
    # 1 of 6 is right, 2 of 6 are near misses; 2 of 3 groups are all wrong; GRPO learns only from group 2.
    assert page.locator("#steps tbody tr").first.inner_text().split("\t") == [
        "training, step 1", "6", "0.167", "50.0%", "33.3%", "16.7%", "0.0%", "66.7%", "66.7%", "33.3%", "2.17", "1.17",
    ]  # fmt: skip


def test_a_step_in_a_chart_opens_its_groups(open_report, run_lines):
    page = open_report(*run_lines)
    page.locator("figure svg .step-target").nth(1).click()
    page.wait_for_selector("#rows")
    assert texts(page, "#count") == ["3 groups"]
    assert page.locator("#rows .row").first.inner_text().startswith("training, step 2")


def test_a_file_without_steps_has_an_overview_too(open_report):
    page = open_report(plain(["Paris", None]), plain([None], question="Why?"))
    assert page.locator("figure").count() == 0
    assert texts(page, ".card .value")[:2] == ["0.000", "50.0%"]


def test_runs_side_by_side_share_the_learning_curve(new_page, tmp_path):
    for run, line in (("a", failure), ("b", success)):
        for step in (1, 2):
            (tmp_path / run).mkdir(exist_ok=True)
            file_of(tmp_path / run, line(step=step, group=0), name=f"step_{step:06d}.jsonl")
    path = write_report([tmp_path / "a", tmp_path / "b"], tmp_path / "report.html")
    page = new_page(path.as_uri())
    assert texts(page, "figure:first-child .legend > span") == ["a: training", "b: training"]
    assert texts(page, "figcaption") == [
        "Mean outcome reward", "Kinds of trajectory: a: training", "Share of groups: a: training",
        "Turns and searches per rollout: a: training",
        "Kinds of trajectory: b: training", "Share of groups: b: training",
        "Turns and searches per rollout: b: training",
    ]  # fmt: skip


# List of groups


@pytest.mark.parametrize(
    ("choose", "expected"),
    [
        (lambda page: page.get_by_label("all wrong").check(), 6),
        (lambda page: page.get_by_label("with a near miss").check(), 6),
        (lambda page: page.get_by_label("without signal").check(), 3),
        (lambda page: page.get_by_label("step").select_option("2"), 3),
        (lambda page: page.get_by_role("searchbox").fill("RIVER longest"), 3),
        (lambda page: page.get_by_role("searchbox").fill("nile"), 3),
        (lambda page: page.get_by_role("searchbox").fill("no such question"), 0),
    ],
)
def test_a_filter_leaves_the_groups_it_names(open_report, run_lines, choose, expected):
    page = open_report(*run_lines, address="#/groups")
    assert page.locator("#rows .row").count() == 9
    choose(page)
    assert page.locator("#rows .row").count() == expected
    assert texts(page, "#count") == [f"{expected} group{'' if expected == 1 else 's'}"]


def test_a_row_says_what_kind_of_group_it_is(open_report, run_lines):
    page = open_report(*run_lines, plain([None], question="Alone?"), address="#/groups")
    tags = [row.locator(".tag").all_inner_texts() for row in page.locator("#rows .row").all()[:4]]
    assert tags == [[], ["all wrong"], ["all wrong", "no signal"], []]
    squares = [row.locator(".dot").all_inner_texts() for row in page.locator("#rows .row").all()[:4]]
    assert squares == [["·"], ["1", "·"], ["·", "·"], ["0", "1"]]


def test_filters_stand_in_the_address_and_outlive_a_visit_to_a_group(open_report, run_lines):
    page = open_report(*run_lines, address="#/groups?step=2&all_wrong=1")
    assert page.locator("#rows .row").count() == 2
    page.locator("#rows .row").first.click()
    page.wait_for_selector("#columns")
    page.go_back()
    page.wait_for_selector("#rows")
    assert page.locator("#rows .row").count() == 2
    assert page.get_by_label("all wrong").is_checked()


def test_next_and_previous_go_through_the_filtered_groups(open_report, run_lines):
    page = open_report(*run_lines, address="#/groups?step=2")
    page.locator("#rows .row").first.click()
    steps = []
    for _ in range(3):
        page.wait_for_selector("#columns")
        steps.append(page.locator("p.quiet").first.inner_text())
        if page.locator("#next").is_enabled():
            page.locator("#next").click()
    assert steps == ["training, step 2"] * 3
    assert page.locator("#next").is_disabled()


def test_a_long_list_is_shown_in_parts(open_report):
    lines = [failure(step=1, group=i, question=f"Question {i}?") for i in range(250)]
    page = open_report(*lines, address="#/groups")
    assert page.locator("#rows .row").count() == 100
    page.locator("#more").click()
    page.locator("#more").click()
    assert page.locator("#rows .row").count() == 250
    assert not page.locator("#more").is_visible()


# A group, and a rollout


def test_a_group_stands_side_by_side_with_the_credit_of_each_turn(open_report):
    page = open_report(near_miss(group=0, step=1), failure(group=0, step=1), address="#/group/0")
    assert page.locator(".column").count() == 2
    credit = [text.split("\n") for text in texts(page, ".column:first-child .credit")]
    assert credit == [
        ["turn 0", "reward 0.00", "0.00"], ["turn 1", "reward 0.50", "+0.70"], ["turn 2", "reward 0.00", "0.00"],
    ]  # fmt: skip
    assert "\u22120.70" in page.locator(".column").nth(1).inner_text()
    boxes = [page.locator(".column").nth(i).bounding_box() for i in (0, 1)]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] < boxes[1]["x"]


def test_advantage_is_a_colour_as_well(open_report):
    page = open_report(near_miss(group=0), failure(group=0), address="#/group/0")
    edges = page.locator(".cell").evaluate_all(
        "cells => cells.map(cell => cell.style.getPropertyValue('--credit-edge'))"
    )
    assert edges == ["", GREEN, "", "", ORANGE, ""]


def test_a_rollout_is_shown_turn_by_turn(open_report):
    page = open_report(near_miss(group=0, step=1), address="#/group/0/rollout/0")
    first, second, last = texts(page, ".turn")
    assert "reward 0.00" in first
    assert "<search> capital </search>" in second
    assert re.search(r"Query\s+capital", second)
    assert "advantage +0.70" in second
    assert "<answer> London </answer>" in last
    assert "It gave an answer." in page.inner_text("#end")
    assert "Answer: London" in page.inner_text("#end")


def test_first_occurrence_and_gold_answer_are_marked(open_report):
    page = open_report(near_miss(group=0), address="#/group/0/rollout/0")
    assert texts(page, "mark") == ["Paris."]
    assert page.locator(".turn").nth(1).locator("mark").count() == 1
    assert texts(page, ".turn .tag.first") == ["first occurrence"]
    assert page.locator(".turn").nth(1).locator(".tag.first").count() == 1


def test_credit_that_the_file_lacks_is_said_to_be_computed(open_report):
    page = open_report(plain(["Paris", None]), address="#/group/0/rollout/0")
    assert "The file records no advantages." in page.inner_text("main")
    assert "advantage \u2013" in texts(page, ".turn header")[0]


@pytest.mark.parametrize(
    ("reason", "explanation"),
    [
        ("max_turns", "searched in its last turn"),
        ("max_length", "ran out of tokens"),
        ("search_failed", "search failed"),
    ],
)
def test_the_end_is_explained(open_report, reason, explanation):
    page = open_report(near_miss(end_reason=reason), address="#/group/0/rollout/0")
    assert explanation in page.inner_text("#end")


def test_an_address_that_names_nothing_is_the_overview(open_report):
    for address in ("#/group/7", "#/group/0/rollout/9", "#/nowhere", "#/group/x"):
        assert open_report(near_miss(), address=address).locator("#steps").count() == 1


# Untrusted text


HOSTILE = (
    "<img src=x onerror=alert(1)><script>alert(2)</script></script><!--<script>&lt;b&gt; \u2028 \x1b[31m \ud800 ${1} `"
)


@pytest.mark.parametrize("address", ["", "#/groups", "#/group/0", "#/group/0/rollout/0"])
def test_text_with_html_and_script_renders_as_text(open_report, address):
    turns = ((HOSTILE, f"Doc 1(Title: {HOSTILE}) {HOSTILE}", 0.0, 1.0), (None, None, 0.0, 0.0))
    texts_of_line = {"question": HOSTILE, "golden_answers": [HOSTILE], "prediction": HOSTILE, "end_reason": HOSTILE}
    page = open_report(credited(*turns, outcome=0.0, **texts_of_line), address=address)
    assert page.locator("main img, main script").count() == 0
    assert page.evaluate("document.scripts.length") == 2
    if address:
        assert "<img src=x onerror=alert(1)><script>alert(2)</script>" in page.inner_text("main")


def test_a_hostile_address_and_title_render_as_text(new_page, tmp_path):
    path = write_report(file_of(tmp_path, near_miss()), tmp_path / "r.html", title="</title><script>alert(1)</script>")
    page = new_page(path.as_uri() + "#/groups?text=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert page.title() == "</title><script>alert(1)</script>"
    assert page.get_by_role("searchbox").input_value() == '"><script>alert(1)</script>'


def test_the_policy_of_the_page_lets_no_other_script_run(browser, tmp_path):
    path = write_report(file_of(tmp_path, near_miss()), tmp_path / "report.html")
    page = browser.new_page()
    page.goto(path.as_uri())
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
        }"""
    )
    assert page.evaluate("window.ran") is None
    page.close()


# Keys, theme, phone


def test_keys_go_through_all_pages(open_report, run_lines):
    page = open_report(*run_lines)
    page.keyboard.press("g")
    page.wait_for_selector("#rows")
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.matches('#rows li:nth-child(2) .row')")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    page.wait_for_selector("#columns")
    page.keyboard.press("n")
    page.wait_for_url(re.compile(r"#/group/1$"))
    page.keyboard.press("p")
    page.wait_for_url(re.compile(r"#/group/0$"))
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector("#turns")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.matches('.turn:first-child')")
    page.keyboard.press("n")
    page.wait_for_url(re.compile(r"rollout/1$"))
    page.keyboard.press("u")
    page.wait_for_selector("#columns")
    page.keyboard.press("Escape")
    page.wait_for_selector("#rows")
    page.keyboard.press("o")
    page.wait_for_selector("#steps")


def test_slash_searches_from_anywhere_and_keys_in_the_field_are_text(open_report, run_lines):
    page = open_report(*run_lines)
    page.keyboard.press("/")
    page.keyboard.type("longest")
    assert page.get_by_role("searchbox").input_value() == "longest"
    assert texts(page, "#count") == ["3 groups"]
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.matches('.row')")


def test_j_goes_on_past_what_is_shown(open_report):
    page = open_report(*(failure(step=1, group=i, question=f"Question {i}?") for i in range(101)), address="#/groups")
    page.locator("#rows .row").nth(99).focus()
    page.keyboard.press("j")
    assert "Question 100?" in page.evaluate("document.activeElement.innerText")


def test_question_mark_lists_the_keys(open_report):
    page = open_report(near_miss())
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_theme_is_the_systems_until_it_is_switched(open_report, scheme, is_dark):
    page = open_report(near_miss(), color_scheme=scheme)

    def brightness():
        return page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")

    assert (brightness() < 100) == is_dark
    page.keyboard.press("t")
    assert (brightness() < 100) != is_dark
    page.reload()
    assert (brightness() < 100) != is_dark


@pytest.mark.parametrize("address", ["", "#/groups", "#/group/0", "#/group/0/rollout/0"])
def test_nothing_is_wider_than_a_phone(open_report, address):
    lines = [near_miss(group=0, step=1, question="x" * 300), failure(group=0, step=1, question="x" * 300)] * 4
    page = open_report(*lines, near_miss(group=0, step=2), address=address, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_rollouts_of_a_group_stand_below_each_other_on_a_phone(open_report):
    page = open_report(
        near_miss(group=0), failure(group=0), address="#/group/0", viewport={"width": 360, "height": 740}
    )
    boxes = [page.locator(".column").nth(i).bounding_box() for i in (0, 1)]
    assert boxes[0]["x"] == boxes[1]["x"]
    assert boxes[0]["y"] < boxes[1]["y"]
