"""A page in the browser of the tests."""

import pytest

from tests.support.waiting import LIMIT_S

LIMIT_MS = 1000 * LIMIT_S


class Tab:
    """An open page and the errors of its scripts."""

    def __init__(self, context, address: str) -> None:
        self.errors: list[str] = []
        self.page = context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def wait(self, condition: str) -> None:
        """Poll until the expression is true: the page's security policy forbids Playwright's own waiting."""
        for _ in range(int(LIMIT_MS / 25)):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(25)
        pytest.fail(f"still false after {LIMIT_S} s: {condition}; {self.page.locator('#saved').inner_text()}")

    def saved(self) -> None:
        """Wait until all decisions are saved."""
        self.wait("localStorage.length === 0")

    def current(self) -> str:
        return self.page.locator('.row[aria-current="true"]').get_attribute("data-id").removeprefix("tiny-0000")

    def shown(self) -> list[str]:
        rows = self.page.evaluate(
            "[...document.querySelectorAll('.row')].map((row) => [row.offsetTop, row.dataset.id])"
        )
        return [name.removeprefix("tiny-0000") for _, name in sorted(rows)]
