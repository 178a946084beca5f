"""What the trust checks of an interleaved test say: their words, their minimum, and their evidence."""

import pytest

from rollout_sdk.interleaving import Balanced, InterleavingAnalyzer, Optimized, PairwisePreference, Probabilistic, TeamDraft

A, B = list(range(10)), [3, 0, 7, 1, 9, 2, 12, 4, 11, 5]


def pages(number, *, design=TeamDraft(), first=None):
    """Lists of A and B; of those, if asked, on which one ranker placed the first item that counts."""
    found, seed = [], 0
    while len(found) < number:
        page = design.merge({"control": A, "v2": B}, seed=f"page {seed}")
        seed += 1
        if first is None or next(slot.team for slot in page.slots if slot.team) == first:
            found.append(page)
    return found


def checks(shown, *, users=10**6, clicked=True, **options):
    """The checks by name, after these lists were shown to so many users who click the top or nothing."""
    analyzer = InterleavingAnalyzer(**options)
    for number, page in enumerate(shown):
        analyzer.add(f"user-{number % users}", page, {page.keys[0]: 1.0} if clicked else {})
    return {check.name: check for check in analyzer.result(bootstrap=False).checks}


@pytest.mark.parametrize(
    ("design", "placed"),
    [(TeamDraft(), True), (Balanced(), True), (PairwisePreference(), True), (Probabilistic(), False), (Optimized(), False)],
    ids=repr,
)
def test_a_check_names_what_it_counts(design, placed):
    (first,) = [check.what for name, check in checks(pages(20, design=design)).items() if name == "first"]
    assert placed == ("placed" in first or "the first to place" in first)
    assert placed != (first == "the same at the first position that counts")


def test_merged_lists_keep_the_words_of_their_design():
    whole, rest = InterleavingAnalyzer(), InterleavingAnalyzer()
    for page in pages(20, design=Probabilistic()):
        rest.add("user", page, {})
    whole.merge(rest)
    assert whole.result() == rest.result()


def test_sound_checks_have_no_evidence_of_too_few():
    found = checks(pages(300))
    assert [0.0, 0.0] == [found[name].log_e for name in ("clicks", "competitive")]
    assert [0.0, 0.0] == [check.log_e for name, check in checks(pages(5)).items() if name in ("clicks", "competitive")]


@pytest.mark.parametrize(("users", "known"), [(8, False), (99, False), (100, True)])
def test_lists_of_too_few_units_are_no_evidence_in_any_check(users, known):
    found = checks(pages(users, first="v2") * 4, users=users, clicked=False, least_clicked=0.5, least_competitive=0.99)
    assert (found["first"].observed, found["first"].expected) == (4 * users, 0)
    assert known == (found["first"].log_e > 0) == (found["clicks"].log_e > 0)
    assert known or {0.0} == {check.log_e for check in found.values()}


def test_by_default_one_list_in_a_thousand_is_clicked_and_one_position_in_a_hundred_counts():
    found = checks(pages(1000))
    assert [1.0, 10.0] == [pytest.approx(found[name].expected) for name in ("clicks", "competitive")]


def test_the_checks_are_most_sensitive_to_the_difference_asked_for():
    # 60 % of the lists begin with the candidate: a preference of 0.1, as mde counts.
    shown = [page for pair in zip(pages(300, first="v2"), pages(300, first="control"), strict=True) for page in pair]
    shown += pages(420, first="v2")[300:]
    evidence = {mde: checks(shown, mde=mde)["first"].log_e for mde in (0.002, 0.02, 0.1, 0.45)}
    assert max(evidence, key=evidence.get) == 0.1
