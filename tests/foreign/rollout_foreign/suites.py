"""The table of foreign suites: versions, where their tests are, which functions are decorated, and what is known to differ."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Known:
    """Tests that pass bare and do not pass decorated, and why that is right.

    Attributes:
        test: Node id of one test, or of all cases of a parametrised one.
        settings: Under which settings.
        reason: Why.
        sometimes: Whether it differs only in some runs, so that one in which it passes is right, too.
    """

    test: str
    settings: tuple[str, ...]
    reason: str
    sometimes: bool = False


@frozen(kw_only=True)
class Suite:
    """One library's tests.

    Attributes:
        project: Name and version at the package index.
        requirements: What its tests need beside it.
        archive: Whether tests are taken from its source archive; else from the installed package.
        tests: What pytest is to run, from the root of the archive.
        options: Further options of pytest.
        functions: Functions to decorate: "module:name" and "module:Class.name", with stars for public names.
        once: Likewise, those with effects, which must not run twice: on_error="raise" always, and never shadowed.
        given: Parameters ("module:function parameter") by which tests hand their own functions to the library: those functions
            are decorated.
        effects: Which of those note or count their runs, and tests look at it: they are not shadowed.
        bare: Functions that `functions` and `given` leave alone.
        short: Options of pytest for the selection of CI.
        known: Differences that are right.
    """

    project: str
    tests: tuple[str, ...]
    requirements: tuple[str, ...] = ()
    archive: bool = True
    options: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    once: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    effects: tuple[str, ...] = ("*",)
    bare: tuple[str, ...] = ()
    short: tuple[str, ...] = ()
    known: tuple[Known, ...] = ()

    @property
    def installed(self) -> tuple[str, ...]:
        """What pip has to install."""
        return (self.project, *self.requirements) if self.project else self.requirements

    def runs_under(self, setting: str) -> bool:
        """Whether a setting decorates anything here."""
        return setting != "shadow" or bool(self.functions) or "*" not in self.effects

    def is_steady_under(self, setting: str) -> bool:
        """Whether chance has no part in which tests differ, so that CI can rely on it."""
        return not any(each.sometimes and setting in each.settings for each in self.known)


SUITES: dict[str, Suite] = {
    "toolz": Suite(
        project="toolz==1.2.0",
        tests=("toolz/tests",),
        functions=("toolz.itertoolz:*", "toolz.dicttoolz:*", "toolz.recipes:*", "toolz.functoolz:*"),
    ),
    "asyncstdlib": Suite(
        project="asyncstdlib==3.14.0",
        tests=("unittests",),
        functions=("asyncstdlib.builtins:*", "asyncstdlib.itertools:*", "asyncstdlib.heapq:*", "asyncstdlib.asynctools:*"),
    ),
    "funcy": Suite(
        project="funcy==2.1",
        requirements=("whatever==0.7",),
        tests=("tests",),
        functions=(
            "funcy.calc:*",
            "funcy.colls:*",
            "funcy.funcs:*",
            "funcy.seqs:*",
            "funcy.strings:*",
            "funcy.tree:*",
            "funcy.types:*",
        ),
    ),
    "starlette": Suite(
        project="starlette==1.10.0",
        requirements=(
            "blockbuster==1.5.29",
            "httpx==0.28.1",
            "httpx2[zstd]==2.16.2",
            "itsdangerous==2.2.0",
            "jinja2==3.1.6",
            "python-multipart==0.0.34",
            "pyyaml==6.0.4",
            "trio==0.35.0",
        ),
        tests=("tests",),
        given=(
            "starlette.routing:Route.__init__ endpoint",
            "starlette.routing:WebSocketRoute.__init__ endpoint",
        ),
        effects=(),
    ),
    "fastapi": Suite(
        project="fastapi==0.165.0",
        requirements=(
            "a2wsgi==1.10.10",
            "dirty-equals==0.11",
            "email-validator==2.4.0",
            "flask==3.1.3",
            "httpx==0.28.1",
            "httpx2==2.16.2",
            "inline-snapshot==0.36.1",
            "itsdangerous==2.2.0",
            "jinja2==3.1.6",
            "pwdlib[argon2]==0.3.1",
            "pydantic-extra-types==2.11.1",
            "pydantic-settings==2.16.3",
            "pyjwt==2.15.1",
            "pytest-xdist==3.8.0",
            "python-multipart==0.0.34",
            "pyyaml==6.0.4",
            "sqlmodel==0.0.50",
            "strawberry-graphql==0.341.2",
            "trio==0.35.0",
            "typer==0.29.2",
        ),
        tests=("tests",),
        # Processes of their own, in which nothing is decorated, and which must be done within 15 s: a busy machine is not.
        options=tuple(
            f"--deselect=tests/test_telemetry/{test}"
            for test in (
                "test_background.py::test_background_task_integrations",
                "test_environment_integrations.py",
                "test_http.py::test_late_global_providers_enable_existing_app",
                "test_integrations.py::test_api_only_and_no_implicit_sdk_import",
                "test_integrations.py::test_current_",
                "test_integrations.py::test_logfire_global_provider_without_fastapi_instrumentor",
                "test_native_integrations.py",
                "test_runtime.py::test_real_otlp_export_and_repeated_lifespans",
                "test_runtime.py::test_no_implicit_export",
                "test_runtime.py::test_missing_sdk_warns_without_preventing_startup",
                "test_runtime.py::test_external_globals_are_unchanged_when_auto_configuration_is_disabled",
                "test_runtime.py::test_environment_export_initializes_after_fork",
                "test_runtime.py::test_real_otlp_exception_export_without_traces_or_metrics",
            )
        ),
        short=("-k", "depend or websocket or stream or upload or file or form"),
        given=(
            "fastapi.routing:APIRoute.__init__ endpoint",
            "fastapi.routing:APIWebSocketRoute.__init__ endpoint",
            "fastapi.params:Depends.__init__ dependency",
        ),
        effects=(
            "tests.test_concurrency:test_cancelled_request_closes_nested_sync_dependencies.*",
            "tests.test_dependency_cache:*",
            "tests.test_frontend:*",
            "tests.test_security_scopes:*",
            "tests.test_security_scopes_sub_dependency:*",
            "tests.test_telemetry.*:*",
        ),
        # These tests look a function up, or compare it, that they handed over: with the decorator in place they would have it.
        bare=(
            "docs_src.dependency_testing.*:*",
            "docs_src.settings.*:*",
            "tests.test_async_dependency_cleanup:*",
            "tests.test_dependency_concurrency:*",
            "tests.test_dependency_overrides:*",
            "tests.test_dependency_security_overrides:*",
            "tests.test_forms_multiple_models:*",
            "tests.test_forms_multiple_unions:*",
            "tests.test_forms_optional_models:*",
            "tests.test_frontend:*overrides*",
            "tests.test_multiple_parameter_models:*",
            "tests.test_query_optional_models:*",
            "tests.test_route_handler_wrapping:*overrides*",
            "tests.test_router_include_context:*",
            "tests.test_ws_router:*",
        ),
        known=tuple(
            Known(
                test=f"tests/test_telemetry/{test}",
                settings=("signals",),
                reason="The span that an endpoint finds current is ours of its run, a child of FastAPI's.",
            )
            for test in (
                "test_data.py::test_excluded_request_does_not_use_outer_telemetry",
                "test_http.py::test_base_http_middleware_preserves_context_and_route",
                "test_http.py::test_request_context_and_span_attributes",
                "test_operations.py::test_native_operations_and_worker_context",
            )
        ),
    ),
    "scikit-learn": Suite(
        project="scikit-learn==1.9.1",
        requirements=("pandas==3.1.1",),
        archive=False,
        options=("--timeout=300",),
        short=("-k", "test_naive_bayes or test_pipeline or test_base or test_perceptron or test_common"),
        tests=("--pyargs", "sklearn.tests.test_naive_bayes", "sklearn.tests.test_pipeline", "sklearn.linear_model"),
        functions=(
            "sklearn.linear_model._base:LinearModel.predict",
            "sklearn.linear_model._base:LinearModel._decision_function",
            "sklearn.linear_model._base:LinearClassifierMixin.decision_function",
            "sklearn.linear_model._base:LinearClassifierMixin.predict",
            "sklearn.linear_model._logistic:LogisticRegression.predict_proba",
            "sklearn.linear_model._logistic:LogisticRegression.predict_log_proba",
            "sklearn.naive_bayes:_BaseNB.predict",
            "sklearn.naive_bayes:_BaseNB.predict_joint_log_proba",
            "sklearn.naive_bayes:_BaseNB.predict_proba",
            "sklearn.naive_bayes:_BaseNB.predict_log_proba",
        ),
        once=(
            "sklearn.linear_model._base:LinearRegression.fit",
            "sklearn.linear_model._logistic:LogisticRegression.fit",
            "sklearn.linear_model._ridge:Ridge.fit",
            "sklearn.naive_bayes:GaussianNB.fit",
            "sklearn.naive_bayes:_BaseDiscreteNB.fit",
            "sklearn.pipeline:Pipeline.fit",
            "sklearn.pipeline:FeatureUnion.fit",
        ),
    ),
    "langchain-core": Suite(
        project="langchain-core==1.8.3",
        requirements=(
            "blockbuster==1.5.29",
            "freezegun==1.5.5",
            "grandalf==0.8",
            "numpy==2.4.6",
            "pytest-asyncio==1.5.0",
            "pytest-mock==3.17.0",
            "pytest-socket==0.8.1",
            "responses==0.26.3",
            "syrupy==7.0.2",
        ),
        tests=("tests/unit_tests/runnables",),
        given=(
            "langchain_core.runnables.base:RunnableLambda.__init__ func",
            "langchain_core.runnables.base:RunnableLambda.__init__ afunc",
            "langchain_core.runnables.base:RunnableGenerator.__init__ transform",
            "langchain_core.runnables.base:RunnableGenerator.__init__ atransform",
        ),
        functions=(
            "langchain_core.runnables.base:RunnableSequence.invoke",
            "langchain_core.runnables.base:RunnableSequence.ainvoke",
            "langchain_core.runnables.base:RunnableSequence.stream",
            "langchain_core.runnables.base:RunnableSequence.astream",
            "langchain_core.runnables.base:RunnableParallel.invoke",
            "langchain_core.runnables.base:RunnableParallel.ainvoke",
        ),
        known=tuple(
            Known(
                test=f"tests/unit_tests/runnables/{test}",
                settings=("shadow",),
                reason="What the chain calls counts its runs or runs out: a mock, a handler, a fake model, a counting parser.",
                sometimes=True,
            )
            for test in (
                "test_runnable.py::test_passthrough_tap_async",
                "test_runnable.py::test_closing_iterator_doesnt_raise_error",
                "test_runnable.py::test_streaming_a_long_tool_call_parses_its_args_in_linear_time",
                "test_runnable_events_v1.py::test_runnable_with_message_history",
                "test_runnable_events_v2.py::test_runnable_with_message_history",
            )
        ),
    ),
    "more-itertools": Suite(
        project="more-itertools==11.2.1",
        tests=("tests",),
        # Millions of calls of the functions that are decorated, ten seconds and a minute when bare.
        options=(
            "--timeout=300",
            "--deselect=tests/test_more.py::DiscreteFourierTransformTests::test_roundtrip",
            "--deselect=tests/test_recipes.py::PrimeFunctionTests::test_primes",
        ),
        short=("-k", "not (PrimeFunction or DiscreteFourier or ConcurrentTee or all_orderings or test_large or RunningMedian)"),
        functions=("more_itertools.more:*", "more_itertools.recipes:*"),
    ),
    "tenacity": Suite(
        project="tenacity==9.2.1",
        requirements=("tornado==6.6.1", "trio==0.35.0", "typeguard==4.6.1"),
        tests=("tests",),
        # Fails bare, too, on a busy machine: three steps of an event loop must take less than 1.1 ms.
        options=("--deselect=tests/test_asyncio.py::TestContextManager::test_sleeps",),
        functions=(
            "tenacity.wait:*.__call__",
            "tenacity.stop:*.__call__",
            "tenacity.retry:*.__call__",
            "tenacity._utils:*",
        ),
        once=("tenacity:Retrying.__call__", "tenacity.asyncio:AsyncRetrying.__call__"),
    ),
    "contextlib": Suite(
        project="",
        archive=False,
        tests=("--pyargs", "test.test_contextlib", "test.test_contextlib_async"),
        given=("contextlib:contextmanager func", "contextlib:asynccontextmanager func"),
    ),
}
