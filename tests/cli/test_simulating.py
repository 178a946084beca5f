"""The command that says how many lists a test would take."""

import json

import pytest
from click.testing import CliRunner

from rollout_sdk.cli import main
from rollout_sdk.interleaving import CascadeClicks, PositionClicks, Query, TeamDraft, simulate_ab, simulate_interleaving

LINES = [
    {"rankings": {"legacy": ["a", "b", "c", "d"], "v2": ["c", "a", "e", "b"]}, "grades": {"c": 4, "e": 2, "a": 1}},
    {"rankings": {"legacy": ["x", "y"], "v2": ["y", "x"]}, "grades": {"y": 3}},
]


@pytest.fixture
def queries(tmp_path):
    path = tmp_path / "queries.jsonl"
    path.write_text("\n".join(map(json.dumps, LINES)) + "\n\n")
    return path


def asked(*arguments):
    return CliRunner().invoke(main, ["simulate", "interleaving", *map(str, arguments)])


def test_it_says_what_the_functions_say(queries):
    result = asked(queries, "--users", "navigational", "--impressions", 2000, "--seed", 3, "-k", 4, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)["users"]["navigational"]
    made = [Query(line["rankings"], line["grades"]) for line in LINES]
    users = CascadeClicks.navigational()
    found = simulate_interleaving(made, TeamDraft(), users, impressions=2000, k=4, seed=3).preference
    assert (found.needed(), found.z) == (told["team-draft"]["lists"], told["team-draft"]["z"])
    best = max(simulate_ab(made, users, k=4).items(), key=lambda item: abs(item[1].z))
    assert told[f"A/B test by {best[0]}"]["lists"] == best[1].needed()


def test_users_who_look_at_each_position_by_itself(queries):
    arguments = "--users", "navigational", "--impressions", 1000, "-k", 4, "--model", "position", "--design", "pairs", "--json"
    told = json.loads(asked(queries, *arguments).stdout)["users"]["navigational"]
    made = [Query(line["rankings"], line["grades"]) for line in LINES]
    found = simulate_interleaving(made, TeamDraft(coin="list"), PositionClicks.navigational(), impressions=1000, k=4)
    assert found.preference.z == told["pairs"]["z"]


def test_a_design_that_takes_more_lists_than_the_ab_test_is_said_to(tmp_path):
    # The best of what the candidate adds is last, where credit by rank makes little of it.
    path = tmp_path / "queries.jsonl"
    lines = [
        {"rankings": {"legacy": list("abcde"), "v2": list("bcafg")}, "grades": {"b": 3, "f": 2}},
        {"rankings": {"legacy": list("xyz"), "v2": list("yxw")}, "grades": {"x": 1, "w": 4}},
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    arguments = path, "--users", "perfect", "--design", "optimized", "-k", 5
    base, found = json.loads(asked(*arguments, "--json").stdout)["users"]["perfect"].values()
    times = (base["z"] / found["z"]) ** 2
    assert times > 1
    assert f"({times:.1f}x as many)" in asked(*arguments).stdout


def test_it_reads_well(queries):
    result = asked(queries, "--impressions", 500, "--design", "team-draft", "--design", "balanced")
    assert result.exit_code == 0, result.output
    for part in (
        "2 queries.",
        "perfect users",
        "informational users",
        "team-draft",
        "balanced",
        "A/B test by",
        "v2",
        "x fewer)",
    ):
        assert part in result.stdout


def test_a_candidate_that_wins_every_list_takes_one(tmp_path):
    path = tmp_path / "wins.jsonl"
    path.write_text(json.dumps({"rankings": {"legacy": ["a", "b"], "v2": ["c", "d"]}, "grades": {"c": 4, "d": 4}}))
    arguments = path, "--users", "perfect", "-k", 2
    assert {"lists": 1, "z": None} == {
        name: json.loads(asked(*arguments, "--json").stdout)["users"]["perfect"]["team-draft"][name] for name in ("lists", "z")
    }
    assert "  1  v2" in asked(*arguments).stdout


def test_rankers_that_cannot_be_told_apart_get_no_number(tmp_path):
    path = tmp_path / "same.jsonl"
    path.write_text(json.dumps({"rankings": {"legacy": ["a"], "v2": ["a"]}, "grades": {"a": 4}}))
    result = asked(path, "--impressions", 100)
    assert result.exit_code == 0
    assert "unknown" in result.stdout


@pytest.mark.parametrize("line", ["[]", "{}", "nonsense", '{"rankings": {"a": 1}}', '{"rankings": {"a": ["x"]}}'])
def test_what_is_no_query_is_refused_with_an_example(tmp_path, line):
    path = tmp_path / "bad.jsonl"
    path.write_text(line)
    result = asked(path)
    assert result.exit_code == 1
    assert "is not a query" in result.output or "same two rankers" in result.output


def test_wrong_usage_is_two(queries):
    assert 2 == asked(queries, "--design", "guessing").exit_code
    assert 2 == asked("nowhere.jsonl").exit_code
