"""Inputs of other libraries: put back when a candidate fails, copied as they are, left alone where they are lazy or fixed."""

import asyncio
import io
import types

import pytest

from rollout_sdk import ABTest, Interleave, Shadow, rollout
from rollout_sdk.engine.copies.snapshot import take_snapshot


def served(control, candidate, runtime, strategy=ABTest(1.0), **options):
    return rollout(candidate=candidate, strategy=strategy, key="library", runtime=runtime, effects="read", **options)(control)


def changed(make, change, read, runtime):
    """What the control reads after a candidate that changed the input has failed, in place and on copies."""

    def fails(value):
        change(value)
        raise ValueError

    seen = []
    for strategy in (ABTest(1.0), Interleave()):
        value = make()
        served(lambda value: seen.append(read(value)) or [1], fails, runtime, strategy)(value)
        seen.append(read(value))
    return seen


def test_frames_of_pandas_are_put_back(runtime):
    pandas = pytest.importorskip("pandas", reason="needs pandas")

    def change(frame):
        frame.loc[0, "a"] = 9
        frame["c"] = 1

    found = changed(
        lambda: pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]}), change, lambda frame: frame.to_dict("list"), runtime
    )
    assert [{"a": [1, 2], "b": ["x", "y"]}] * 4 == found
    found = changed(lambda: pandas.Series([1.0, 2.0]), lambda row: row.__setitem__(0, 9.0), lambda row: row.tolist(), runtime)
    assert [[1.0, 2.0]] * 4 == found
    assert {} == runtime.faults


def test_frames_of_polars_are_put_back(runtime):
    polars = pytest.importorskip("polars", reason="needs polars")

    def change(frame):
        frame.insert_column(0, polars.Series("z", [1, 2]))

    found = changed(lambda: polars.DataFrame({"a": [1, 2]}), change, lambda frame: frame.to_dict(as_series=False), runtime)
    assert [{"a": [1, 2]}] * 4 == found
    assert {} == runtime.faults


def test_tensors_are_put_back_and_views_share_memory_with_copies_of_their_base(runtime):
    torch = pytest.importorskip("torch", reason="needs torch")
    found = changed(lambda: torch.zeros(4)[1:3], lambda tensor: tensor.fill_(1), lambda tensor: tensor.tolist(), runtime)
    assert [[0.0, 0.0]] * 4 == found
    base = torch.arange(4.0)
    (window, whole), _, _ = take_snapshot((base[1:3], base), {}, "auto", 0)
    window.fill_(9)
    assert ([0, 9, 9, 3], [0, 1, 2, 3]) == (whole.tolist(), base.tolist())
    assert {} == runtime.faults


def test_what_cannot_change_is_shared_with_shadows():
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    values = [
        pandas.Timestamp("2026-01-01"),
        pandas.NaT,
        pandas.NA,
        pandas.Timedelta(1),
        pandas.Index([1]),
        pandas.Interval(0, 1),
    ]
    if (arrow := _optional("pyarrow")) is not None:
        values += [arrow.table({"a": [1]}), arrow.array([1]), arrow.schema([("a", arrow.int64())])]
    if (torch := _optional("torch")) is not None:
        values += [torch.device("cpu"), torch.float32, torch.zeros(2).shape]
    copies, _, _ = take_snapshot(tuple(values), {}, "auto", 0)
    assert [True] * len(values) == [copy is value for copy, value in zip(copies, values, strict=True)]


def _optional(name):
    try:
        return __import__(name)
    except ImportError:
        return None


def test_sparse_matrices_are_kept_from_a_candidate_that_fails(runtime):
    sparse = pytest.importorskip("scipy.sparse", reason="needs scipy")
    make = lambda: sparse.csr_matrix([[1, 0], [0, 2]])
    found = changed(make, lambda matrix: matrix.data.fill(0), lambda matrix: matrix.toarray().tolist(), runtime)
    assert [[[1, 0], [0, 2]]] * 4 == found


def test_models_of_pydantic_are_put_back(runtime):
    pydantic = pytest.importorskip("pydantic", reason="needs pydantic")

    class Query(pydantic.BaseModel):
        words: list[int]
        _seen: list = pydantic.PrivateAttr(default_factory=list)

    def change(query):
        query.words.append(2)
        query._seen.append(1)

    assert [([1], [])] * 4 == changed(lambda: Query(words=[1]), change, lambda q: (list(q.words), list(q._seen)), runtime)


def test_an_endpoint_of_starlette_has_its_body_when_the_candidate_has_read_it_and_failed(runtime):
    requests = pytest.importorskip("starlette.requests", reason="needs starlette")
    uploads = pytest.importorskip("starlette.datastructures", reason="needs starlette")

    def request():
        parts = [{"type": "http.request", "body": b"image", "more_body": False}]

        async def receive():
            return parts.pop(0)

        return requests.Request({"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}, receive)

    async def reads(request):
        return b"".join([part async for part in request.stream()])

    async def fails(request):
        await reads(request)
        raise ValueError

    async def reads_upload(upload):
        return await upload["file"].read()

    async def fails_upload(upload):
        await upload["file"].read()
        raise ValueError

    assert b"image" == asyncio.run(served(reads, fails, runtime)(request()))
    upload = uploads.UploadFile(io.BytesIO(b"image"))
    both = rollout(candidate=fails_upload, strategy=ABTest(1.0), key="upload", runtime=runtime)(reads_upload)
    assert b"image" == asyncio.run(both({"file": upload}))
    assert {"one_shot"} == {event.decision.reason for event in runtime.routed()}


def test_a_request_of_django_whose_user_is_lazy_has_its_candidate_and_looks_nobody_up(runtime):
    django = pytest.importorskip("django", reason="needs django")
    from django.conf import settings
    from django.test import RequestFactory
    from django.utils.functional import SimpleLazyObject

    if not settings.configured:
        settings.configure()
    looked_up = []
    model = served(lambda request: "control", lambda request: "candidate", runtime)
    request = RequestFactory().get("/")
    request.user = SimpleLazyObject(lambda: looked_up.append(1) or types.SimpleNamespace(id=1))
    assert "candidate" == model(request)
    assert "candidate" == model(request.user)
    assert [] == looked_up
    assert "control" == model(RequestFactory().post("/", data=b"body", content_type="text/plain"))
    assert django.VERSION


def test_proxies_are_not_looked_through(runtime):
    wrapt = pytest.importorskip("wrapt", reason="needs wrapt")
    looked_up = []

    class Watched:
        def __getattr__(self, name):
            looked_up.append(name)
            raise AttributeError(name)

    proxy = wrapt.ObjectProxy(Watched())
    looked_up.clear()
    for strategy in (ABTest(1.0), Interleave(), Shadow(1.0)):
        rollout(candidate=lambda x: [1], strategy=strategy, effects="read", key=str(strategy), runtime=runtime)(lambda x: [1])(
            {"proxy": proxy}
        )
    runtime.flush()
    assert [] == looked_up
