"""A screened run to review, shared by all tests of this folder, the server of its page, and a browser."""

from collections.abc import Iterator

import pytest

from spinmeround.flows.review.server import ReviewBackend, open_review
from spinmeround.flows.run.folder import Place
from tests.e2e.review.screened_run import PROFILE, run_of, screen_all, serving
from tests.e2e.review.tab import LIMIT_MS
from tests.support.browser import launched
from tests.tasks.report.test_browser import DESKTOP


@pytest.fixture(scope="session")
def screened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewBackend]:
    """The review of a screened run, made once."""
    with run_of(PROFILE, Place(runs=str(tmp_path_factory.mktemp("screened")))) as session:
        screen_all(session)
        yield open_review(session, "spinmeround build --profile tiny")


@pytest.fixture
def backend(screened: ReviewBackend) -> ReviewBackend:
    """That review without any decision."""
    screened.session.decisions_file.unlink(missing_ok=True)
    return screened


@pytest.fixture(scope="session")
def port(screened: ReviewBackend) -> Iterator[int]:
    """Port of the server of its page."""
    with serving(screened) as port:
        yield port


@pytest.fixture(scope="module")
def browser() -> Iterator:
    # playwright's event loop counts as running as long as the browser lives, in which Prefect and other browsers fail
    with launched(timeout_ms=LIMIT_MS) as browser:
        yield browser


@pytest.fixture
def context(browser):
    """A browser profile without history."""
    context = browser.new_context(viewport=DESKTOP, accept_downloads=True)
    context.set_default_timeout(LIMIT_MS)
    yield context
    context.close()
