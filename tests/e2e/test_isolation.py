"""What one customer does, another does not feel."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TEXTS = ["the parcel is late again", "I was charged twice", "my account is locked", "the app shows an error screen"]


def test_answers_stay_bit_identical_while_the_other_customer_trains(deployment, tickets):
    acme, globex = deployment.customer("acme"), deployment.customer("globex")
    for customer in (acme, globex):
        customer.wait(customer.train(tickets, "tickets"), "succeeded", timeout_s=240)
    for watched, trained in ((acme, globex), (globex, acme)):
        before = watched.predict("tickets", TEXTS)
        job_id = trained.train_for_a_while("tickets")
        asked = 0
        while (job := trained.job(job_id))["status"] in ("queued", "running"):
            assert watched.predict("tickets", TEXTS) == before
            asked += 1
        assert job["status"] == "succeeded", job
        assert asked > 5
        assert watched.predict("tickets", TEXTS) == before
